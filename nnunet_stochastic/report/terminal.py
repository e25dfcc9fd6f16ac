"""Tables on a terminal of any width: no heading and no number is cut.

A column is as wide as its longest word at least; what is left of the width goes to the columns from the left. Columns
that do not fit any more follow in a table of their own, behind the first column again, without the rows that have
nothing in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table

__all__ = ["print_table", "with_interval"]


def print_table(console: Console, table: Table) -> None:
    """Print a table whose first column names its rows; in parts where the console is narrow."""
    ranges = [_range(console, column) for column in table.columns]
    parts = list(_parts([each.minimum for each in ranges], _frame(table), console.width))
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    for place, columns in enumerate(parts):
        title = f"{table.title} (continued)" if place and table.title else table.title
        part = Table(
            *map(Column.copy, (table.columns[index] for index in columns)),
            title=title,
            caption=table.caption if len(parts) == 1 else None,
            box=table.box,
            padding=table.padding,
        )
        widths = _widths([ranges[index] for index in columns], console.width - _of_frame(table, len(columns)))
        for column, width in zip(part.columns, widths, strict=True):
            column.width, column.no_wrap, column.overflow = width, False, "fold"
        for row in rows:
            cells = [row[index] for index in columns]
            if len(parts) == 1 or any(cells[1:]):
                part.add_row(*cells)
        console.print(part)
    if len(parts) > 1 and table.caption:
        console.print(table.caption, style="table.caption")


def with_interval(text: str, ends: Sequence[float | None] | None, form: str) -> str:
    """A number, and in the line below its interval, where it has one; ``form``: format of the ends."""
    if ends is None or None in ends:
        return text
    low, high = (form.format(end) for end in ends)
    # A dash behind a minus cannot be read.
    return f"{text}\n{low} to {high}" if "-" in low or "-" in high else f"{text}\n{low}–{high}"


def _range(console: Console, column: Column) -> Measurement:
    """Width of the longest word and of the longest line of a column."""
    texts = [console.render_str(str(cell)) for cell in (column.header, *column.cells)]
    found = [Measurement.get(console, console.options.update(width=10_000), text) for text in texts]
    smallest, largest = (max(each[place] for each in found) for place in (0, 1))
    return Measurement(max(smallest, column.min_width or 1), max(largest, column.min_width or 1))


def _frame(table: Table) -> int:
    """What padding and line of a column take."""
    _, right, _, left = table.padding
    return right + left + 1


def _of_frame(table: Table, num_columns: int) -> int:
    return _frame(table) * num_columns + 1


def _parts(smallest: Sequence[int], frame: int, width: int) -> Iterator[list[int]]:
    """Columns of each part, the first in all of them."""
    taken = [0]
    for index in range(1, len(smallest)):
        needed = sum(smallest[each] + frame for each in (*taken, index)) + 1
        if needed > width and len(taken) > 1:
            yield taken
            taken = [0]
        taken.append(index)
    yield taken


def _widths(ranges: Sequence[Measurement], available: int) -> list[int]:
    """Widths from the smallest on; a first column whose words are too long is broken."""
    widths = [each.minimum for each in ranges]
    widths[0] = max(1, min(widths[0], available - sum(widths[1:])))
    for index, each in enumerate(ranges):
        widths[index] += max(0, min(each.maximum - widths[index], available - sum(widths)))
    return widths
