"""The summary of an evaluation as tables for the terminal: scores by class, and measures of uncertainty by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from nnunet_stochastic.conventions import find_convention
from nnunet_stochastic.evaluation.bootstrap import name_resampled
from nnunet_stochastic.evaluation.borders import images_without_border
from nnunet_stochastic.evaluation.maps import MEASURES
from nnunet_stochastic.evaluation.model import STAND_IN_FOOTNOTE, stand_in_mark
from nnunet_stochastic.evaluation.scores import DIRECTIONS
from nnunet_stochastic.evaluation.tasks import ARROWS, TASKS, UNRANKED, Task
from nnunet_stochastic.io.names import counted
from nnunet_stochastic.report.terminal import with_interval

__all__ = ["structure_table", "summary_table", "task_table"]


def summary_table(summary: Mapping, *, annotation: str) -> Table:
    """Means over cases per class, and ECE and MCE over the data set.

    Parameters
    ----------
    summary
        ``Evaluation.summary``.
    annotation
        ``reference`` or ``raters``.
    """
    raters = f"{counted(summary['num_raters'], 'rater')}, averaged"
    against = {"reference": "the reference", "raters": raters}[annotation]
    table = Table(
        title=f"Against {against}: {counted(summary['num_cases'], 'case')}",
        caption=f"means over cases, NLL in nats; pooled: from the voxels of all cases together{_below(summary)}",
    )
    table.add_column("class", no_wrap=True)
    in_percent = find_convention(summary["convention"]).dice_in_percent
    unit = " (%)" if in_percent else ""
    headings = ((f"Dice{unit}", "dice"), ("NLL", "nll"), ("Brier", "brier"), ("ECE", "ece"), ("MCE", "mce"))
    for heading, metric in (*headings, ("ECE pooled", "ece"), ("MCE pooled", "mce")):
        table.add_column(heading + ARROWS[DIRECTIONS[metric]], justify="right")
    for name, result in summary["results"][annotation].items():
        intervals = _intervals_of_class(summary, annotation, name)
        cells = [
            _cell(result[kind][metric], intervals.get(kind, {}).get(metric), 4)
            for kind, metric in (
                *(("mean", metric) for metric in ("nll", "brier", "ece", "mce")),
                *(("dataset", metric) for metric in ("ece", "mce")),
            )
        ]
        scale, digits = (100, 2) if in_percent else (1, 4)
        dice = _cell(result["mean"]["dice"], intervals.get("mean", {}).get("dice"), digits, scale=scale)
        table.add_row(escape(name), dice, *cells)
    return table


def structure_table(summary: Mapping, *, annotation: str) -> Table:
    """Means over cases of the surfaces' distances and of the lesion-wise Dice per class.

    Parameters
    ----------
    summary, annotation
        Those of ``summary_table``.
    """
    tolerance = f"NSD within {summary['nsd_tolerance_mm']:g} mm"
    table = Table(
        title="Surfaces and lesions",
        caption=f"{tolerance}; a structure that one lacks: the image's diagonal{_below(summary)}",
    )
    table.add_column("class", no_wrap=True)
    headings = {"hd95_mm": "HD95 (mm)", "assd_mm": "ASSD (mm)", "nsd": "NSD", "lesion_dice": "lesion Dice"}
    for metric, heading in headings.items():
        table.add_column(heading + ARROWS[DIRECTIONS[metric]], justify="right")
    for name, result in summary["results"][annotation].items():
        intervals = _intervals_of_class(summary, annotation, name).get("mean", {})
        cells = (
            _cell(result["mean"][metric], intervals.get(metric), 2 if metric.endswith("_mm") else 4)
            for metric in headings
        )
        table.add_row(escape(name), *cells)
    return table


def task_table(summary: Mapping[str, Any]) -> Table:
    """Every measure in every task that was computed, Δ with its interval, and the numbers that need no measure.

    Parameters
    ----------
    summary
        Content of summary.json.
    """
    mark = stand_in_mark(summary["model"])
    table = Table(
        title=f"Uncertainty, convention {summary['convention']}",
        caption="OOD: mean over shifts; Δ: entanglement, larger is better, with the 95 % interval over "
        + name_resampled(summary)
        + (", as below the numbers" if "intervals" in summary else "")
        + (f"; {STAND_IN_FOOTNOTE}" if mark else ""),
    )
    table.add_column("task", min_width=16)  # broken where the terminal is narrow, so that numbers are not
    for heading in ("AU", f"EU{mark}", "TU", "", f"Δ{mark}{ARROWS[1]}", "interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for task in TASKS:
        if task.by_measure and task.name in summary["tasks"]:
            _add_measures(table, task, summary)
    for task in UNRANKED:
        if not task.by_class and task.name in summary["tasks"]:
            _add_numbers(table, task, summary, mark if task.of_epistemic else "")
    for task in UNRANKED:
        if task.by_class and task.metric:
            for split in task.splits:
                intervals = _at(summary.get("intervals", {}), "tasks", task.name, split)
                for name, value in (summary["tasks"].get(task.name, {}).get(split) or {}).items():
                    heading = f"{task.name} {split} {name} ({task.metric}{task.arrow})"
                    _add_number(table, heading, value, intervals.get(name))
    return table


def _add_measures(table: Table, task: Task, summary: Mapping[str, Any]) -> None:
    """Rows of a task with a number per measure: a row per split, or shift, with Δ and its interval."""
    results = summary["tasks"][task.name]
    intervals = summary.get("intervals", {}).get("tasks", {}).get(task.name, {})
    borders = results.get(task.with_border, {}) if images_without_border(results) else {}
    for path in task.paths:
        values, of_border, found = results, borders, summary["delta"].get(task.name, {})
        for split in path[1:]:
            values, of_border, found = values[split], of_border.get(split, {}), found.get(split, {})
        if any(number is not None for number in _by_measure(task, values)):
            _add_row(table, task, " ".join(path), values, _at(intervals, *path[1:]), found)
            if of_border:
                name = f"{' '.join(path)} with a border"
                _add_row(table, task, name, of_border, _at(intervals, task.with_border, *path[1:]))
    shifts = {} if task.splits else results.get("shifts", {})
    for shift, values in shifts.items() if len(shifts) > 1 else ():
        _add_row(table, task, f"{task.name} {shift}", values, _at(intervals, "shifts", shift))
        if of_border := borders.get("shifts", {}).get(shift):
            name = f"{task.name} {shift} with a border"
            _add_row(table, task, name, of_border, _at(intervals, task.with_border, "shifts", shift))


def _add_row(
    table: Table,
    task: Task,
    name: str,
    values: Mapping[str, Any],
    intervals: Mapping[str, Any],
    delta: Mapping[str, Any] | None = None,
) -> None:
    """A row of AU, EU and TU; Δ and its interval where there is such a thing."""
    low, high = (delta or {}).get("interval", (None, None))
    interval = "" if low is None else f"{low:.2f} to {high:.2f}"
    of_delta = "" if delta is None else _number(delta.get("value"), 3)
    cells = [
        _cell(number, ends, 3)
        for number, ends in zip(_by_measure(task, values), _by_measure(task, intervals), strict=True)
    ]
    table.add_row(f"{escape(name)} ({task.metric}{task.arrow})", *cells, "", of_delta, interval)


def _by_measure(task: Task, values: Mapping[str, Any]) -> list[Any]:
    """Of AU, EU and TU, None where there is none."""
    found = [values.get(measure) for measure in MEASURES]
    return [each[task.entry] if task.entry and each is not None else each for each in found]


def _add_numbers(table: Table, task: Task, summary: Mapping[str, Any], mark: str) -> None:
    """Rows of a task with a number that needs no measure: by variant, if there are variants, and split."""
    found, intervals = summary["tasks"][task.name], summary.get("intervals", {}).get("tasks", {}).get(task.name, {})
    variants = task.variants_in_tables(found[task.setting]) if task.variants else ()
    of_variants = [(task.variants[variant], found[variant], _at(intervals, variant)) for variant in variants] or [
        (task.metric, found, intervals)
    ]
    for what, values, of_values in of_variants:
        for split in task.splits:
            name = f"{task.name} {split} ({what}{task.arrow}{mark})"
            _add_number(table, name, values[split], of_values.get(split))


def _add_number(table: Table, name: str, value: float | None, ends: Sequence[float | None] | None) -> None:
    if value is not None:
        table.add_row(escape(name), "", "", "", _cell(value, ends, 3), "", "")


def _intervals_of_class(summary: Mapping[str, Any], annotation: str, name: str) -> Mapping[str, Any]:
    return _at(summary.get("intervals", {}), "results", annotation, name)


def _at(tree: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """What is at a path, nothing where it ends early."""
    for key in path:
        tree = tree.get(key, {})
    return tree


def _below(summary: Mapping[str, Any]) -> str:
    return "; below: 95 % bootstrap interval" if "intervals" in summary else ""


def _cell(value: float | None, ends: Sequence[float | None] | None, digits: int, *, scale: float = 1) -> str:
    """A number, and below its interval with at most 3 decimals."""
    if value is None:
        return _number(value)
    scaled = None if ends is None else [None if end is None else scale * end for end in ends]
    return with_interval(_number(scale * value, digits), scaled, f"{{:.{min(digits, 3)}f}}")


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
