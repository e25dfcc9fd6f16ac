"""The numbers of the page as tables of text."""

from nnunet_stochastic.report.page.tables.cells import Cell, Table
from nnunet_stochastic.report.page.tables.classes import class_tables
from nnunet_stochastic.report.page.tables.decisions import decision_table
from nnunet_stochastic.report.page.tables.quality import quality_table
from nnunet_stochastic.report.page.tables.remarks import failed_models, left_out
from nnunet_stochastic.report.page.tables.surfaces import surface_table
from nnunet_stochastic.report.page.tables.uncertainty import delta_table, measure_table

__all__ = [
    "Cell",
    "Table",
    "class_tables",
    "decision_table",
    "delta_table",
    "failed_models",
    "left_out",
    "measure_table",
    "quality_table",
    "surface_table",
]
