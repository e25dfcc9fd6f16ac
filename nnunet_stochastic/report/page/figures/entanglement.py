"""The measure that should do a task over the one that should not, Fig. 7 of Christensen et al., Rethinking Uncertainty
Quantification and Entanglement in Image Segmentation.

A point is a model: y is the performance of the theoretically right measure (U_c), x of the wrong one (U_w). Δ (Eq. 2)
is the signed angle to the diagonal; where lower is better, points below the diagonal are the disentangled ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.maps import MEASURES, Measure
from nnunet_stochastic.evaluation.right_and_wrong import right_and_wrong
from nnunet_stochastic.evaluation.tasks import RANKED, Task, find_task
from nnunet_stochastic.report.names import as_label
from nnunet_stochastic.report.page.figures.style import ModelStyle, add_model_legend, draw_point, grid

__all__ = ["entanglement_figure", "right_and_wrong_of"]


def right_and_wrong_of(result: EvaluatedRun, path: Sequence[str]) -> tuple[float, float]:
    """U_c and U_w at one of the ``paths`` of a ranked task; NaN where they were not computed."""
    task = find_task(path[0])
    sets = [path] if path[-1] == ID else [(task.name, "shifts", name) for name in result.shifts]
    values: list[dict[Measure, float | np.ndarray]] = [
        {measure: result.task(*place, measure) for measure in MEASURES} for place in sets
    ]
    right, wrong = right_and_wrong(task, values)
    return float(right), float(wrong)


def entanglement_figure(results: Sequence[EvaluatedRun], styles: Mapping[str, ModelStyle]) -> Figure | None:
    """A panel per task and split that some model was evaluated on."""
    panels = []
    for task in RANKED:
        for path in task.paths:
            points = [(result.label, *right_and_wrong_of(result, path)) for result in results]
            if known := [point for point in points if all(map(math.isfinite, point[1:]))]:
                panels.append((task, path, known))
    if not panels:
        return None
    figure, axes = grid(len(panels))
    for ax, (task, path, known) in zip(axes, panels, strict=True):
        for label, right, wrong in known:
            draw_point(ax, wrong, right, styles[label])
        limits = _limits([value for _, right, wrong in known for value in (right, wrong)])
        lower_is_better = task.direction < 0
        _shade(ax, limits, below=lower_is_better)
        better = "lower" if lower_is_better else "higher"
        ax.set(title=f"{as_label(', '.join(path))}: {task.metric}, {better} is better", xlim=limits, ylim=limits)
        ax.set(xlabel=f"$U_w$: {_wrong_name(task)}", ylabel=f"$U_c$: {task.right}", aspect="equal")
    add_model_legend(figure, results, styles, shows_epistemic=True)
    return figure


def _wrong_name(task: Task) -> str:
    return f"the better of {', '.join(task.wrong)}" if len(task.wrong) > 1 else task.wrong[0]


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = max(0.12 * (high - low), 0.02 * abs(high), 1e-3)
    return low - margin, high + margin


def _shade(ax: Axes, limits: tuple[float, float], *, below: bool) -> None:
    """The disentangled side of the diagonal, Δ > 0."""
    ax.plot(limits, limits, color="0.4", linewidth=1, linestyle="--", zorder=0)
    edge = limits[0] if below else limits[1]
    ax.fill_between(limits, limits, edge, color="#009E73", alpha=0.07, linewidth=0, zorder=0)
    x, y = (0.72, 0.62) if below else (0.62, 0.72)
    style: dict[str, Any] = {"color": "#00664A", "fontsize": "small", "ha": "center", "va": "center", "rotation": 45}
    ax.text(x, y, "Δ > 0", transform=ax.transAxes, zorder=0, **style)
