"""Pages of the site that are files of the repository elsewhere: README, examples, benchmarks, changelog and the like.

Their links are those of the repository; here they lead to pages of the site, and one to a file that is no page, such as
a script, becomes its text.
"""

from __future__ import annotations

import posixpath
import re
from functools import cache
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

__all__ = ["ROOT", "add_repository_file", "repository_files", "with_links_of_the_site"]

ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?!https?:|#)(?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


@cache
def repository_files() -> tuple[str, ...]:
    """Paths in the repository of what becomes a page or a picture of the site."""
    found = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md"]
    for pattern in ("examples/*/README.md", "examples/*/*.png"):
        found += sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))
    return tuple(found)


def add_repository_file(files: Files, config: MkDocsConfig, path: str) -> None:
    """Add a file of the repository to those of the site."""
    page = _page_of(path)
    if path.endswith(".md"):
        text = with_links_of_the_site((ROOT / path).read_text(encoding="utf-8"), path)
        files.append(File.generated(config, page, content=text))
    else:
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))


def with_links_of_the_site(text: str, path: str) -> str:
    """The text of a file of the repository with the links of its page."""
    here = posixpath.dirname(path)
    page_folder = posixpath.dirname(_page_of(path))

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, match["target"]))
        if target not in repository_files() and not (target.startswith("docs/") and (ROOT / target).exists()):
            return match["text"]
        return f"[{match['text']}]({posixpath.relpath(_page_of(target), page_folder or '.')}{match['anchor'] or ''})"

    return _LINK.sub(link, text)


def _page_of(path: str) -> str:
    """Where a file of the repository lies in the site."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path == "README.md":
        return "index.md"
    folder, name = posixpath.split(path)
    if name == "README.md":
        return f"{folder}.md"
    return posixpath.join(folder, name.lower() if name.endswith(".md") else name)
