"""The numbers of the page as tables of text: segmentation quality, measure by task, Δ, and what was left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean

from nnunet_stochastic.evaluation.bootstrap import name_resampled
from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun, number
from nnunet_stochastic.evaluation.maps import MEASURES
from nnunet_stochastic.evaluation.tasks import RANKED, TASKS, UNRANKED, Task

__all__ = ["Cell", "Table", "class_tables", "delta_table", "left_out", "measure_table", "quality_table"]

MISSING = "–"
ALL_CLASSES = "all classes"
# A column of a table: its reader, the format of its numbers, and in which direction they are better.
Column = tuple[Callable[[EvaluatedRun], float], str, int]


@dataclass
class Cell:
    """Text of a cell; ``right``: of the measure that theory names for the task; ``best``: of its column."""

    text: str
    value: float = math.nan
    right: bool = False
    best: bool = False
    warning: str = ""


@dataclass(frozen=True)
class Table:
    """Caption, headings, and rows of a heading (model, or model and measure) and cells; a model has ``span`` rows."""

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
        "cases": (lambda result: float(result.summary["num_cases"]), "{:.0f}", 0),
        f"Dice{unit}": (lambda result: scale * result.quality("dice"), form, 1),
        f"Dice{unit}, OOD": (lambda result: scale * _mean(_shift_dice(result)), form, 1),
        "NLL": (lambda result: result.quality("nll"), "{:.4f}", -1),
        "ECE": (lambda result: result.quality("ece", of_dataset=True), "{:.4f}", -1),
        **{heading: column for heading, (_, column) in of_tasks.items()},
    }
    captions = "".join(f" {task.caption}." for task in UNRANKED if task.caption and task.metric)
    raters = max(result.summary.get("num_raters", 0) for result in results)
    against = f"each of {raters} raters, averaged" if raters else "the reference"
    table = Table(
        f"ID set unless it says OOD (mean over the shifts). Dice, NLL (nats, mean over voxels) and ECE (voxels of all "
        f"cases together) against {against}; CRPS: mean over classes. Best GED: by the distance of the convention."
        + captions,
        ("model",),
        tuple(columns),
    )
    for result in results:
        cells = [_cell(read(result), form) for read, form, _ in columns.values()]
        for cell, heading in zip(cells, columns, strict=True):
            if heading in of_tasks:
                task, _ = of_tasks[heading]
                cell.warning = task.warn(cell.value)
                if task.of_epistemic:
                    _add_mark(cell, result)
        table.rows.append(((result.label,), cells))
    for column, (_, _, direction) in enumerate(columns.values()):
        _mark_best([cells[column] for _, cells in table.rows], direction)
    return table


def measure_table(results: Sequence[EvaluatedRun]) -> Table:
    """AU, EU and TU by task."""
    tasks = [task for task in TASKS if task.by_measure]
    columns = [(task, path) for task in tasks for path in task.paths]
    captions = [
        f"{_capitalized(task.heading)}: {task.caption}{' (lower is better)' if task.direction < 0 else ''}. "
        for task in tasks
    ]
    table = Table(
        "".join(captions) + "OOD: mean over the shifts. Framed: the measure that theory names for the task.",
        ("model", "measure"),
        tuple(", ".join((task.heading, *path[1:])) for task, path in columns),
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
    for column, (task, _) in enumerate(columns):
        cells = [cells[column] for _, cells in table.rows]
        _mark_best([cell for cell in cells if cell.right] or cells, task.direction)
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
        tuple(map(", ".join, paths)),
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
    for column in range(len(paths)):
        _mark_best([cells[column] for _, cells in table.rows], 1)
    return table


def class_tables(results: Sequence[EvaluatedRun]) -> list[Table]:
    """Tasks with several numbers per class, such as those of challenges: over all classes, ID and OOD."""
    found = [_class_table(task, results) for task in TASKS if task.by_class and not task.metric]
    return [table for table in found if table is not None]


def _class_table(task: Task, results: Sequence[EvaluatedRun]) -> Table | None:
    splits = {result.label: result.summary["tasks"].get(task.name, {}) for result in results}
    entries = {
        label: {
            f"{metric}, {split}": number(tree, split, ALL_CLASSES, metric)
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
            yield task.title, (partial(_mean_of_classes, task=task), "{:.3g}", task.direction)
        return
    ranked = [task.variant_of(result.convention) for result in results]
    for variant in task.variants_in_tables(*ranked) or ("",):
        heading = task.variant_name(variant) if variant else task.title
        direction = task.direction if not variant or variant in ranked else 0
        for split in task.splits:
            path = (task.name, variant, split) if variant else (task.name, split)
            ending = "" if split == ID else f", {split}"
            yield heading + ending, (partial(_number_of, path=path), "{:.3f}", direction)


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


def _mark_best(cells: Sequence[Cell], direction: int) -> None:
    """Among at least two that are known; ``direction`` 1: the largest, -1: the smallest, 0: there is no better."""
    known = [cell for cell in cells if math.isfinite(cell.value)]
    if direction and len(known) > 1:
        best = max(direction * cell.value for cell in known)
        for cell in known:
            cell.best = direction * cell.value == best
