"""The parts that every page has: styles, scripts, licences, and the list of cases with its viewer."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import nnunet_stochastic
from nnunet_stochastic.report.page.browser import CaseBrowser
from nnunet_stochastic.report.page.embedding import embed_script, embed_style

__all__ = ["fill_template"]

PACKAGE = "nnunet_stochastic.report.page"
SCRIPTS = (
    *("vendor/tabulator.min.js", "vendor/niivue.umd.js"),
    *("assets/viewer.js", "assets/details.js", "assets/page.js"),
)
STYLES = ("vendor/tabulator.min.css", "assets/page.css")
LICENCES = ("niivue", "niivue_dependencies", "tabulator")


def fill_template(name: str, *, title: str, browser: CaseBrowser, **content: Any) -> Iterator[str]:
    """A page in pieces, to be written one after the other.

    Parameters
    ----------
    name
        Template below ``assets``.
    title
        Heading of the page.
    browser
        Its cases.
    content
        What the template has besides.
    """
    environment = Environment(
        loader=PackageLoader(PACKAGE, "assets"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(name).generate(
        title=title,
        version=nnunet_stochastic.__version__,
        style=embed_style("\n".join(map(_read, STYLES))),
        scripts=[embed_script(_read(name)) for name in SCRIPTS],
        licences=[(name, _read(f"vendor/{name}.LICENSE.txt")) for name in LICENCES],
        viewer_cases=len(browser.volumes),
        notes=sum(note is not None for note in browser.notes),
        num_cases=len(browser.cases),
        data=browser.data(),
        volumes=browser.volume_texts(),
        **content,
    )


def _read(name: str) -> str:
    return resources.files(PACKAGE).joinpath(name).read_text(encoding="utf-8")
