"""Out-of-distribution detection of one model: image scores of the ID set beside those of each shift, and the ROC curves
(out-of-distribution = 1), a column per measure. The score is the aggregation that the evaluation used for OODD.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.maps import MEASURES
from nnunet_stochastic.evaluation.tasks import OUT_OF_DISTRIBUTION
from nnunet_stochastic.report.names import as_label
from nnunet_stochastic.report.page.figures.style import DASHES
from nnunet_stochastic.report.reliability import OKABE_ITO

__all__ = ["detection_figure"]

MOST_BINS = 30


def detection_figure(result: EvaluatedRun) -> Figure | None:
    """Histograms above, ROC curves below."""
    if OUT_OF_DISTRIBUTION.name not in result.summary["tasks"]:
        return None
    scores = {
        (measure, name): result.image_scores(name, measure).to_numpy() for measure in MEASURES for name in result.sets
    }
    shifts = [shift for shift in result.shifts if any(scores[measure, shift].size for measure in MEASURES)]
    known = {measure for measure in MEASURES if all(scores[measure, name].size for name in (ID, *shifts))}
    measures = [measure for measure in MEASURES if measure in known]
    if not shifts or not measures:
        return None
    figure = Figure(figsize=(3.5 * len(measures), 6.4), layout="constrained")
    histograms, curves = figure.subplots(2, len(measures), squeeze=False)
    for column, measure in enumerate(measures):
        sets = {name: scores[measure, name] for name in (ID, *shifts)}
        _draw_histograms(histograms[column], sets)
        histograms[column].set(title=result.measure_name(measure), xlabel=f"image score ({result.aggregation})")
        for index, shift in enumerate(shifts):
            area = result.task(OUT_OF_DISTRIBUTION.name, "shifts", shift, measure)
            false_positive, true_positive = _roc(sets[ID], sets[shift])
            style = _shift_style(index)
            curves[column].plot(false_positive, true_positive, label=f"{as_label(shift)}, AUROC {area:.3f}", **style)
        curves[column].plot([0, 1], [0, 1], color="0.4", linewidth=1, linestyle="--", zorder=0)
        curves[column].set(xlim=(-0.01, 1), ylim=(0, 1.01), xlabel="false positive rate")
        curves[column].legend(loc="lower right")
    histograms[0].set_ylabel("fraction of images")
    curves[0].set_ylabel("true positive rate")
    histograms[-1].legend(loc="upper right")
    return figure


def _draw_histograms(ax: Axes, sets: dict[str, np.ndarray]) -> None:
    pooled = np.concatenate(list(sets.values()))
    edges = np.histogram_bin_edges(pooled, bins=int(np.clip(2 * np.sqrt(pooled.size), 6, MOST_BINS))).tolist()
    ax.hist(sets[ID], bins=edges, weights=_fractions(sets[ID]), color="0.8", label=ID)
    for index, (name, values) in enumerate((name, values) for name, values in sets.items() if name != ID):
        style = _shift_style(index)
        style["edgecolor"] = style.pop("color")
        ax.hist(values, bins=edges, weights=_fractions(values), histtype="step", label=as_label(name), **style)
    ax.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))


def _fractions(values: np.ndarray) -> np.ndarray:
    return np.full(values.size, 1 / values.size)


def _roc(negative: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    positives = np.repeat([0, 1], [negative.size, positive.size])
    false_positive, true_positive, _ = roc_curve(positives, np.concatenate([negative, positive]))
    return false_positive, true_positive


def _shift_style(index: int) -> dict[str, Any]:
    return {"color": OKABE_ITO[index % 6], "linestyle": DASHES[index % len(DASHES)], "linewidth": 1.5}
