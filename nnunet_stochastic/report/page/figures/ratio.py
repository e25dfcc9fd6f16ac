"""How large epistemic uncertainty is beside aleatoric, Fig. 8 of Christensen et al.: left the mean of both over the
images of a set, right EU/AU per model. With an EU/AU near 0 the epistemic part has collapsed, and TU is AU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.tasks import RATIO
from nnunet_stochastic.report.names import as_label
from nnunet_stochastic.report.page.figures.style import ModelStyle, add_model_legend, draw_point, log_ticks

__all__ = ["ratio_figure"]


def ratio_figure(results: Sequence[EvaluatedRun], styles: Mapping[str, ModelStyle]) -> Figure | None:
    """Full markers are ID, hollow ones the mean over the shifts."""
    ratios = {result.label: {split: result.task(RATIO.name, split) for split in (ID, "OOD")} for result in results}
    drawn = [result for result in results if any(map(math.isfinite, ratios[result.label].values()))]
    if not drawn:
        return None
    height = max(3.2, 1.4 + 0.24 * len(drawn))
    figure = Figure(figsize=(9.6, height), layout="constrained")
    scatter, bars = figure.subplots(1, 2)
    for result in drawn:
        style = styles[result.label]
        means = result.images.groupby("set")[["AU", "EU"]].mean()
        splits = {ID: means.loc[means.index == ID], "OOD": means.loc[means.index != ID]}
        for split, table in splits.items():
            hollow = {"markerfacecolor": "white", "markeredgecolor": style.colour, "markeredgewidth": 1.3}
            au, eu = table["AU"].mean(), table["EU"].mean()
            if au > 0 and eu > 0:
                draw_point(scatter, au, eu, style, **({} if split == ID else hollow))
        row = drawn.index(result)
        for split, ratio in ratios[result.label].items():
            hollow = {"markerfacecolor": "white", "markeredgecolor": style.colour, "markeredgewidth": 1.3}
            if ratio > 0:
                draw_point(bars, ratio, row, style, **({} if split == ID else hollow))
    low = min([*scatter.get_xlim(), *scatter.get_ylim()]) if scatter.lines else 0.1
    scatter.set(xscale="log", yscale="log", xlabel="mean AU (nats)", ylabel="mean EU (nats)")
    scatter.set_title("full: ID, hollow: OOD; dashed: EU = AU")
    if low > 0:
        scatter.axline((low, low), (10 * low, 10 * low), color="0.4", linewidth=1, linestyle="--", zorder=0)
    bars.axvline(1, color="0.4", linewidth=1, linestyle="--", zorder=0)
    bars.set(xscale="log", xlabel="mean EU / mean AU", yticks=range(len(drawn)), ylim=(len(drawn) - 0.4, -0.6))
    bars.set_yticklabels([as_label(result.label) + result.mark for result in drawn])
    bars.set_title("EU/AU")
    for axis in (scatter.xaxis, scatter.yaxis, bars.xaxis):
        log_ticks(axis)
    add_model_legend(figure, drawn, styles, shows_epistemic=True)
    return figure
