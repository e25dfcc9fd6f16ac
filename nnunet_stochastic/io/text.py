"""Text and JSON: written so that a reader finds the old content or the new, read so that a message names the file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from nnunet_stochastic.io.staging import staged_file

__all__ = ["as_read_back", "read_json", "read_json_if_complete", "write_json", "write_text"]

Content = TypeVar("Content")
_KINDS: dict[type, str] = {dict: "an object", list: "a list"}


def write_text(path: Path, text: str | Iterable[str]) -> None:
    """Write a file, given its text or its parts one after another."""
    with staged_file(path) as staged, staged.open("w", encoding="utf-8") as stream:
        stream.writelines([text] if isinstance(text, str) else text)


def write_json(path: Path, content: Any, *, allow_nan: bool = True) -> None:
    """Write a JSON file, indented; ``allow_nan=False`` raises ``ValueError`` for NaN and infinities."""
    write_text(path, json.dumps(content, indent=2, allow_nan=allow_nan) + "\n")


def read_json(path: Path, kind: type[Content], *, remedy: str = "restore it or make it again") -> Content:
    """Content of a JSON file.

    Parameters
    ----------
    path
        File in UTF-8.
    kind
        Type of what the file holds, ``dict`` or ``list``.
    remedy
        Advice about a file that is not there or is damaged; ends the message.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no JSON, as a file is that an interruption has cut short, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; {remedy}") from None
    except json.JSONDecodeError as error:
        place = "the file is empty" if not error.doc else f"line {error.lineno} column {error.colno}: {error.msg}"
        raise ValueError(f"{path}: not valid JSON, {place}; {remedy}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON, {error}; {remedy}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path}: {_KINDS[kind]} is needed, got {_describe(content)}; {remedy}")
    return content


def read_json_if_complete(path: Path, kind: type[Content]) -> Content | None:
    """Content of a JSON file, ``None`` where there is none or one that ``read_json`` would not take."""
    try:
        return read_json(path, kind)
    except (FileNotFoundError, ValueError):
        return None


def as_read_back(content: Any) -> Any:
    """What ``read_json`` gives of a file with this content: JSON has no tuples, and its keys are texts."""
    return json.loads(json.dumps(content))


def _describe(content: object) -> str:
    return next((words for kind, words in _KINDS.items() if isinstance(content, kind)), repr(content)[:60])
