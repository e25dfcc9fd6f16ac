"""The summary of an evaluation as tables for the terminal: scores by class, and measures of uncertainty by task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from nnunet_stochastic.evaluation.bootstrap import name_resampled
from nnunet_stochastic.evaluation.conventions import DISTANCES, find_convention
from nnunet_stochastic.evaluation.model import STAND_IN_NOTE, stand_in_mark

__all__ = ["summary_table", "task_table"]

_MEASURES = ("AU", "EU", "TU")
# Task, what its number is, and in which direction it is better.
_BY_MEASURE = (("OODD", "AUROC ↑"), ("AMB", "NCC ↑"), ("CAL", "ACE ↓"), ("FD", "AURC ↓"))


def summary_table(summary: Mapping, *, annotation: str) -> Table:
    """Means over cases per class, and ECE and MCE over the data set.

    Parameters
    ----------
    summary
        ``Evaluation.summary``.
    annotation
        ``reference`` or ``raters``.
    """
    against = {"reference": "the reference", "raters": f"{summary['num_raters']} raters, averaged"}[annotation]
    table = Table(
        title=f"Against {against}: {summary['num_cases']} cases",
        caption="means over cases, NLL in nats; pooled: from the voxels of all cases together",
    )
    table.add_column("class", no_wrap=True)
    in_percent = find_convention(summary["convention"]).dice_in_percent
    for heading in ("Dice (%)" if in_percent else "Dice", "NLL", "Brier", "ECE", "MCE", "ECE pooled", "MCE pooled"):
        table.add_column(heading, justify="right")
    for name, result in summary["results"][annotation].items():
        mean, dataset = result["mean"], result["dataset"]
        dice = mean["dice"] if not in_percent or mean["dice"] is None else 100 * mean["dice"]
        values = (*(mean[metric] for metric in ("nll", "brier", "ece", "mce")), dataset["ece"], dataset["mce"])
        table.add_row(name, _number(dice, 2 if in_percent else 4), *map(_number, values))
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
        + (f"; {STAND_IN_NOTE}" if mark else ""),
    )
    table.add_column("task", min_width=16)  # broken where the terminal is narrow, so that numbers are not
    for heading in ("AU", f"EU{mark}", "TU", "", f"Δ{mark}", "interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    tasks, delta = summary["tasks"], summary["delta"]
    for task, what in _BY_MEASURE:
        if task not in tasks:
            continue
        for split in (None,) if task == "OODD" else ("ID", "OOD"):
            values = tasks[task] if split is None else tasks[task][split]
            numbers = [values[name]["aurc"] if task == "FD" else values[name] for name in _MEASURES]
            found = delta.get(task, {}) if split is None else delta.get(task, {}).get(split, {})
            low, high = found.get("interval", (None, None))
            if any(number is not None for number in numbers):
                interval = "" if low is None else f"{low:.2f} to {high:.2f}"
                name = f"{task} {split or ''}".rstrip()
                row = [_number(number, 3) for number in (*numbers, found.get("value"))]
                table.add_row(f"{name} ({what})", *row[:3], "", row[3], interval)
    if "GED" in tasks:
        for distance in dict.fromkeys(("iou", "dice", tasks["GED"]["distance"])):
            _add_numbers(table, "GED", f"{DISTANCES[distance]} ↓", tasks["GED"][distance])
    if "RATIO" in tasks:
        _add_numbers(table, "RATIO", f"EU/AU{mark}", tasks["RATIO"])
    for split in ("ID", "OOD"):
        for name, value in (tasks.get("VOLUME", {}).get(split) or {}).items():
            if value is not None:
                table.add_row(f"VOLUME {split} {name} (CRPS in ml ↓)", "", "", "", _number(value, 3), "", "")
    return table


def _add_numbers(table: Table, task: str, what: str, splits: Mapping[str, float | None]) -> None:
    """Rows of a number that needs no measure."""
    for split in ("ID", "OOD"):
        if splits[split] is not None:
            table.add_row(f"{task} {split} ({what})", "", "", "", _number(splits[split], 3), "", "")


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
