"""What the QU-BraTS score is made of: areas under curves over the threshold at which uncertain voxels are set aside.

An uncertainty that filters errors out raises the Dice of what is kept, and one that leaves alone what is right filters
few true positives and true negatives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.maps import MEASURES
from nnunet_stochastic.evaluation.tasks.filtering import FILTERING
from nnunet_stochastic.report.page.figures.style import ModelStyle, add_model_legend, grid

__all__ = ["filtering_figure"]

_PARTS = {
    "filtered_dice": "Dice of what is kept ↑",
    "filtered_tp": "true positives filtered ↓",
    "filtered_tn": "true negatives filtered ↓",
}


def filtering_figure(results: Sequence[EvaluatedRun], styles: Mapping[str, ModelStyle]) -> Figure | None:
    """A panel per area, a line per model over AU, EU and TU, on the ID set."""
    areas = {
        result: np.array([[result.task(FILTERING.name, ID, measure, part) for measure in MEASURES] for part in _PARTS])
        for result in results
    }
    areas = {result: values for result, values in areas.items() if np.isfinite(values).any()}
    if not areas:
        return None
    figure, axes = grid(len(_PARTS))
    for part, (ax, title) in enumerate(zip(axes, _PARTS.values(), strict=True)):
        for result, values in areas.items():
            ax.plot(range(len(MEASURES)), values[part], **styles[result.label].line())
        names = [f"{measure}{'†' if measure == 'EU' and any(r.mark for r in areas) else ''}" for measure in MEASURES]
        ax.set_xticks(range(len(MEASURES)), names)
        ax.set(title=title, xlim=(-0.3, len(MEASURES) - 0.7))
    axes[0].set_ylabel("area under the curve")
    add_model_legend(figure, list(areas), styles, shows_epistemic=True)
    return figure
