"""The page of evaluations: results and cases in, one HTML file out that needs nothing but itself.

Figures are SVG, thumbnails WebP, volumes compressed NIfTI, all within the file; a content security policy forbids the
browser to load anything from elsewhere. The order of what is written depends on nothing but the input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.model import STAND_IN_FOOTNOTE
from nnunet_stochastic.report.page import figures, tables
from nnunet_stochastic.report.page.browser import CaseBrowser
from nnunet_stochastic.report.page.cases import PageCase
from nnunet_stochastic.report.page.columns import EVALUATION_COLUMNS
from nnunet_stochastic.report.page.embedding import picture
from nnunet_stochastic.report.page.template import fill_template
from nnunet_stochastic.report.page.volumes import CaseVolumes

__all__ = ["PageContent", "render_page"]


@dataclass(frozen=True)
class PageContent:
    """What goes onto a page.

    Attributes
    ----------
    title
        Heading.
    results
        The evaluated models.
    cases
        Rows of the list of cases, in the order in which they are first shown.
    thumbnails
        Data URI of each case, or ``None``.
    notes
        Notes on what is missing of each case, or ``None``.
    volumes
        Volumes of the cases that the viewer can show, under the case's index.
    """

    title: str
    results: Sequence[EvaluatedRun]
    cases: Sequence[PageCase]
    thumbnails: Sequence[str | None]
    notes: Sequence[str | None]
    volumes: dict[int, CaseVolumes]


@dataclass(frozen=True)
class Plot:
    """A figure with what to see in it."""

    title: str
    caption: str
    source: str


def render_page(content: PageContent) -> Iterator[str]:
    """The page in pieces, to be written one after the other."""
    # Uncertainties of several models cannot be compared: the cases stay in the order in which they take turns.
    known = any(case.row.get("TU") is not None for case in content.cases)
    sorted_by = ("TU", "desc") if known and len({case.row["model"] for case in content.cases}) == 1 else None
    browser = CaseBrowser(
        EVALUATION_COLUMNS, (), (), sorted_by, content.cases, content.thumbnails, content.notes, content.volumes
    )
    return fill_template(
        "evaluation.html.j2",
        title=content.title,
        browser=browser,
        datasets=list(_datasets(content.results)),
        left_out=tables.left_out(content.results),
        failed=tables.failed_models(content.results),
        models=list(_models(content.results)),
        results=content.results,
        footnote=_footnote(content.results),
        conventions=content.results[0].summary["conventions"],
    )


def _datasets(results: Sequence[EvaluatedRun]) -> Iterator[dict[str, Any]]:
    """Tables and figures that compare models, apart for each dataset."""
    styles = figures.model_styles(results)  # of all together, so that a model looks the same on the whole page
    for dataset in dict.fromkeys(result.dataset for result in results):
        members = [result for result in results if result.dataset == dataset]
        with figures.figure_style():
            drawn = [(title, caption, draw(members, styles)) for title, caption, draw in figures.COMPARISONS]
            plots = [Plot(title, caption, picture(figure)) for title, caption, figure in drawn if figure is not None]
        yield {
            "name": dataset,
            "tables": [table for table in _tables(members) if table is not None],
            "plots": plots,
        }


def _tables(members: Sequence[EvaluatedRun]) -> Iterator[tables.Table | None]:
    yield tables.quality_table(members)
    yield tables.surface_table(members)
    yield tables.measure_table(members)
    yield tables.delta_table(members)
    yield tables.decision_table(members)
    yield from tables.class_tables(members)


def _models(results: Sequence[EvaluatedRun]) -> Iterator[dict[str, Any]]:
    for result in results:
        with figures.figure_style():
            drawn = [(title, caption, draw(result)) for title, caption, draw in figures.OF_ONE_MODEL]
            plots = [Plot(title, caption, picture(figure)) for title, caption, figure in drawn if figure is not None]
        yield {"name": result.label, "footnote": _footnote([result]), "plots": plots}


def _footnote(results: Sequence[EvaluatedRun]) -> str:
    """What the mark of the results' EU means; empty where none has it."""
    return f"{STAND_IN_FOOTNOTE}." if any(result.mark for result in results) else ""
