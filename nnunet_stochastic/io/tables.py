"""CSV tables in UTF-8: a header, and lines as long as it is."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_stochastic.io.names import is_plain

__all__ = ["CsvTable", "read_csv_table"]


@dataclass(frozen=True)
class CsvTable:
    """Texts of a table.

    Attributes
    ----------
    path
        Its file.
    header
        Names of the columns; no name is there twice.
    lines
        Numbers of the lines in the file, and their values: as many as there are columns.
    remedy
        Advice that ends messages.
    """

    path: Path
    header: tuple[str, ...]
    lines: tuple[tuple[int, tuple[str, ...]], ...]
    remedy: str

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Number of each line, and its values by column."""
        for number, values in self.lines:
            yield number, dict(zip(self.header, values, strict=True))

    def numbers(self, column: str) -> list[float]:
        """Values of a column, NaN where a cell is empty; ``ValueError`` if one is no finite number."""
        place = self.header.index(column)
        found = []
        for number, values in self.lines:
            try:
                value = float(values[place]) if values[place] else math.nan
            except ValueError:
                value = math.inf
            if math.isinf(value):
                raise ValueError(
                    f"{self.path}: line {number}: {column[:60]} must be a finite number or nothing, "
                    f"got {values[place][:60]!r}; {self.remedy}"
                )
            found.append(value)
        return found


def read_csv_table(path: Path, needed: Sequence[str] = (), *, remedy: str, delimiter: str = ",") -> CsvTable:
    """Read a table; white space around values, and empty lines, are left out.

    Parameters
    ----------
    path
        File in UTF-8; a byte order mark may be there.
    needed
        Columns that must be there.
    remedy
        Advice about a file that is no such table; ends the message.
    delimiter
        What stands between values.

    Raises
    ------
    ValueError
        It is no such table, or a name or value holds a line break or another control character.
    """
    try:
        text = io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")
        reader = csv.reader(text, strict=True, delimiter=delimiter)
        lines = [(reader.line_num, tuple(value.strip() for value in line)) for line in reader if any(line)]
    except IsADirectoryError:
        raise ValueError(f"{path}: is a folder and no file; {remedy}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: is no CSV file in UTF-8 ({error}); {remedy}") from error
    header = lines[0][1] if lines else ()
    if missing := [column for column in needed if column not in header]:
        shown = delimiter.join(header)[:100] or "nothing"
        raise ValueError(f"{path}: the header lacks {', '.join(missing)}, got {shown!a}; {remedy}")
    if twice := [column for column in dict.fromkeys(header) if column and header.count(column) > 1]:
        raise ValueError(f"{path}: the header has {twice[0][:60]!a} {header.count(twice[0])} times; {remedy}")
    for number, values in lines:
        if len(values) != len(header):
            raise ValueError(f"{path}: line {number} has {len(values)} values, the header {len(header)}; {remedy}")
        if strange := [value for value in values if not is_plain(value)]:
            raise ValueError(f"{path}: line {number} has a line break or another sign in {strange[0][:60]!a}; {remedy}")
    return CsvTable(path, header, tuple(lines[1:]), remedy)
