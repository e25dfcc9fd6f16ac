"""What the tables of the page are made of: cells of text, columns that read a number of a model, and the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean

from nnunet_stochastic.evaluation.entrants import LEAST_ENTRANTS
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun

__all__ = [
    "ALL_CLASSES",
    "INTERVALS",
    "Cell",
    "Column",
    "Table",
    "add_interval",
    "add_mark",
    "cell_of",
    "mark_best",
    "mean_of",
]

MISSING = "–"
#: What the captions say of the numbers in brackets.
INTERVALS = "In brackets: 95 % bootstrap interval over the patients, or cases, that Δ is resampled by."
ALL_CLASSES = "all classes"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    read
        Function from a model to its number.
    form
        Format of the numbers.
    direction
        1 where a larger number is better, -1 where a smaller one is, 0 for neither.
    has_best
        Whether the best is marked.
    interval
        Function from a model to the interval of the number, NaN where it has none.
    """

    read: Callable[[EvaluatedRun], float]
    form: str
    direction: int
    has_best: bool = True
    interval: Callable[[EvaluatedRun], tuple[float, float]] | None = None


@dataclass
class Cell:
    """Text of a cell; ``right``: of the measure that theory names for the task; ``best``: of its column, among models
    whose segmentation has not failed."""

    text: str
    value: float = math.nan
    right: bool = False
    best: bool = False
    warning: str = ""

    @property
    def number(self) -> str:
        """The number as it is printed, without the interval and the mark behind it."""
        return self.text.partition(" ")[0]


@dataclass(frozen=True)
class Table:
    """Caption, headings, and rows of a heading (model, or model and measure) and cells; a model has ``span`` rows.

    Columns end in the direction in which their numbers are better.
    """

    caption: str
    heading: tuple[str, ...]
    columns: tuple[str, ...]
    rows: list[tuple[tuple[str, ...], list[Cell]]] = field(default_factory=list)
    span: int = 1


def mean_of(values: Iterable[float]) -> float:
    """Mean of those that are finite, NaN where none is."""
    known = [value for value in values if math.isfinite(value)]
    return fmean(known) if known else math.nan


def cell_of(value: float, form: str) -> Cell:
    """A number in print."""
    return Cell(form.format(value) if math.isfinite(value) else MISSING, value)


def add_interval(cell: Cell, ends: tuple[float, float], form: str) -> None:
    """Behind a number its interval, which the page shows below it."""
    if math.isfinite(cell.value) and all(map(math.isfinite, ends)):
        cell.text += f" [{form.format(ends[0])}, {form.format(ends[1])}]"


def add_mark(cell: Cell, result: EvaluatedRun) -> None:
    """Behind a number that is made of EU."""
    if math.isfinite(cell.value):
        cell.text += result.mark


def mark_best(cells: Iterable[tuple[EvaluatedRun, Cell]], direction: int, failed: Mapping[EvaluatedRun, str]) -> None:
    """The best of a column, and what is equal to it in print, if several models compete.

    Models do that have a number, and whose segmentation has not failed.

    Parameters
    ----------
    cells
        The column's cells with their models.
    direction
        1: the largest is the best, -1: the smallest, 0: there is no better.
    failed
        Result of ``failures``.
    """
    competing = [(result, cell) for result, cell in cells if math.isfinite(cell.value) and result not in failed]
    if direction and len({id(result) for result, _ in competing}) >= LEAST_ENTRANTS:
        _, best = max(competing, key=lambda entry: direction * entry[1].value)
        for _, cell in competing:
            cell.best = cell.number == best.number
