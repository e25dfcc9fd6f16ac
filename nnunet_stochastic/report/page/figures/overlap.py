"""Segmentation quality beside diversity: mean Dice against the generalised energy distance, Fig. 14 of Christensen et
al. Right and low is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from nnunet_stochastic.conventions import DISTANCES
from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.tasks import ENERGY_DISTANCE
from nnunet_stochastic.report.page.figures.style import ModelStyle, add_model_legend, draw_point

__all__ = ["overlap_figure"]


def overlap_figure(results: Sequence[EvaluatedRun], styles: Mapping[str, ModelStyle]) -> Figure | None:
    """A point per model, on its ID set."""
    points = [
        (result, result.quality("dice"), result.task(ENERGY_DISTANCE.name, result.convention.distance, ID))
        for result in results
    ]
    points = [point for point in points if all(map(math.isfinite, point[1:]))]
    if not points:
        return None
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    ax = figure.subplots()
    for result, dice, ged in points:
        draw_point(ax, dice, ged, styles[result.label])
    ax.margins(0.15)
    distances = dict.fromkeys(DISTANCES[result.convention.distance] for result, _, _ in points)
    ax.set(xlabel="Dice (higher is better)", ylabel=f"GED, {' or '.join(distances)} (lower is better)")
    add_model_legend(figure, [result for result, _, _ in points], styles)
    return figure
