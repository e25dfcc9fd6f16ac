"""Figures and tables made from evaluations."""

from nnunet_stochastic.report.picture import CasePicture, case_figure, choose_slice
from nnunet_stochastic.report.reliability import OKABE_ITO, reliability_figure
from nnunet_stochastic.report.table import summary_table

__all__ = ["OKABE_ITO", "CasePicture", "case_figure", "choose_slice", "reliability_figure", "summary_table"]
