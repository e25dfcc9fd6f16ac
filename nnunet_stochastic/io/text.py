"""Text, tables, JSON: written so that a reader finds the old content or the new; messages about them name the file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nnunet_stochastic.io.staging import staged_file

__all__ = [
    "FLOAT32_DIGITS",
    "as_read_back",
    "check_content",
    "read_json",
    "read_json_if_complete",
    "read_json_unless_cut",
    "write_json",
    "write_table",
    "write_text",
]

#: Significant decimal digits that tell every float32 from the others.
FLOAT32_DIGITS = 9

Content = TypeVar("Content")
_REMEDY = "restore it or make it again"
_KINDS: dict[type, str] = {dict: "an object", list: "a list"}
_TEXTS = {
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "extra_forbidden": "is not known",
    "finite_number": "must be finite",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "string_type": "must be text",
    "too_long": "must be a shorter list",
    "too_short": "must be a longer list",
}


def write_text(path: Path, text: str | Iterable[str]) -> None:
    """Write a file, given its text or its parts one after another."""
    with staged_file(path) as staged, staged.open("w", encoding="utf-8") as stream:
        stream.writelines([text] if isinstance(text, str) else text)


def write_table(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, digits: int | None = None
) -> None:
    """Write a CSV file with a header; rows by column, ``None`` and what is not there become empty.

    ``digits``: largest number of significant digits of a ``float``; without it all that tell it from others.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows if digits is None else ({key: _short(row[key], digits) for key in row} for row in rows))
    write_text(path, text.getvalue())


def _short(value: Any, digits: int) -> Any:
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def write_json(path: Path, content: Any, *, allow_nan: bool = True) -> None:
    """Write a JSON file, indented; ``allow_nan=False`` raises ``ValueError`` for NaN and infinities."""
    write_text(path, json.dumps(content, indent=2, allow_nan=allow_nan) + "\n")


@overload
def read_json(path: Path, kind: type[BaseModel], *, remedy: str = _REMEDY) -> Any: ...


@overload
def read_json(path: Path, kind: type[Content], *, remedy: str = _REMEDY) -> Content: ...


def read_json(path: Path, kind: type, *, remedy: str = _REMEDY) -> Any:
    """Content of a JSON file.

    Parameters
    ----------
    path
        File in UTF-8; a byte order mark may be there.
    kind
        Type of what the file holds, ``dict`` or ``list``, or a schema (see ``io.schemas``). The content is returned as
        it was read.
    remedy
        Advice about a file that is not there or is damaged; ends the message.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no JSON, as a file is that an interruption has cut short, or holds something else.
    """
    return _of_kind(path, _parsed(path, remedy), kind, remedy)


def check_content(place: str, content: object, schema: type[BaseModel], *, remedy: str = _REMEDY) -> None:
    """Raise ``ValueError`` for content that is not as its schema says; the first mistake, and how many more there are.

    Parameters
    ----------
    place
        File, and where in it the content stands.
    content
        Plain data.
    schema
        Its schema.
    remedy
        What to do about it; ends the message.
    """
    try:
        schema.model_validate(content, strict=True)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        where = ".".join(str(part) for part in first["loc"] if part != "[key]")
        more = f" (and {len(others)} more)" if others else ""
        raise ValueError(f"{place}: {where[:100]}{': ' if where else ''}{_worded(first)}{more}; {remedy}") from error


@overload
def read_json_if_complete(path: Path, kind: type[BaseModel]) -> Any: ...


@overload
def read_json_if_complete(path: Path, kind: type[Content]) -> Content | None: ...


def read_json_if_complete(path: Path, kind: type) -> Any:
    """Content of a JSON file, ``None`` where there is none or one that ``read_json`` would not take."""
    try:
        return read_json(path, kind)
    except (FileNotFoundError, ValueError):
        return None


@overload
def read_json_unless_cut(path: Path, kind: type[BaseModel], *, remedy: str = _REMEDY) -> Any: ...


@overload
def read_json_unless_cut(path: Path, kind: type[Content], *, remedy: str = _REMEDY) -> Content | None: ...


def read_json_unless_cut(path: Path, kind: type, *, remedy: str = _REMEDY) -> Any:
    """Content of a JSON file of this package, ``None`` where there is none or an interruption has damaged it.

    Unlike ``read_json_if_complete`` it raises ``ValueError`` for a whole file that holds something else: that is
    someone's, and must not be overwritten.
    """
    try:
        content = _parsed(path, remedy)
    except (FileNotFoundError, ValueError):
        return None
    return _of_kind(path, content, kind, remedy)


def as_read_back(content: Any) -> Any:
    """What ``read_json`` gives of a file with this content: JSON has no tuples, and its keys are texts."""
    return json.loads(json.dumps(content))


def _parsed(path: Path, remedy: str) -> Any:
    """What a JSON file holds, whatever it is."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; {remedy}") from None
    except json.JSONDecodeError as error:
        place = "the file is empty" if not error.doc else f"line {error.lineno} column {error.colno}: {error.msg}"
        raise ValueError(f"{path}: not valid JSON, {place}; {remedy}") from error
    except IsADirectoryError:
        raise ValueError(f"{path}: is a folder and no file; {remedy}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8; a number of thousands of digits
        raise ValueError(f"{path}: not valid JSON, {error}; {remedy}") from error


def _of_kind(path: Path, content: Any, kind: type, remedy: str) -> Any:
    """The content, which must be as its type or schema says."""
    if issubclass(kind, BaseModel):
        check_content(str(path), content, kind, remedy=remedy)
    elif not isinstance(content, kind):
        raise ValueError(f"{path}: {_KINDS[kind]} is needed, got {_describe(content)}; {remedy}")
    return content


def _worded(error: ErrorDetails) -> str:
    """What pydantic says of a value, in the words of other messages."""
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "rule":
        return error["msg"]
    if not error["loc"] and error["type"] in ("model_type", "list_type"):
        return f"{_KINDS[list if error['type'] == 'list_type' else dict]} is needed, got {_describe(error['input'])}"
    text = _TEXTS.get(error["type"], error["msg"].replace("Input should", "must", 1))
    return f"{text}, got {_describe(error['input'])}"


def _describe(content: object) -> str:
    return next((words for kind, words in _KINDS.items() if isinstance(content, kind)), repr(content)[:60])
