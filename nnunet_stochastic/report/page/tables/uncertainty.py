"""What uncertainty is good for: AU, EU and TU by task, and Δ."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_stochastic.evaluation.bootstrap import name_resampled
from nnunet_stochastic.evaluation.borders import WITH_BORDER, describe_images_without_border
from nnunet_stochastic.evaluation.entrants import failures
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun, number
from nnunet_stochastic.evaluation.maps import MEASURES
from nnunet_stochastic.evaluation.tasks import ARROWS, OUT_OF_DISTRIBUTION, RANKED, TASKS
from nnunet_stochastic.report.page.tables.cells import INTERVALS, Table, add_interval, add_mark, cell_of, mark_best

__all__ = ["delta_table", "measure_table"]

PARTS = {WITH_BORDER: "with a border"}


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
        "".join(captions)
        + "OOD: mean over the shifts. Framed: the measure that theory names for the task."
        + (f" {INTERVALS}" if any("intervals" in result.summary for result in results) else "")
        + notes,
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
                cell = cell_of(result.task(*path, measure, *entry), "{:.3f}")
                add_interval(cell, result.interval("tasks", *path, measure, *entry), "{:.3f}")
                cell.right = task.right == measure
                cells.append(cell)
            table.rows.append(((result.label, result.measure_name(measure)), cells))
    failed = failures(results)
    for column, (task, _) in enumerate(columns):
        rows = enumerate(cells[column] for _, cells in table.rows)
        of_model = [(results[row // len(MEASURES)], cell) for row, cell in rows]
        mark_best([entry for entry in of_model if entry[1].right] or of_model, task.direction, failed)
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
            cell = cell_of(number(result.summary["delta"], *path, "value"), "{:+.3f}")
            entry = result.summary["delta"].get(path[0]) or {}
            interval = (entry if len(path) == 1 else entry.get(path[1]) or {}).get("interval")
            if interval and None not in interval:
                cell.text += f" [{interval[0]:+.3f}, {interval[1]:+.3f}]"
            add_mark(cell, result)
            cells.append(cell)
        table.rows.append(((result.label,), cells))
    failed = failures(results)
    for column in range(len(paths)):
        mark_best(((result, cells[column]) for result, (_, cells) in zip(results, table.rows, strict=True)), 1, failed)
    return table


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
