"""One HTML page that needs nothing but itself: evaluations, or new cases to review, and a viewer of volumes."""

from nnunet_stochastic.report.page.browser import page_size
from nnunet_stochastic.report.page.cases import PageCase, PredictionFolder, page_cases
from nnunet_stochastic.report.page.collect import collect_thumbnails, collect_volumes
from nnunet_stochastic.report.page.data import read_results
from nnunet_stochastic.report.page.page import PageContent, render_page
from nnunet_stochastic.report.page.review_folder import Review, open_reviewed, read_review
from nnunet_stochastic.report.page.review_list import order_in_words, review_cases
from nnunet_stochastic.report.page.review_page import ReviewContent, missing, render_review
from nnunet_stochastic.report.page.volumes import CaseVolumes

__all__ = [
    "CaseVolumes",
    "PageCase",
    "PageContent",
    "PredictionFolder",
    "Review",
    "ReviewContent",
    "collect_thumbnails",
    "collect_volumes",
    "missing",
    "open_reviewed",
    "order_in_words",
    "page_cases",
    "page_size",
    "read_results",
    "read_review",
    "render_page",
    "render_review",
    "review_cases",
]
