"""What the QU-BraTS score is made of: curves over the threshold at which uncertain voxels are set aside.

An uncertainty that filters errors out raises the Dice of what is kept, and one that leaves alone what is right filters
few true positives and true negatives. The curves are those of summary.json, means over cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.maps import MEASURES
from nnunet_stochastic.evaluation.tasks.filtering import CURVES, FILTERING
from nnunet_stochastic.report.page.figures.style import ModelStyle, add_model_legend, grid

__all__ = ["filtering_figure"]

_TITLES = ("Dice of what is kept ↑", "true positives filtered ↓", "true negatives filtered ↓")


def filtering_figure(results: Sequence[EvaluatedRun], styles: Mapping[str, ModelStyle]) -> Figure | None:
    """A row of panels per measure and a panel per curve, a line per model, of the ID set."""
    found: dict[EvaluatedRun, Mapping[str, Any]] = {
        result: curves for result in results if (curves := result.entry(FILTERING.name).get("curves"))
    }
    measures = [measure for measure in MEASURES if any(measure in curves[ID] for curves in found.values())]
    if not measures:
        return None
    figure, axes = grid(len(CURVES) * len(measures), columns=len(CURVES), panel=(3.3, 2.5))
    for row, measure in enumerate(measures):
        mark = "†" if measure == "EU" and any(result.mark for result in found) else ""
        panels = axes[len(CURVES) * row :][: len(CURVES)]
        for ax, curve, title in zip(panels, CURVES, _TITLES, strict=True):
            for result, curves in found.items():
                if measure in curves[ID]:
                    style = styles[result.label].line() | {"markevery": 10}
                    ax.plot(curves["thresholds"], curves[ID][measure][curve], **style)
            ax.set(xlim=(0, 1), title=title if row == 0 else "")
            if row == len(measures) - 1:
                ax.set_xlabel("threshold, share of the largest entropy")
        panels[0].set_ylabel(f"{measure}{mark}")
    add_model_legend(figure, list(found), styles, shows_epistemic=True)
    return figure
