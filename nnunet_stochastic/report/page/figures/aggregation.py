"""What the image score is made of matters: AUROC of AU against EU for each aggregation, Fig. 9 of Christensen et al.

A point is a model, the large cross the mean over models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from nnunet_stochastic.conventions import AGGREGATIONS
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.tasks import OUT_OF_DISTRIBUTION
from nnunet_stochastic.report.names import as_label
from nnunet_stochastic.report.page.figures.style import ModelStyle, add_model_legend, draw_point, grid

__all__ = ["aggregation_figure"]


def aggregation_figure(results: Sequence[EvaluatedRun], styles: Mapping[str, ModelStyle]) -> Figure | None:
    """A panel per aggregation, all on the same axes."""
    known: dict[str, list[tuple[EvaluatedRun, float, float]]] = {}
    for aggregation in AGGREGATIONS:
        for result in results:
            au, eu = (
                result.task(OUT_OF_DISTRIBUTION.name, "aggregations", aggregation, measure) for measure in ("AU", "EU")
            )
            if math.isfinite(au) and math.isfinite(eu):
                known.setdefault(aggregation, []).append((result, au, eu))
    if not known:
        return None
    values = [value for drawn in known.values() for _, *numbers in drawn for value in numbers]
    limits = (min(0.45, min(values) - 0.03), 1.02)
    figure, axes = grid(len(known), columns=5, panel=(2.6, 2.75))
    for ax, (name, drawn) in zip(axes, known.items(), strict=True):
        for result, au, eu in drawn:
            draw_point(ax, au, eu, styles[result.label], markersize=6)
        centre = np.mean([(au, eu) for _, au, eu in drawn], axis=0)
        ax.plot(*centre, marker="x", markersize=13, markeredgewidth=2.5, color="black", linestyle="none", alpha=0.6)
        ax.plot(limits, limits, color="0.4", linewidth=1, linestyle="--", zorder=0)
        ax.set(title=as_label(name), xlim=limits, ylim=limits, xlabel="AUROC of AU", aspect="equal")
        ax.set_box_aspect(1)
    axes[0].set_ylabel("AUROC of EU")
    add_model_legend(figure, results, styles, shows_epistemic=True)
    return figure
