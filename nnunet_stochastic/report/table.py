"""The summary of an evaluation as tables for the terminal: scores by class, and measures of uncertainty by task."""

from __future__ import annotations

from collections.abc import Mapping
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
        caption="means over cases, NLL in nats; pooled: from the voxels of all cases together",
    )
    table.add_column("class", no_wrap=True)
    in_percent = find_convention(summary["convention"]).dice_in_percent
    unit = " (%)" if in_percent else ""
    headings = ((f"Dice{unit}", "dice"), ("NLL", "nll"), ("Brier", "brier"), ("ECE", "ece"), ("MCE", "mce"))
    for heading, metric in (*headings, ("ECE pooled", "ece"), ("MCE pooled", "mce")):
        table.add_column(heading + ARROWS[DIRECTIONS[metric]], justify="right")
    for name, result in summary["results"][annotation].items():
        mean, dataset = result["mean"], result["dataset"]
        dice = mean["dice"] if not in_percent or mean["dice"] is None else 100 * mean["dice"]
        values = (*(mean[metric] for metric in ("nll", "brier", "ece", "mce")), dataset["ece"], dataset["mce"])
        table.add_row(escape(name), _number(dice, 2 if in_percent else 4), *map(_number, values))
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
        title="Surfaces and lesions", caption=f"{tolerance}; a structure that one lacks: the image's diagonal"
    )
    table.add_column("class", no_wrap=True)
    headings = {"hd95_mm": "HD95 (mm)", "assd_mm": "ASSD (mm)", "nsd": "NSD", "lesion_dice": "lesion Dice"}
    for metric, heading in headings.items():
        table.add_column(heading + ARROWS[DIRECTIONS[metric]], justify="right")
    for name, result in summary["results"][annotation].items():
        values = (_number(result["mean"][metric], 2 if metric.endswith("_mm") else 4) for metric in headings)
        table.add_row(escape(name), *values)
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
            _add_numbers(table, task, summary["tasks"][task.name], mark if task.of_epistemic else "")
    for task in UNRANKED:
        if task.by_class and task.metric:
            for split in task.splits:
                for name, value in (summary["tasks"].get(task.name, {}).get(split) or {}).items():
                    _add_number(table, f"{task.name} {split} {name} ({task.metric}{task.arrow})", value)
    return table


def _add_measures(table: Table, task: Task, summary: Mapping[str, Any]) -> None:
    """Rows of a task with a number per measure: a row per split, or shift, with Δ and its interval."""
    results = summary["tasks"][task.name]
    borders = results.get(task.with_border, {}) if images_without_border(results) else {}
    for path in task.paths:
        values, of_border, found = results, borders, summary["delta"].get(task.name, {})
        for split in path[1:]:
            values, of_border, found = values[split], of_border.get(split, {}), found.get(split, {})
        if any(number is not None for number in _by_measure(task, values)):
            _add_row(table, task, " ".join(path), values, found)
            if of_border:
                _add_row(table, task, f"{' '.join(path)} with a border", of_border)
    shifts = {} if task.splits else results.get("shifts", {})
    for shift, values in shifts.items() if len(shifts) > 1 else ():
        _add_row(table, task, f"{task.name} {shift}", values)
        if of_border := borders.get("shifts", {}).get(shift):
            _add_row(table, task, f"{task.name} {shift} with a border", of_border)


def _add_row(
    table: Table, task: Task, name: str, values: Mapping[str, Any], delta: Mapping[str, Any] | None = None
) -> None:
    """A row of AU, EU and TU; Δ and its interval where there is such a thing."""
    low, high = (delta or {}).get("interval", (None, None))
    interval = "" if low is None else f"{low:.2f} to {high:.2f}"
    of_delta = "" if delta is None else _number(delta.get("value"), 3)
    cells = [_number(number, 3) for number in _by_measure(task, values)]
    table.add_row(f"{escape(name)} ({task.metric}{task.arrow})", *cells, "", of_delta, interval)


def _by_measure(task: Task, values: Mapping[str, Any]) -> list[float | None]:
    return [values[measure][task.entry] if task.entry else values[measure] for measure in MEASURES]


def _add_numbers(table: Table, task: Task, found: Mapping[str, Any], mark: str) -> None:
    """Rows of a task with a number that needs no measure: by variant, if there are variants, and split."""
    variants = task.variants_in_tables(found[task.setting]) if task.variants else ()
    of_variants = [(task.variants[variant], found[variant]) for variant in variants] or [(task.metric, found)]
    for what, splits in of_variants:
        for split in task.splits:
            _add_number(table, f"{task.name} {split} ({what}{task.arrow}{mark})", splits[split])


def _add_number(table: Table, name: str, value: float | None) -> None:
    if value is not None:
        table.add_row(escape(name), "", "", "", _number(value, 3), "", "")


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
