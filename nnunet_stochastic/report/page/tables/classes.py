"""Tasks with several numbers per class, such as those of challenges."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun, number
from nnunet_stochastic.evaluation.tasks import ARROWS, TASKS, Task
from nnunet_stochastic.report.page.tables.cells import ALL_CLASSES, INTERVALS, Table, add_interval, cell_of

__all__ = ["class_tables"]


def class_tables(results: Sequence[EvaluatedRun]) -> list[Table]:
    """Tasks with several numbers per class, such as those of challenges: over all classes, ID and OOD."""
    found = [_class_table(task, results) for task in TASKS if task.by_class and not task.metric]
    return [table for table in found if table is not None]


def _class_table(task: Task, results: Sequence[EvaluatedRun]) -> Table | None:
    splits = {result.label: result.summary["tasks"].get(task.name, {}) for result in results}
    intervals = {
        result.label: {
            _heading(task, metric, split): result.interval("tasks", task.name, split, ALL_CLASSES, metric)
            for split in task.splits
            for metric in task.directions
        }
        for result in results
    }
    entries = {
        label: {
            _heading(task, metric, split): number(tree, split, ALL_CLASSES, metric)
            for split in task.splits
            for metric in tree.get(split, {}).get(ALL_CLASSES, {})
        }
        for label, tree in splits.items()
        if tree
    }
    if not entries:
        return None
    columns = tuple(dict.fromkeys(name for numbers in entries.values() for name in numbers))
    note = f" {INTERVALS}" if any("intervals" in result.summary for result in results) else ""
    table = Table(f"{task.caption}.{note}", ("model",), columns)
    for label, numbers in entries.items():
        cells = {name: cell_of(numbers.get(name, math.nan), "{:.4g}") for name in columns}
        for name, ends in intervals[label].items():
            if name in cells:
                add_interval(cells[name], ends, "{:.3g}")
        table.rows.append(((label,), list(cells.values())))
    return table


def _heading(task: Task, metric: str, split: str) -> str:
    return f"{metric}, {split}{ARROWS[task.directions.get(metric, 0)]}"
