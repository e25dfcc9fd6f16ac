"""Figures and tables made from evaluations."""

from nnunet_stochastic.report.decision_tables import decision_tables
from nnunet_stochastic.report.picture import MAP_TITLES, CasePicture, case_figure
from nnunet_stochastic.report.reliability import OKABE_ITO, reliability_diagrams
from nnunet_stochastic.report.slice_view import SliceView, choose_slice
from nnunet_stochastic.report.table import structure_table, summary_table, task_table
from nnunet_stochastic.report.terminal import print_table

__all__ = [
    "MAP_TITLES",
    "OKABE_ITO",
    "CasePicture",
    "SliceView",
    "case_figure",
    "choose_slice",
    "decision_tables",
    "print_table",
    "reliability_diagrams",
    "structure_table",
    "summary_table",
    "task_table",
]
