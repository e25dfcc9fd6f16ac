"""The page: results and cases in, one HTML file out that needs nothing but itself.

Figures are SVG, thumbnails WebP, volumes compressed NIfTI, all within the file; a content security policy forbids the
browser to load anything from elsewhere. The order of what is written depends on nothing but the input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import nnunet_stochastic
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.model import STAND_IN_FOOTNOTE
from nnunet_stochastic.report.page import figures, tables
from nnunet_stochastic.report.page.cases import COLUMNS, OF_EPISTEMIC, PageCase
from nnunet_stochastic.report.page.embedding import embed_json, embed_script, embed_style, picture
from nnunet_stochastic.report.page.thumbnails import THUMBNAIL_SIZE
from nnunet_stochastic.report.page.volumes import CaseVolumes

__all__ = ["PageContent", "page_size", "render_page"]

PACKAGE = "nnunet_stochastic.report.page"
SCRIPTS = ("vendor/tabulator.min.js", "vendor/niivue.umd.js", "assets/viewer.js", "assets/page.js")
STYLES = ("vendor/tabulator.min.css", "assets/page.css")
LICENCES = ("niivue", "niivue_dependencies", "tabulator")


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
        Rows of the table of cases, in the order in which they are first shown.
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
    environment = Environment(
        loader=PackageLoader(PACKAGE, "assets"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").generate(
        title=content.title,
        version=nnunet_stochastic.__version__,
        style=embed_style("\n".join(map(_read, STYLES))),
        scripts=[embed_script(_read(name)) for name in SCRIPTS],
        licences=[(name, _read(f"vendor/{name}.LICENSE.txt")) for name in LICENCES],
        datasets=list(_datasets(content.results)),
        left_out=tables.left_out(content.results),
        failed=tables.failed_models(content.results),
        models=list(_models(content.results)),
        results=content.results,
        footnote=_footnote(content.results),
        conventions=content.results[0].summary["conventions"],
        viewer_cases=len(content.volumes),
        notes=sum(note is not None for note in content.notes),
        num_cases=len(content.cases),
        thumbnail=dict(zip(("width", "height"), THUMBNAIL_SIZE, strict=True)),
        data=_case_data(content),
        volumes=_volume_texts(content.volumes),
    )


def page_size(pieces: Sequence[str | None]) -> int:
    """Bytes of ASCII text."""
    return sum(len(piece) for piece in pieces if piece)


def _read(name: str) -> str:
    return resources.files(PACKAGE).joinpath(name).read_text(encoding="utf-8")


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
            "tables": [
                tables.quality_table(members),
                tables.measure_table(members),
                tables.delta_table(members),
                *tables.class_tables(members),
            ],
            "plots": plots,
        }


def _models(results: Sequence[EvaluatedRun]) -> Iterator[dict[str, Any]]:
    for result in results:
        with figures.figure_style():
            drawn = [(title, caption, draw(result)) for title, caption, draw in figures.OF_ONE_MODEL]
            plots = [Plot(title, caption, picture(figure)) for title, caption, figure in drawn if figure is not None]
        yield {"name": result.label, "footnote": _footnote([result]), "plots": plots}


def _footnote(results: Sequence[EvaluatedRun]) -> str:
    """What the mark of the results' EU means; empty where none has it."""
    return f"{STAND_IN_FOOTNOTE}." if any(result.mark for result in results) else ""


def _case_data(content: PageContent) -> dict[str, Any]:
    rows = [
        {"id": index, **case.row, **({} if note is None else {"note": note})}
        for index, (case, note) in enumerate(zip(content.cases, content.notes, strict=True))
    ]
    described = {
        index: {
            **volumes.description(),
            **{
                kind: [layer.description() | {"element": _element(layer.nifti)} for layer in layers]
                for kind, layers in (("layers", volumes.layers), ("masks", volumes.masks))
            },
        }
        for index, volumes in content.volumes.items()
    }
    return {
        "rows": embed_json({"columns": COLUMNS, "ofEpistemic": OF_EPISTEMIC, "rows": rows}),
        "thumbnails": embed_json(content.thumbnails),
        "volumes": embed_json(described),
    }


def _volume_texts(volumes: dict[int, CaseVolumes]) -> dict[str, str]:
    """Files under the ids of their elements; models that were given the same image share it."""
    return {_element(layer.nifti): layer.nifti for entry in volumes.values() for layer in entry.files}


def _element(nifti: str) -> str:
    return "volume-" + hashlib.sha256(nifti.encode("ascii")).hexdigest()[:16]
