"""One HTML page of evaluations that needs nothing but itself: tables, figures, cases, and a viewer of volumes."""

from nnunet_stochastic.report.page.cases import PredictionFolder, page_cases
from nnunet_stochastic.report.page.collect import collect_thumbnails, collect_volumes
from nnunet_stochastic.report.page.data import read_results
from nnunet_stochastic.report.page.page import PageContent, page_size, render_page

__all__ = [
    "PageContent",
    "PredictionFolder",
    "collect_thumbnails",
    "collect_volumes",
    "page_cases",
    "page_size",
    "read_results",
    "render_page",
]
