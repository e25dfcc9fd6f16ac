"""What MkDocs calls when it builds the site: adds the pages that are not in docs/, and turns formulas into MathML.

Pages need nothing from elsewhere: neither fonts nor scripts are fetched.
"""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))  # MkDocs loads a hook by its path

from reference import commands_page, schemas_page, trainer_options_page
from repository import add_repository_file, repository_files, with_links_of_the_site

__all__ = ["on_files", "on_page_content", "on_page_markdown"]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for name, make in (
        ("commands", commands_page),
        ("schemas", schemas_page),
        ("trainer_options", trainer_options_page),
    ):
        files.append(File.generated(config, f"reference/{name}.md", content=make()))
    for file in repository_files():
        add_repository_file(files, config, file)
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Links of the pages in docs/, which lead to files of the repository, so that they are right there, too."""
    if page.file.generated_by is not None:
        return markdown
    return with_links_of_the_site(markdown, f"docs/{page.file.src_uri}")


def on_page_content(content: str, **_: object) -> str:
    """TeX, as arithmatex marks it, to MathML."""

    def formula(match: re.Match[str]) -> str:
        text = html.unescape(match[2]).strip()
        display = "block" if text.startswith(r"\[") else "inline"
        return f"<{match[1]}>{convert(text[2:-2], display=display)}</{match[1]}>"

    return re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', formula, content, flags=re.DOTALL)
