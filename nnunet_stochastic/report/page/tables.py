"""The numbers of the page as tables of text: segmentation quality, measure by task, Δ, and what was left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from nnunet_stochastic.evaluation.bootstrap import name_resampled
from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.conventions import DISTANCES
from nnunet_stochastic.evaluation.maps import MEASURES
from nnunet_stochastic.evaluation.right_and_wrong import RIGHT
from nnunet_stochastic.report.page.data import Result, number

__all__ = ["Cell", "Table", "challenge_table", "delta_table", "left_out", "measure_table", "quality_table"]

MISSING = "–"
ALL_CLASSES = "all classes"
SPLITS = (("OODD",), ("AMB", ID), ("AMB", "OOD"), ("CAL", ID), ("CAL", "OOD"))
COLLAPSED = 0.01  # EU/AU below which TU is AU for all purposes


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


def quality_table(results: Sequence[Result]) -> Table:
    """How good the segmentations and probabilities are."""
    in_percent = all(result.convention.dice_in_percent for result in results)
    scale, unit, form = (100, " (%)", "{:.2f}") if in_percent else (1, "", "{:.3f}")
    columns = {
        "cases": (lambda result: float(result.summary["num_cases"]), "{:.0f}", 0),
        f"Dice{unit}": (lambda result: scale * result.quality("dice"), form, 1),
        f"Dice{unit}, OOD": (lambda result: scale * _mean(_shift_dice(result)), form, 1),
        "NLL": (lambda result: result.quality("nll"), "{:.4f}", -1),
        "ECE": (lambda result: result.quality("ece", of_dataset=True), "{:.4f}", -1),
        **_ged_columns(results),
        "volume CRPS (ml)": (lambda result: _mean(_volume_scores(result)), "{:.3g}", -1),
        "EU/AU": (lambda result: result.task("RATIO", ID), "{:.3f}", 0),
        "EU/AU, OOD": (lambda result: result.task("RATIO", "OOD"), "{:.3f}", 0),
    }
    raters = max(result.summary.get("num_raters", 0) for result in results)
    against = f"each of {raters} raters, averaged" if raters else "the reference"
    table = Table(
        f"ID set unless it says OOD (mean over the shifts). Dice, NLL (nats, mean over voxels) and ECE (voxels of all "
        f"cases together) against {against}; CRPS: mean over classes. Best GED: by the distance of the convention.",
        ("model",),
        tuple(columns),
    )
    for result in results:
        cells = [_cell(read(result), form) for read, form, _ in columns.values()]
        for cell in cells[-2:]:
            _add_mark(cell, result)
            if cell.value < COLLAPSED:
                cell.warning = "epistemic uncertainty has collapsed: TU is AU"
        table.rows.append(((result.label,), cells))
    for column, (_, _, direction) in enumerate(columns.values()):
        _mark_best([cells[column] for _, cells in table.rows], direction)
    return table


def measure_table(results: Sequence[Result]) -> Table:
    """AU, EU and TU by task."""
    table = Table(
        "OODD: AUROC, mean over the shifts. AMB: NCC with the raters' variance. CAL: ACE of the confidence made of the "
        "measure (lower is better). Failures: AURC with risk 1 - Dice (lower is better). OOD: mean over the shifts. "
        "Framed: the measure that theory names for the task.",
        ("model", "measure"),
        (*(", ".join(path) for path in SPLITS), "failures, ID", "failures, OOD"),
        span=len(MEASURES),
    )
    for result in results:
        for measure in MEASURES:
            cells = [_cell(result.task(*path, measure), "{:.3f}") for path in SPLITS]
            for cell, path in zip(cells, SPLITS, strict=True):
                cell.right = RIGHT[path[0]] == measure
            cells += [_cell(result.task("FD", split, measure, "aurc"), "{:.3f}") for split in (ID, "OOD")]
            table.rows.append(((result.label, result.measure_name(measure)), cells))
    for column in range(len(table.columns)):
        cells = [cells[column] for _, cells in table.rows]
        right = [cell for cell in cells if cell.right] or cells
        _mark_best(right, 1 if column < 3 else -1)
    return table


def delta_table(results: Sequence[Result]) -> Table:
    """Δ with its bootstrap interval."""
    units: dict[str, list[str]] = {}
    for result in results:
        units.setdefault(name_resampled(result.summary), []).append(result.label)
    resampled = "; ".join(unit if len(units) == 1 else f"{', '.join(of)}: {unit}" for unit, of in units.items())
    table = Table(
        "Δ in [-1, 1]: above 0 the measure that theory names does the task better than the other one. In brackets: "
        f"95 % bootstrap interval over {resampled}.",
        ("model",),
        tuple(", ".join(path) for path in SPLITS),
    )
    for result in results:
        cells = []
        for path in SPLITS:
            cell = _cell(number(result.summary["delta"], *path, "value"), "{:+.3f}")
            entry = result.summary["delta"].get(path[0]) or {}
            interval = (entry if len(path) == 1 else entry.get(path[1]) or {}).get("interval")
            if interval and None not in interval:
                cell.text += f" [{interval[0]:+.3f}, {interval[1]:+.3f}]"
            _add_mark(cell, result)
            cells.append(cell)
        table.rows.append(((result.label,), cells))
    for column in range(len(SPLITS)):
        _mark_best([cells[column] for _, cells in table.rows], 1)
    return table


def challenge_table(results: Sequence[Result]) -> Table | None:
    """The metrics of the CURVAS challenges over all classes, ID and OOD, where they were asked for."""
    splits = {result.label: result.summary["tasks"].get("CURVAS", {}) for result in results}
    entries = {
        label: {
            f"{metric}, {split}": number(tree, split, ALL_CLASSES, metric)
            for split in (ID, "OOD")
            for metric in tree.get(split, {}).get(ALL_CLASSES, {})
        }
        for label, tree in splits.items()
        if tree
    }
    if not entries:
        return None
    columns = tuple(dict.fromkeys(name for numbers in entries.values() for name in numbers))
    table = Table("Metrics of the CURVAS challenges, over all classes; crps_ml in ml.", ("model",), columns)
    for label, numbers in entries.items():
        table.rows.append(((label,), [_cell(numbers.get(name, math.nan), "{:.4g}") for name in columns]))
    return table


def left_out(results: Sequence[Result]) -> list[tuple[str, str, list[str]]]:
    """Task, reason, and the models that it was left out of."""
    models: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for task, reason in result.summary["left_out"].items():
            models.setdefault((task, str(reason)), []).append(result.label)
    return [(task, reason, labels) for (task, reason), labels in models.items()]


def _ged_columns(results: Sequence[Result]) -> dict[str, tuple[Callable[[Result], float], str, int]]:
    """GED by both distances, and by those of the results' conventions, which alone are better where they are lower."""
    ranked = [result.convention.distance for result in results]
    return {
        f"GED ({DISTANCES[distance]}){ending}": (
            lambda result, path=(distance, split): result.task("GED", *path),
            "{:.3f}",
            -1 if distance in ranked else 0,
        )
        for distance in dict.fromkeys(("iou", "dice", *ranked))
        for split, ending in ((ID, ""), ("OOD", ", OOD"))
    }


def _shift_dice(result: Result) -> list[float]:
    sets = result.summary.get("set_results") or {}
    groups = [("raters" if "raters" in entry else "reference", entry) for entry in sets.values()]
    return [number(entry, group, "all classes", "mean", "dice") for group, entry in groups]


def _volume_scores(result: Result) -> list[float]:
    scores = (result.summary["tasks"].get("VOLUME") or {}).get(ID) or {}
    return [number(scores, name) for name in scores]


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return fmean(known) if known else math.nan


def _cell(value: float, form: str) -> Cell:
    return Cell(form.format(value) if math.isfinite(value) else MISSING, value)


def _add_mark(cell: Cell, result: Result) -> None:
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
