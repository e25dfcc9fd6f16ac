"""The numbers of the page as tables of text: segmentation quality, measure by task, Δ, and what was left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean

from nnunet_stochastic.evaluation.bootstrap import name_resampled
from nnunet_stochastic.evaluation.borders import WITH_BORDER, describe_images_without_border
from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.entrants import LEAST_ENTRANTS, failures
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun, number
from nnunet_stochastic.evaluation.maps import MEASURES
from nnunet_stochastic.evaluation.tasks import (
    ARROWS,
    OUT_OF_DISTRIBUTION,
    RANKED,
    TASKS,
    UNRANKED,
    Task,
)
from nnunet_stochastic.report.raters import EXPLANATION, OF_RATERS, RATERS_ROW, SPREAD

__all__ = [
    "Cell",
    "Table",
    "class_tables",
    "delta_table",
    "failed_models",
    "left_out",
    "measure_table",
    "quality_table",
]

MISSING = "–"
ALL_CLASSES = "all classes"
PARTS = {WITH_BORDER: "with a border"}


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
    """

    read: Callable[[EvaluatedRun], float]
    form: str
    direction: int
    has_best: bool = True


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


def quality_table(results: Sequence[EvaluatedRun]) -> Table:
    """How good the segmentations and probabilities are."""
    in_percent = all(result.convention.dice_in_percent for result in results)
    scale, unit, form = (100, " (%)", "{:.2f}") if in_percent else (1, "", "{:.3f}")
    of_tasks = {heading: (task, column) for task in UNRANKED for heading, column in _columns_of(task, results)}
    columns: dict[str, Column] = {
        "cases": Column(lambda result: float(result.summary["num_cases"]), "{:.0f}", 0),
        f"Dice{unit}": Column(lambda result: scale * result.quality("dice"), form, 1),
        f"Dice{unit}, OOD": Column(lambda result: scale * _mean(_shift_dice(result)), form, 1),
        "NLL": Column(lambda result: result.quality("nll"), "{:.4f}", -1),
        "ECE": Column(lambda result: result.quality("ece", of_dataset=True), "{:.4f}", -1),
        **{heading: column for heading, (_, column) in of_tasks.items()},
    }
    # Evaluations without samples, and those of older versions, have no such numbers.
    of_volumes = {
        heading: Column(partial(EvaluatedRun.spread, name=name), "{:.3f}", 0) for heading, name in SPREAD.items()
    }
    columns |= {
        heading: column
        for heading, column in of_volumes.items()
        if any(
            math.isfinite(result.spread(name))
            for result in results
            for name in (SPREAD[heading], OF_RATERS.get(heading, ""))
        )
    }
    reference = _rater_row(results, columns)
    has_reference = any(math.isfinite(cell.value) for cell in reference)
    captions = "".join(f" {task.caption}." for task in UNRANKED if task.caption and task.metric)
    raters = max(result.summary.get("num_raters", 0) for result in results)
    against = f"each of {raters} raters, averaged" if raters else "the reference"
    failed = failures(results)
    table = Table(
        f"ID set unless it says OOD (mean over the shifts). Dice, NLL (nats, mean over voxels) and ECE (voxels of all "
        f"cases together) against {against}; CRPS: mean over classes. Best GED: by the distance of the convention."
        + captions
        + (f" {EXPLANATION}" if has_reference or SPREAD.keys() & columns.keys() else ""),
        ("model",),
        tuple(heading + ARROWS[column.direction] for heading, column in columns.items()),
    )
    for result in results:
        cells = [_cell(column.read(result), column.form) for column in columns.values()]
        cells[1].warning = f"the segmentation has failed: {failed[result]}" if result in failed else ""
        for cell, heading in zip(cells, columns, strict=True):
            if heading in of_tasks:
                task, _ = of_tasks[heading]
                cell.warning = task.warn(cell.value)
                if task.of_epistemic:
                    _add_mark(cell, result)
        table.rows.append(((result.label,), cells))
    for position, column in enumerate(columns.values()):
        cells_of = ((result, cells[position]) for result, (_, cells) in zip(results, table.rows, strict=True))
        _mark_best(cells_of, column.direction if column.has_best else 0, failed)
    if has_reference:
        table.rows.append(((RATERS_ROW,), reference))
    return table


def _rater_row(results: Sequence[EvaluatedRun], columns: Mapping[str, Column]) -> list[Cell]:
    """What raters are by the same numbers, for reference: their agreement, and the spread of their volumes."""
    in_percent = all(result.convention.dice_in_percent for result in results)
    cells = []
    for heading, column in columns.items():
        name = OF_RATERS.get(heading.removesuffix(" (%)"), "")
        known = [result.spread(name) for result in results]
        scale = 100 if name == OF_RATERS["Dice"] and in_percent else 1
        cells.append(_cell(scale * _mean(known), column.form))
    return cells


def measure_table(results: Sequence[EvaluatedRun]) -> Table:
    """AU, EU and TU by task."""
    tasks = [task for task in TASKS if task.by_measure]
    columns = [(task, path) for task in tasks for path in task.paths]
    borders = {result.label: text for result in results if (text := describe_images_without_border(result))}
    if borders:
        position = columns.index((OUT_OF_DISTRIBUTION, OUT_OF_DISTRIBUTION.paths[0])) + 1
        columns.insert(position, (OUT_OF_DISTRIBUTION, (OUT_OF_DISTRIBUTION.name, WITH_BORDER)))
    notes = "".join(f" {label}: {text}." for label, text in borders.items())
    captions = [f"{_capitalized(task.heading)}: {task.caption}. " for task in tasks]
    table = Table(
        "".join(captions) + "OOD: mean over the shifts. Framed: the measure that theory names for the task." + notes,
        ("model", "measure"),
        tuple(
            ", ".join((task.heading, *(PARTS.get(part, part) for part in path[1:]))) + task.arrow
            for task, path in columns
        ),
        span=len(MEASURES),
    )
    for result in results:
        for measure in MEASURES:
            cells = []
            for task, path in columns:
                entry = (task.entry,) if task.entry else ()
                cell = _cell(result.task(*path, measure, *entry), "{:.3f}")
                cell.right = task.right == measure
                cells.append(cell)
            table.rows.append(((result.label, result.measure_name(measure)), cells))
    failed = failures(results)
    for column, (task, _) in enumerate(columns):
        rows = enumerate(cells[column] for _, cells in table.rows)
        of_model = [(results[row // len(MEASURES)], cell) for row, cell in rows]
        _mark_best([entry for entry in of_model if entry[1].right] or of_model, task.direction, failed)
    return table


def delta_table(results: Sequence[EvaluatedRun]) -> Table:
    """Δ with its bootstrap interval."""
    units: dict[str, list[str]] = {}
    for result in results:
        units.setdefault(name_resampled(result.summary), []).append(result.label)
    paths = [path for task in RANKED for path in task.paths]
    resampled = "; ".join(unit if len(units) == 1 else f"{', '.join(of)}: {unit}" for unit, of in units.items())
    table = Table(
        "Δ in [-1, 1]: above 0 the measure that theory names does the task better than the other one. In brackets: "
        f"95 % bootstrap interval over {resampled}.",
        ("model",),
        tuple(", ".join(path) + ARROWS[1] for path in paths),
    )
    for result in results:
        cells = []
        for path in paths:
            cell = _cell(number(result.summary["delta"], *path, "value"), "{:+.3f}")
            entry = result.summary["delta"].get(path[0]) or {}
            interval = (entry if len(path) == 1 else entry.get(path[1]) or {}).get("interval")
            if interval and None not in interval:
                cell.text += f" [{interval[0]:+.3f}, {interval[1]:+.3f}]"
            _add_mark(cell, result)
            cells.append(cell)
        table.rows.append(((result.label,), cells))
    failed = failures(results)
    for column in range(len(paths)):
        _mark_best(((result, cells[column]) for result, (_, cells) in zip(results, table.rows, strict=True)), 1, failed)
    return table


def class_tables(results: Sequence[EvaluatedRun]) -> list[Table]:
    """Tasks with several numbers per class, such as those of challenges: over all classes, ID and OOD."""
    found = [_class_table(task, results) for task in TASKS if task.by_class and not task.metric]
    return [table for table in found if table is not None]


def _class_table(task: Task, results: Sequence[EvaluatedRun]) -> Table | None:
    splits = {result.label: result.summary["tasks"].get(task.name, {}) for result in results}
    entries = {
        label: {
            f"{metric}, {split}{ARROWS[task.directions.get(metric, 0)]}": number(tree, split, ALL_CLASSES, metric)
            for split in task.splits
            for metric in tree.get(split, {}).get(ALL_CLASSES, {})
        }
        for label, tree in splits.items()
        if tree
    }
    if not entries:
        return None
    columns = tuple(dict.fromkeys(name for numbers in entries.values() for name in numbers))
    table = Table(f"{task.caption}.", ("model",), columns)
    for label, numbers in entries.items():
        table.rows.append(((label,), [_cell(numbers.get(name, math.nan), "{:.4g}") for name in columns]))
    return table


def failed_models(results: Sequence[EvaluatedRun]) -> list[str]:
    """A line for each model whose segmentation has failed."""
    return [
        f"The segmentation of {result.label} has failed ({reason}), so that it is never the best."
        for result, reason in failures(results).items()
    ]


def left_out(results: Sequence[EvaluatedRun]) -> list[tuple[str, str, list[str]]]:
    """Task, reason, and the models that it was left out of."""
    models: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for task, reason in result.summary["left_out"].items():
            models.setdefault((task, str(reason)), []).append(result.label)
    return [(task, reason, labels) for (task, reason), labels in models.items()]


def _columns_of(task: Task, results: Sequence[EvaluatedRun]) -> Iterator[tuple[str, Column]]:
    """Columns of a task that needs no measure: by split, and by variant, of which those of conventions are ranked."""
    if task.by_class:
        if task.metric:
            yield task.title, Column(partial(_mean_of_classes, task=task), "{:.3g}", task.direction)
        return
    ranked = [task.variant_of(result.convention) for result in results]
    for variant in task.variants_in_tables(*ranked) or ("",):
        heading = task.variant_name(variant) if variant else task.title
        has_best = not variant or variant in ranked
        for split in task.splits:
            path = (task.name, variant, split) if variant else (task.name, split)
            ending = "" if split == ID else f", {split}"
            yield heading + ending, Column(partial(_number_of, path=path), "{:.3f}", task.direction, has_best)


def _number_of(result: EvaluatedRun, *, path: tuple[str, ...]) -> float:
    return result.task(*path)


def _mean_of_classes(result: EvaluatedRun, *, task: Task) -> float:
    scores = (result.summary["tasks"].get(task.name) or {}).get(ID) or {}
    return _mean(number(scores, name) for name in scores)


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def _shift_dice(result: EvaluatedRun) -> list[float]:
    sets = result.summary.get("set_results") or {}
    groups = [("raters" if "raters" in entry else "reference", entry) for entry in sets.values()]
    return [number(entry, group, "all classes", "mean", "dice") for group, entry in groups]


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return fmean(known) if known else math.nan


def _cell(value: float, form: str) -> Cell:
    return Cell(form.format(value) if math.isfinite(value) else MISSING, value)


def _add_mark(cell: Cell, result: EvaluatedRun) -> None:
    """Behind a number that is made of EU."""
    if math.isfinite(cell.value):
        cell.text += result.mark


def _mark_best(cells: Iterable[tuple[EvaluatedRun, Cell]], direction: int, failed: Mapping[EvaluatedRun, str]) -> None:
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
