"""Every way to damage a JSON or CSV file that is well formed otherwise, and what a command may do with it."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MISSING = object()
#: What may stand where something else belongs.
VALUES = {
    "removed": MISSING,
    "null": None,
    "text": "text",
    "list": [[]],
    "object": {"x": []},
    "true": True,
    "number": -3,
    "NaN": float("nan"),
}
#: That nothing but a list or an object may be: what is read of them must not pass for a value.
STRUCTURES = ("list", "object")
CELLS = {
    "empty": "",
    "text": "text",
    "NaN": "nan",
    "infinity": "inf",
    "number": "-3",
    "NUL": "\0",
    "line break": "a\nb",
}


def places(content: Any, place: tuple = ()) -> Iterator[tuple]:
    """Paths of all values of a document but itself."""
    children = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, child in children:
        yield (*place, key)
        yield from places(child, (*place, key))


def json_damages(text: str) -> list[tuple[str, str]]:
    """Name and text of every damage of one value."""
    good = json.loads(text)
    found = []
    for place in places(good):
        for kind, value in VALUES.items():
            content = copy.deepcopy(good)
            entry = content
            for key in place[:-1]:
                entry = entry[key]
            if type(entry[place[-1]]) is type(value) and kind != "number":
                continue
            if value is MISSING:
                del entry[place[-1]]
            else:
                entry[place[-1]] = value
            found.append((f"{'.'.join(map(str, place))}: {kind}", json.dumps(content)))
    return found


def csv_damages(text: str) -> list[tuple[str, str]]:
    """Name and text of every damage of one cell, row or column."""
    good = list(csv.reader(io.StringIO(text)))

    def written(rows: list[list[str]]) -> str:
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(rows)
        return stream.getvalue()

    found = []
    for row, line in enumerate(good):
        for column in range(len(line)):
            for kind, value in CELLS.items():
                rows = copy.deepcopy(good)
                rows[row][column] = value
                found.append((f"row {row} column {good[0][column]}: {kind}", written(rows)))
        found += [
            (f"row {row}: removed", written(good[:row] + good[row + 1 :])),
            (f"row {row}: twice", written([*good[: row + 1], *good[row:]])),
            (f"row {row}: short", written([*good[:row], line[:-1], *good[row + 1 :]])),
            (f"row {row}: long", written([*good[:row], [*line, "1"], *good[row + 1 :]])),
        ]
    for column, name in enumerate(good[0]):
        found += [
            (f"column {name}: removed", written([line[:column] + line[column + 1 :] for line in good])),
            (f"column {name}: twice", written([[*line, line[column]] for line in good])),
        ]
    return found


def read_folder(folder: Path) -> dict[str, bytes]:
    """Content of all files below a folder, or of a file."""
    files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder.parent)): path.read_bytes() for path in files}


def problem_of(
    command: Callable[[], int],
    capsys: Any,
    file: str,
    damage: str,
    good: tuple[int, Any] | None,
    made: Callable[[], Any],
) -> str | None:
    """What is wrong with how a command takes a damaged file: it names it in a line, or does what it does without.

    Parameters
    ----------
    command
        Runs it and returns its exit status.
    capsys
        Fixture of pytest.
    file
        Name of the file.
    damage
        What is wrong with it.
    good
        Exit status and what is made of the file as it was.
    made
        Function that collects what the command made.
    """
    capsys.readouterr()
    try:
        status = command()
    except BaseException as error:
        return f"{file}: {damage}: {type(error).__name__}: {str(error)[:200]}"
    error = capsys.readouterr().err
    if "Traceback" in error:
        return f"{file}: {damage}: traceback"
    if status != 0:
        lines = [line for line in error.splitlines() if file.split("/")[-1] in line]
        if not lines:
            return f"{file}: {damage}: is not named: {error[:300]}"
        if max(map(len, error.splitlines())) > 900:
            return f"{file}: {damage}: a long message"
        return None
    if good is not None and damage.rpartition(": ")[2] in STRUCTURES and (status, made()) != good:
        return f"{file}: {damage}: another result without a word"
    return None
