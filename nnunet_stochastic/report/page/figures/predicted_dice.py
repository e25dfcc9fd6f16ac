"""Predicted against true Dice of each case and structure, and whether it is above its lower bound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.report.names import as_label
from nnunet_stochastic.report.page.figures.style import grid
from nnunet_stochastic.report.page.judged import judged_sets, level_key
from nnunet_stochastic.report.reliability import OKABE_ITO

__all__ = ["predicted_dice_figure"]


def predicted_dice_figure(result: EvaluatedRun) -> Figure | None:
    """A panel per set; points below the lower bound are crosses."""
    sets = {name: np.array(list(_points(structures))) for name, structures in judged_sets(result).items()}
    sets = {name: points for name, points in sets.items() if points.size}
    if not sets:
        return None
    figure, axes = grid(len(sets))
    for ax, (name, points) in zip(axes, sets.items(), strict=True):
        predicted, true, is_below = points.T
        for below, marker, colour, label in (
            (0, "o", OKABE_ITO[0], "at least its lower bound"),
            (1, "x", OKABE_ITO[1], "below it"),
        ):
            chosen = is_below == below
            style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4.5, "linestyle": "none"}
            ax.plot(predicted[chosen], true[chosen], label=f"{label}: {np.count_nonzero(chosen)}", **style)
        low = max(0.0, min(predicted.min(), true.min()) - 0.05)
        ax.plot((low, 1), (low, 1), color="0.5", linewidth=1, linestyle="--")
        ax.set(title=as_label(name), xlabel="predicted Dice", xlim=(low, 1), ylim=(low, 1.01))
        ax.legend(loc="upper left")
    axes[0].set_ylabel("Dice")
    return figure


def _points(structures: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[float, float, float]]:
    """Predicted and true Dice, and whether that is below the lower bound at the level of reviews."""
    for found in structures.values():
        for case in found["cases"]:
            predicted, true = case.get("predicted_dice"), case.get("dice")
            if predicted is not None and true is not None:
                bounds = case.get("dice_at_least") or {}
                level = level_key(bounds)
                yield predicted, true, float(level is not None and true < bounds[level])
