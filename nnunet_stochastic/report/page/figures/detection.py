"""Out-of-distribution detection of one model: image scores of the ID set beside those of each shift, and the ROC curves
(out-of-distribution = 1), a column per measure. The score is the aggregation that the evaluation used for OODD.

A shift has a row of its own, so that two histograms lie over each other and no more; those of a column share bins and
axis. Where scores differ by orders of magnitude the axis and bins are logarithmic: without a predicted border the score
of an image is a sum, thousands of times that of the others, beside which all others would be one bar.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from nnunet_stochastic.evaluation.borders import WITH_BORDER, images_without_border
from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.maps import MEASURES, Measure
from nnunet_stochastic.evaluation.tasks import OUT_OF_DISTRIBUTION
from nnunet_stochastic.report.names import as_label
from nnunet_stochastic.report.page.figures.style import DASHES
from nnunet_stochastic.report.reliability import OKABE_ITO

__all__ = ["detection_figure"]

MOST_BINS = 30
# How many times the 10 % quantile of the scores the largest is, from which on the axis is logarithmic.
ORDERS_OF_MAGNITUDE = 100
# How many times smaller than the largest the scores are that count as 0 on such an axis.
NEGLIGIBLE = 1e-6


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
    figure = Figure(figsize=(3.5 * len(measures), 1.45 * len(shifts) + 3.5), layout="constrained")
    rows = figure.add_gridspec(len(shifts) + 1, len(measures), height_ratios=[1.45] * len(shifts) + [3.1])
    first = [figure.add_subplot(rows[0, column]) for column in range(len(measures))]
    curves = [figure.add_subplot(rows[-1, column]) for column in range(len(measures))]
    histograms = [first] + [
        [figure.add_subplot(rows[row, column], sharex=ax, sharey=ax) for column, ax in enumerate(first)]
        for row in range(1, len(shifts))
    ]
    for column, measure in enumerate(measures):
        sets = {name: scores[measure, name] for name in (ID, *shifts)}
        edges, scale = _bins(np.concatenate(list(sets.values())))
        for index, shift in enumerate(shifts):
            ax = histograms[index][column]
            _draw_histograms(ax, {ID: sets[ID], shift: sets[shift]}, edges, _shift_style(index))
            ax.tick_params(labelbottom=index == len(shifts) - 1)
        first[column].set_xscale(**scale)
        first[column].set_title(result.measure_name(measure))
        if scale["value"] == "linear":
            first[column].locator_params(axis="x", nbins=5)
        unit = "" if scale["value"] == "linear" else ", logarithmic"
        histograms[-1][column].set_xlabel(f"image score ({result.aggregation}{unit})")
        for index, shift in enumerate(shifts):
            area = result.task(OUT_OF_DISTRIBUTION.name, "shifts", shift, measure)
            false_positive, true_positive = _roc(sets[ID], sets[shift])
            label = f"{as_label(shift)}, AUROC {area:.3f}{_with_border(result, shift, measure)}"
            curves[column].plot(false_positive, true_positive, label=label, **_shift_style(index))
        curves[column].plot([0, 1], [0, 1], color="0.4", linewidth=1, linestyle="--", zorder=0)
        curves[column].set(xlim=(-0.01, 1), ylim=(0, 1.01), xlabel="false positive rate")
        curves[column].legend(loc="lower right")
    for row in histograms:
        row[0].set_ylabel("fraction\nof images")
        row[-1].legend(loc="upper right")
    curves[0].set_ylabel("true positive rate")
    return figure


def _with_border(result: EvaluatedRun, shift: str, measure: Measure) -> str:
    """The AUROC without the images that have no predicted border, where the evaluation has it and there are any."""
    if not any(images_without_border(result.entry(OUT_OF_DISTRIBUTION.name)).get(name) for name in (ID, shift)):
        return ""
    area = result.task(OUT_OF_DISTRIBUTION.name, WITH_BORDER, "shifts", shift, measure)
    return f" ({area:.3f} with a border)" if math.isfinite(area) else ""


def _bins(scores: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Edges of the bins of all sets' scores, and the keywords of ``Axes.set_xscale``."""
    most = int(np.clip(2 * np.sqrt(scores.size), 6, MOST_BINS))
    positive = scores[scores > scores.max() * NEGLIGIBLE]
    if not positive.size or positive.max() < ORDERS_OF_MAGNITUDE * np.quantile(positive, 0.1):
        return np.histogram_bin_edges(scores, bins=most), {"value": "linear"}
    low, high = positive.min(), positive.max()
    edges = np.geomspace(low, high, most + 1)
    edges[[0, -1]] = low, high
    if positive.size == scores.size:
        return edges, {"value": "log"}
    # What is 0 has a bin of its own at the left.
    return np.concatenate([[min(scores.min(), 0.0)], edges]), {"value": "symlog", "linthresh": low, "linscale": 0.3}


def _draw_histograms(ax: Axes, sets: dict[str, np.ndarray], edges: np.ndarray, style: dict[str, Any]) -> None:
    """The ID set in grey and a shift over it; both show through."""
    (known, of_known), (shift, of_shift) = sets.items()
    bins = edges.tolist()
    ax.hist(of_known, bins=bins, weights=_fractions(of_known), color="0.75", label=known)
    face, line = (style["color"], 0.25), {"edgecolor": style["color"], "linewidth": style["linewidth"]}
    ax.hist(
        of_shift,
        bins=bins,
        weights=_fractions(of_shift),
        histtype="stepfilled",
        facecolor=face,
        label=as_label(shift),
        **line,
    )


def _fractions(values: np.ndarray) -> np.ndarray:
    return np.full(values.size, 1 / values.size)


def _roc(negative: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    positives = np.repeat([0, 1], [negative.size, positive.size])
    false_positive, true_positive, _ = roc_curve(positives, np.concatenate([negative, positive]))
    return false_positive, true_positive


def _shift_style(index: int) -> dict[str, Any]:
    return {"color": OKABE_ITO[index % 6], "linestyle": DASHES[index % len(DASHES)], "linewidth": 1.5}
