"""FROC: share of the references' lesions that are found, against found lesions that are none, by existence."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.report.names import as_label
from nnunet_stochastic.report.page.figures.style import grid
from nnunet_stochastic.report.page.judged import judged_sets
from nnunet_stochastic.report.reliability import OKABE_ITO

__all__ = ["lesion_detection_figure"]


def lesion_detection_figure(result: EvaluatedRun) -> Figure | None:
    """A panel per set, a curve per structure that has lesions."""
    sets = {
        name: {
            structure: [point for point in lesions["froc"] if point["sensitivity"] is not None]
            for structure, found in structures.items()
            if (lesions := found.get("lesions"))
        }
        for name, structures in judged_sets(result).items()
    }
    sets = {name: curves for name, curves in sets.items() if any(curves.values())}
    if not sets:
        return None
    figure, axes = grid(len(sets))
    for ax, (name, curves) in zip(axes, sets.items(), strict=True):
        for place, (structure, points) in enumerate(curves.items()):
            false = [0.0, *(point["false_per_case"] for point in points)]
            found = [0.0, *(point["sensitivity"] for point in points)]
            style: dict[str, Any] = {"color": OKABE_ITO[place % (len(OKABE_ITO) - 1)], "marker": "o", "markersize": 3.5}
            ax.plot(false, found, label=as_label(structure), drawstyle="steps-post", **style)
        ax.set(title=as_label(name), xlabel="false lesions per case", ylim=(0, 1.02))
        ax.set_xlim(left=0)
        ax.legend(loc="lower right")
    axes[0].set_ylabel("sensitivity, share of reference lesions")
    return figure
