"""Whether decisions held on the cases of the evaluation: a row per model, set and structure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nnunet_stochastic.decisions.review import REVIEW_LEVEL
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun, number
from nnunet_stochastic.report.page.judged import judged_sets, judgement_of, level_key
from nnunet_stochastic.report.page.tables.cells import Cell, Table, add_interval, cell_of

__all__ = ["decision_table"]

_LEVEL = f"{100 * REVIEW_LEVEL:g} %"
_FALSE_PER_CASE = "1"


def decision_table(results: Sequence[EvaluatedRun]) -> Table | None:
    """Numbers at the level of reviews; ``None`` where no evaluation was of decisions."""
    judged = {result: sets for result in results if (sets := judged_sets(result))}
    if not judged:
        return None
    alphas = dict.fromkeys(f"{100 * judgement_of(result)['alpha']:g}" for result in judged)
    table = Table(
        f"Decisions. Volume and lower bound of the Dice: how often they hold at a level of {_LEVEL}, with the 95 % "
        "binomial interval over patients; other intervals are of the bootstrap. Masks: share of the reference outside "
        f"of the outer one, and of the inner one outside of the reference, which are to be at most "
        f"{' or '.join(alphas)} %. Predicted Dice: mean error, rank correlation and AURC, and the AURC of pairwise "
        "Dice of the samples alone. Lesions: sensitivity at one false one per case, and calibration error of their "
        "probability.",
        ("model", "set", "structure"),
        (
            *(f"volume {_LEVEL}", "width (ml) ↓", "outer risk", "inner risk", "Dice error ↓", "rank corr. ↑", "AURC ↓"),
            *("AURC, pairwise ↓", f"Dice bound {_LEVEL}", "lesions ↑", "lesion ECE ↓"),
        ),
    )
    for result, sets in judged.items():
        alpha = float(judgement_of(result)["alpha"])
        for name, structures in sets.items():
            for structure, found in structures.items():
                table.rows.append(((result.label, name, structure), list(_cells(found, alpha))))
    return table


def _cells(found: Mapping[str, Any], alpha: float) -> Iterator[Cell]:
    volume = _at(found.get("volume"), REVIEW_LEVEL)
    bound = _at((found.get("dice") or {}).get("lower_bound"), REVIEW_LEVEL)
    masks = _at(found.get("masks"), alpha)
    yield _coverage(volume)
    yield _number(volume, "median_width_ml", form="{:.3g}")
    yield from (cell_of(number(masks, which, "risk"), "{:.3f}") for which in ("outer", "inner"))
    for path in (("mae",), ("rank_correlation",), ("aurc",), ("baselines", "pairwise_dice", "aurc")):
        yield _number(found, "dice", *path)
    yield _coverage(bound)
    lesions = found.get("lesions") or {}
    intervals = lesions.get("intervals") or {}
    yield _number({**lesions.get("sensitivity_at", {}), "intervals": intervals.get("sensitivity_at")}, _FALSE_PER_CASE)
    yield _number(lesions, "existence_calibration_error")


def _number(found: Mapping[str, Any], *path: str, form: str = "{:.3f}") -> Cell:
    """A number of a part of a judgement, with its interval where it has one."""
    cell = cell_of(number(found, *path), form)
    for key in path[:-1]:
        found = found.get(key) or {}
    low, high = (found.get("intervals") or {}).get(path[-1]) or (math.nan, math.nan)
    add_interval(cell, (low, high), form)
    return cell


def _at(entry: Mapping[str, Any] | None, level: float) -> Mapping[str, Any]:
    key = level_key(entry or {}, level)
    return {} if key is None or entry is None else entry[key]


def _coverage(entry: Mapping[str, Any]) -> Cell:
    cell = cell_of(number(entry, "coverage"), "{:.3f}")
    if math.isfinite(cell.value):
        cell.text += " [{:.2f}, {:.2f}]".format(*entry["interval"])
    return cell
