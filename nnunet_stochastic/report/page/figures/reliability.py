"""Reliability diagrams: how often a statement made with some confidence is right (Fig. 3 of Christensen et al.,
Mixture of Bases).

``reliability_figure`` is of the predicted probabilities, all models together; ``confidence_figure`` of the confidences
that Platt scaling makes of AU, EU and TU, one model at a time.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.maps import MEASURES
from nnunet_stochastic.evaluation.tasks import CALIBRATION_ERROR
from nnunet_stochastic.metrics import reliability_curve
from nnunet_stochastic.report.names import as_label
from nnunet_stochastic.report.page.figures.style import MEASURE_STYLES, ModelStyle, add_model_legend

__all__ = ["confidence_figure", "reliability_figure"]

ALL_CLASSES = "all classes"


def reliability_figure(results: Sequence[EvaluatedRun], styles: Mapping[str, ModelStyle]) -> Figure | None:
    """Predicted class and foreground probabilities, on the ID set and on the voxels of all shifts together."""
    splits = [split for split in (ID, "OOD") if any(_names(result.reliability, split) for result in results)]
    if not splits:
        return None
    columns = [(split, kind) for split in splits for kind in ("predicted class", "foreground classes")]
    figure = Figure(figsize=(3.2 * len(columns), 4.7), layout="constrained")
    diagrams, histograms = figure.subplots(2, len(columns), sharex=True, height_ratios=[3, 1])
    for (split, kind), diagram, histogram in zip(columns, diagrams, histograms, strict=True):
        for result in results:
            sets = [result.reliability[name] for name in _names(result.reliability, split)]
            groups = [entry["raters"] if "raters" in entry else entry["reference"] for entry in sets]
            of_predicted = kind == "predicted class"
            bins = [entry for group in groups for name, entry in group.items() if (name == ALL_CLASSES) == of_predicted]
            if bins:
                line = styles[result.label].line()
                confidence, accuracy, count = reliability_curve(functools.reduce(operator.add, bins))
                diagram.plot(confidence, accuracy, **line)
                histogram.plot(confidence, count, **line)
        _diagonal(diagram)
        of_foreground = kind == "predicted class" and all(
            result.convention.foreground_calibration for result in results
        )
        diagram.set_title(f"{as_label(split)}, {'foreground' if of_foreground else kind}")
        of_class = of_foreground or kind == "foreground classes"
        diagram.set_ylabel("fraction of the class" if of_class else "fraction correct")
        histogram.set(yscale="log", xlabel="mean confidence in the bin")
        histogram.yaxis.set_minor_formatter(NullFormatter())
    histograms[0].set_ylabel("voxels")
    add_model_legend(figure, results, styles)
    return figure


def confidence_figure(result: EvaluatedRun) -> Figure | None:
    """Confidence made of AU, EU and TU against how often the prediction was right, ID and OOD."""
    splits = [split for split in (ID, "OOD") if _names(result.confidence, split)]
    if not splits:
        return None
    figure = Figure(figsize=(4.6 * len(splits) + 0.2, 4.0), layout="constrained")
    for ax, split in zip(figure.subplots(1, len(splits), squeeze=False)[0], splits, strict=True):
        sets = [result.confidence[name] for name in _names(result.confidence, split)]
        for measure in MEASURES:
            measured = [entry[measure] for entry in sets if measure in entry]
            if measured:
                error = result.task(CALIBRATION_ERROR.name, split, measure)
                name = result.measure_name(measure)
                text = name if error != error else f"{name}, ACE {error:.3f}"
                confidence, accuracy, _ = reliability_curve(functools.reduce(operator.add, measured))
                ax.plot(confidence, accuracy, label=text, markersize=4.5, **MEASURE_STYLES[measure])
        _diagonal(ax)
        ax.set(title=as_label(split), xlabel="confidence", ylabel="fraction of voxels predicted correctly")
        ax.legend(loc="upper left")
    return figure


def _names(sets: Mapping[str, object], split: str) -> list[str]:
    return [name for name, entry in sets.items() if entry and (name == ID) == (split == ID)]


def _diagonal(ax: Axes) -> None:
    ax.plot([0, 1], [0, 1], color="0.4", linewidth=1, linestyle="--", zorder=0)
    ax.set(xlim=(0, 1), ylim=(0, 1))
