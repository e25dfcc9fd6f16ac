"""The list of a folder to review: a row per case, and of each case its structures and lesions.

A row has the numbers of the structure that is to be doubted most: that of the largest expected loss where there are
decisions, else that on which samples (or members) agree least.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nnunet_stochastic.decisions.review import REVIEW_LEVEL
from nnunet_stochastic.evaluation.case_sets import SetFolders
from nnunet_stochastic.evaluation.model import stand_in_mark, unfinished_cases
from nnunet_stochastic.report.page.cases import CaseDetails, CaseSource, DecidedMasks, PageCase, PredictionFolder
from nnunet_stochastic.report.page.columns import OF_IMAGES, ListColumn
from nnunet_stochastic.report.page.review_folder import AGREEMENT, Review, Row, value

__all__ = ["columns_of", "lesion_columns", "level_of", "order_in_words", "review_cases", "structure_columns"]

_VOLUME = ListColumn("volume_ml", "ml", 84, below="interval")
_AGREEMENT = {
    AGREEMENT[0]: ListColumn(AGREEMENT[0], "Dice of samples", 66, direction=1, first="asc"),
    AGREEMENT[1]: ListColumn(AGREEMENT[1], "Dice of members", 70, direction=1, first="asc"),
}
_STRUCTURE = ListColumn("structure", "structure", 90, "text", first="asc")
_DICE = ListColumn("predicted_dice", "predicted Dice", 82, direction=1, first="asc", below="at_least")
_LOSS = ListColumn("expected_loss", "expected loss", 86, direction=-1)
_ORDERS = {
    "place": "the one to open first on top",
    AGREEMENT[0]: "those on top whose samples agree least, by the mean Dice of pairs on their worst structure",
    AGREEMENT[1]: "those on top whose members agree least, by the mean Dice of pairs on their worst structure",
    "TU": "the largest mean total uncertainty on top",
    "case": "by name, since nothing is known of how sure they are",
}


_UNFINISHED = "its files are of an earlier prediction, which was interrupted when it was made anew; predict it again"


def level_of(review: Review) -> float:
    """Level of the intervals and lower bounds that are shown, in (0, 1)."""
    levels = review.decisions.levels if review.decisions is not None else []
    return next((level for level in levels if math.isclose(level, REVIEW_LEVEL)), max(levels, default=REVIEW_LEVEL))


def order_in_words(review: Review) -> str:
    """How the cases are sorted."""
    return _ORDERS[review.sorted_by]


def columns_of(review: Review) -> list[ListColumn]:
    """Columns of the list; those without any value are left out by the page."""
    structure = [_STRUCTURE] if len(review.names) > 1 else []
    if review.decisions is None:
        return [*structure, *_AGREEMENT.values(), _VOLUME, *OF_IMAGES]
    return [
        ListColumn("place", "#", 38, "count", first="asc"),
        *structure,
        _DICE,
        _VOLUME,
        ListColumn("removed", "error removed", 78, "share", first="asc"),
        ListColumn("reason", "why", 196, "text", first="asc"),
        ListColumn("percentile", "percentile", 92, below="score"),
        ListColumn("label_next", "label next", 56, "count", first="asc"),
        _LOSS,
        *OF_IMAGES,
    ]


def structure_columns(review: Review) -> list[ListColumn]:
    """Columns of the structures of a case."""
    return [
        _STRUCTURE,
        *([] if review.decisions is None else [_DICE]),
        _VOLUME,
        *_AGREEMENT.values(),
        *([] if review.decisions is None else [_LOSS]),
    ]


def lesion_columns(review: Review) -> list[ListColumn]:
    """Columns of the lesions of a case, behind the button that leads to each."""
    probability = [] if review.decisions is None else [ListColumn("probability", "probability")]
    return [
        *probability,
        ListColumn("existence", "in samples", kind="share"),
        ListColumn("volume_ml", "ml"),
        ListColumn("centre", "centre (mm)", kind="text"),
        ListColumn("remark", "", kind="text"),
    ]


def review_cases(review: Review, open_folder: Callable[[Path], PredictionFolder]) -> list[PageCase]:
    """The cases, in the order in which to open them.

    Parameters
    ----------
    review
        The folder.
    open_folder
        Function that finds out about a prediction folder; a ``ValueError`` or ``OSError`` of it becomes the reason in
        ``source``.
    """
    opened: PredictionFolder | str
    try:
        opened = open_folder(review.predictions)
    except (ValueError, OSError) as error:
        opened = str(error)
    unfinished = unfinished_cases(review.predictions)
    masks = None
    if review.masks and review.alpha is not None:
        masks = DecidedMasks(review.folder, review.masks, review.alpha)
    places = SetFolders(review.predictions)

    def source(case: str) -> CaseSource | str:
        if case in unfinished:
            return _UNFINISHED
        return opened if isinstance(opened, str) else CaseSource(case, opened, places, masks)

    return [PageCase(_row(review, case), source(case), _details(review, case)) for case in review.cases]


def _row(review: Review, case: str) -> dict[str, Any]:
    reviewed = review.reviewed.get(case, {})
    structures = {row["structure"]: row for row in review.structures.get(case, ())}
    doubted = reviewed.get("structure") or next(
        (least[1] for column in AGREEMENT if (least := review.agreement(case, column)) is not None), ""
    )
    if not doubted and len(structures) == 1:
        (doubted,) = structures
    row: dict[str, Any] = {"case": case, "set": None, "model": None, "mark": stand_in_mark(review.model)}
    row |= _of_structure(review, structures[doubted]) if doubted in structures else {}
    row |= {measure: _rounded(mean) for measure, mean in review.uncertainty.get(case, {}).items()}
    for column in ("place", "removed", "percentile", "label_next"):
        row[column] = _rounded(value(reviewed, column))
    return row | {"reason": reviewed.get("reason") or None, "score": reviewed.get("score") or None}


def _of_structure(review: Review, row: Row) -> dict[str, Any]:
    """What the page shows of a structure of a case."""
    numbers = {column: _rounded(value(row, column)) for column in ("volume_ml", *AGREEMENT)}
    if review.decisions is None:
        low, high, what = value(row, "sample_p5_ml"), value(row, "sample_p95_ml"), {}
    else:
        level = f"{100 * level_of(review):g}"
        low, high = value(row, f"volume_from_ml_{level}"), value(row, f"volume_to_ml_{level}")
        bound = value(row, f"dice_at_least_{level}")
        what = {
            "predicted_dice": _rounded(value(row, "predicted_dice")),
            "at_least": None if bound is None else f"≥ {bound:.2f}",
            "expected_loss": _rounded(value(row, "expected_loss")),
        }
    interval = None if low is None or high is None else f"{_short(low)} to {_short(high)}"
    return {"structure": row["structure"], **numbers, "interval": interval, **what}


def _details(review: Review, case: str) -> CaseDetails:
    rows = [_of_structure(review, row) for row in review.structures.get(case, ())]
    lesions, centres = [], []
    for row in (review.lesions or {}).get(case, ()):
        x, y, z = (value(row, f"centre_{axis}_mm") or 0.0 for axis in "xyz")
        numbers = {column: _rounded(value(row, column)) for column in ("probability", "existence", "volume_ml")}
        remark = "candidate" if row["candidate"] == "True" else None
        centre = f"{x:.1f}, {y:.1f}, {z:.1f}"
        lesions.append({"name": f"{row['structure']} {row['number']}", **numbers, "centre": centre, "remark": remark})
        centres.append((x, y, z))
    return CaseDetails(rows, lesions, centres)


def _rounded(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.6g}")


def _short(number: float) -> str:
    return "∞" if math.isinf(number) else f"{number:.3g}"
