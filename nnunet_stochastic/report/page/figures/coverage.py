"""Whether intervals hold as often as they say: coverage against level, with its binomial interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.report.names import as_label
from nnunet_stochastic.report.page.figures.style import grid
from nnunet_stochastic.report.page.judged import judged_sets
from nnunet_stochastic.report.reliability import OKABE_ITO

__all__ = ["coverage_figure"]

_KINDS = {"volume interval": (OKABE_ITO[0], "o"), "lower bound of the Dice": (OKABE_ITO[1], "s")}
_WIDTH = 0.03  # of the structures side by side at a level


def coverage_figure(result: EvaluatedRun) -> Figure | None:
    """A panel per set; at each level a point per structure, of the intervals and of the lower bounds."""
    sets = {name: list(_points(structures)) for name, structures in judged_sets(result).items()}
    sets = {name: points for name, points in sets.items() if points}
    if not sets:
        return None
    figure, axes = grid(len(sets))
    for ax, (name, points) in zip(axes, sets.items(), strict=True):
        for kind, (colour, marker) in _KINDS.items():
            of_kind = np.array([point for found, *point in points if found == kind])
            if of_kind.size:
                level, coverage, low, high = of_kind.T
                errors = np.clip([coverage - low, high - coverage], 0, None)
                style: dict[str, Any] = {
                    "color": colour,
                    "marker": marker,
                    "markersize": 4.5,
                    "linewidth": 0,
                    "elinewidth": 1,
                }
                ax.errorbar(level, coverage, yerr=errors, label=kind, **style)
        levels = [point[1] for point in points]
        ends = (min(levels) - 0.04, 1.0)
        ax.plot(ends, ends, color="0.5", linewidth=1, linestyle="--")
        ax.set(title=as_label(name), xlabel="level", xlim=ends)
        ax.legend(loc="lower right")
    axes[0].set_ylabel("coverage, share of patients")
    return figure


def _points(structures: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, float, float, float, float]]:
    """Kind, level, coverage and its interval; structures stand side by side, and kinds left and right of the level."""
    for place, found in enumerate(structures.values()):
        shift = _WIDTH * ((place + 1) / (len(structures) + 1)) / 2
        for side, (kind, by_level) in enumerate(
            zip(_KINDS, (found.get("volume"), (found.get("dice") or {}).get("lower_bound")), strict=True)
        ):
            for level, entry in (by_level or {}).items():
                yield kind, float(level) + (shift if side else -shift), entry["coverage"], *entry["interval"]
