"""FROC: share of the references' lesions that are found, against found lesions that are none, by existence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.report.names import as_label
from nnunet_stochastic.report.page.figures.style import grid
from nnunet_stochastic.report.page.judged import judged_sets
from nnunet_stochastic.report.reliability import OKABE_ITO

__all__ = ["lesion_detection_figure"]


def lesion_detection_figure(result: EvaluatedRun) -> Figure | None:
    """A panel per set, a curve per structure that has lesions; a cross: those of the segmentation alone."""
    sets = {
        name: {structure: lesions for structure, found in structures.items() if (lesions := found.get("lesions"))}
        for name, structures in judged_sets(result).items()
    }
    sets = {name: lesions for name, lesions in sets.items() if any(_points(found) for found in lesions.values())}
    if not sets:
        return None
    figure, axes = grid(len(sets))
    for ax, (name, lesions) in zip(axes, sets.items(), strict=True):
        for place, (structure, found) in enumerate(lesions.items()):
            colour = OKABE_ITO[place % (len(OKABE_ITO) - 1)]
            false, sensitivity = zip((0.0, 0.0), *_points(found), strict=True)
            style: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 3.5, "drawstyle": "steps-post"}
            ax.plot(false, sensitivity, label=as_label(structure), **style)
            for point in _points({"froc": [found.get("segmentation") or {}]}):
                ax.plot(*point, color=colour, marker="x", markersize=8, linestyle="none")
        ax.set(title=as_label(name), xlabel="false lesions per case", ylim=(0, 1.02))
        ax.set_xlim(left=0)
        ax.legend(loc="lower right")
    axes[0].set_ylabel("sensitivity, share of reference lesions")
    return figure


def _points(found: Mapping[str, Any]) -> list[tuple[float, float]]:
    """False lesions per case and sensitivity, where there is one: not without any reference lesion."""
    return [
        (point["false_per_case"], point["sensitivity"])
        for point in found["froc"]
        if point.get("sensitivity") is not None
    ]
