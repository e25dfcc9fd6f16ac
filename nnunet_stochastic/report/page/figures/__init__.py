"""The figures of the page: results in, a matplotlib figure out, or ``None`` where nothing of it was evaluated."""

from nnunet_stochastic.report.page.figures.aggregation import aggregation_figure
from nnunet_stochastic.report.page.figures.detection import detection_figure
from nnunet_stochastic.report.page.figures.entanglement import entanglement_figure
from nnunet_stochastic.report.page.figures.overlap import overlap_figure
from nnunet_stochastic.report.page.figures.ratio import ratio_figure
from nnunet_stochastic.report.page.figures.reliability import confidence_figure, reliability_figure
from nnunet_stochastic.report.page.figures.risk_coverage import risk_coverage_figure
from nnunet_stochastic.report.page.figures.style import ModelStyle, figure_style, model_styles

__all__ = [
    "ModelStyle",
    "aggregation_figure",
    "confidence_figure",
    "detection_figure",
    "entanglement_figure",
    "figure_style",
    "model_styles",
    "overlap_figure",
    "ratio_figure",
    "reliability_figure",
    "risk_coverage_figure",
]
