"""Failure detection of one model: mean risk (1 - Dice) of the images that remain when the most uncertain are handed to
a reader. A measure that knows its failures drops fast to the left; the oracle sorts by the risk itself.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.maps import MEASURES
from nnunet_stochastic.evaluation.tasks import FAILURE_DETECTION
from nnunet_stochastic.metrics import risk_coverage_curve
from nnunet_stochastic.report.names import as_label
from nnunet_stochastic.report.page.figures.style import MEASURE_STYLES, grid

__all__ = ["risk_coverage_figure"]

FEWEST_IMAGES = 2


def risk_coverage_figure(result: EvaluatedRun) -> Figure | None:
    """A panel per set that has references."""
    known = result.images.dropna(subset=["risk"])
    sets = [name for name in result.sets if (known["set"] == name).sum() >= FEWEST_IMAGES]
    if FAILURE_DETECTION.name not in result.summary["tasks"] or not sets:
        return None
    figure, axes = grid(len(sets))
    for ax, name in zip(axes, sets, strict=True):
        risk = known[known["set"] == name].set_index("case")["risk"]
        for measure in MEASURES:
            scores = result.image_scores(name, measure).reindex(risk.index)
            if scores.notna().all():
                # ID is a split of its own, a shift is listed below ``shifts``.
                area = result.task(FAILURE_DETECTION.name, *([ID] if name == ID else ["shifts", name]), measure, "aurc")
                style = {key: value for key, value in MEASURE_STYLES[measure].items() if key != "marker"}
                curve = risk_coverage_curve(risk.to_numpy(), -scores.to_numpy())
                ax.plot(*curve, label=f"{result.measure_name(measure)}, AURC {area:.3f}", **style)
        ax.plot(*risk_coverage_curve(risk.to_numpy(), -risk.to_numpy()), color="0.5", linewidth=1, label="oracle")
        ax.axhline(risk.mean(), color="0.5", linewidth=1, linestyle=":", label="random")
        ax.set(title=as_label(name), xlim=(0, 1), xlabel="coverage (fraction of images kept)")
        ax.set_ylim(bottom=0)
        ax.legend()
    axes[0].set_ylabel("mean risk, 1 - Dice")
    return figure
