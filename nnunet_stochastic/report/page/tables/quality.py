"""How good segmentations and probabilities are: a row per model, and one of the raters for reference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.entrants import failures
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun, number
from nnunet_stochastic.evaluation.tasks import ARROWS, UNRANKED, Task
from nnunet_stochastic.report.page.tables.cells import (
    INTERVALS,
    Cell,
    Column,
    Table,
    add_interval,
    add_mark,
    cell_of,
    mark_best,
    mean_of,
)
from nnunet_stochastic.report.raters import EXPLANATION, OF_RATERS, RATERS_ROW, SPREAD

__all__ = ["quality_table"]


def quality_table(results: Sequence[EvaluatedRun]) -> Table:
    """How good the segmentations and probabilities are."""
    in_percent = all(result.convention.dice_in_percent for result in results)
    scale, unit, form = (100, " (%)", "{:.2f}") if in_percent else (1, "", "{:.3f}")
    of_tasks = {heading: (task, column) for task in UNRANKED for heading, column in _columns_of(task, results)}
    columns: dict[str, Column] = {
        "cases": Column(lambda result: float(result.summary["num_cases"]), "{:.0f}", 0),
        f"Dice{unit}": Column(
            lambda result: scale * result.quality("dice"),
            form,
            1,
            interval=lambda result: _scaled(result.quality_interval("dice"), scale),
        ),
        f"Dice{unit}, OOD": Column(lambda result: scale * mean_of(_shift_dice(result)), form, 1),
        "NLL": Column(
            lambda result: result.quality("nll"),
            "{:.4f}",
            -1,
            interval=lambda result: result.quality_interval("nll"),
        ),
        "ECE": Column(
            lambda result: result.quality("ece", of_dataset=True),
            "{:.4f}",
            -1,
            interval=lambda result: result.quality_interval("ece", of_dataset=True),
        ),
        **{heading: column for heading, (_, column) in of_tasks.items()},
    }
    # Evaluations without samples, and those of older versions, have no such numbers.
    of_volumes = {
        heading: Column(
            partial(EvaluatedRun.spread, name=name),
            "{:.3f}",
            0,
            interval=partial(_interval_of, path=("spread", ID, name)),
        )
        for heading, name in SPREAD.items()
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
        + (f" {INTERVALS}" if any("intervals" in result.summary for result in results) else "")
        + captions
        + (f" {EXPLANATION}" if has_reference or SPREAD.keys() & columns.keys() else ""),
        ("model",),
        tuple(heading + ARROWS[column.direction] for heading, column in columns.items()),
    )
    for result in results:
        cells = [cell_of(column.read(result), column.form) for column in columns.values()]
        for cell, column in zip(cells, columns.values(), strict=True):
            if column.interval is not None:
                add_interval(cell, column.interval(result), column.form)
        cells[1].warning = f"the segmentation has failed: {failed[result]}" if result in failed else ""
        for cell, heading in zip(cells, columns, strict=True):
            if heading in of_tasks:
                task, _ = of_tasks[heading]
                cell.warning = task.warn(cell.value)
                if task.of_epistemic:
                    add_mark(cell, result)
        table.rows.append(((result.label,), cells))
    for position, column in enumerate(columns.values()):
        cells_of = ((result, cells[position]) for result, (_, cells) in zip(results, table.rows, strict=True))
        mark_best(cells_of, column.direction if column.has_best else 0, failed)
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
        cells.append(cell_of(scale * mean_of(known), column.form))
    return cells


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
            interval = partial(_interval_of, path=("tasks", *path))
            yield heading + ending, Column(partial(_number_of, path=path), "{:.3f}", task.direction, has_best, interval)


def _number_of(result: EvaluatedRun, *, path: tuple[str, ...]) -> float:
    return result.task(*path)


def _interval_of(result: EvaluatedRun, *, path: tuple[str, ...]) -> tuple[float, float]:
    return result.interval(*path)


def _scaled(ends: tuple[float, float], scale: float) -> tuple[float, float]:
    return scale * ends[0], scale * ends[1]


def _mean_of_classes(result: EvaluatedRun, *, task: Task) -> float:
    scores = (result.summary["tasks"].get(task.name) or {}).get(ID) or {}
    return mean_of(number(scores, name) for name in scores)


def _shift_dice(result: EvaluatedRun) -> list[float]:
    sets = result.summary.get("set_results") or {}
    groups = [("raters" if "raters" in entry else "reference", entry) for entry in sets.values()]
    return [number(entry, group, "all classes", "mean", "dice") for group, entry in groups]
