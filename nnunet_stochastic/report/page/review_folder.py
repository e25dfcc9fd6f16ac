"""A folder to review: predictions of new cases, and what a calibration says of them. No reference is needed.

    decisions      review.csv, structures.csv, lesions.csv, inner/, outer/ and decisions.json of
                   nnunet_stochastic_apply_calibration --method decisions, which names the predictions
    predictions    structures.csv, lesions.csv and uncertainty.json, as far as the predict command wrote them

Cases of decisions are in the order of review.csv. Without decisions the order is the first of these that is known of
some case: the mean Dice between whole samples, that between members, smallest first, each of the structure on which
they agree least; the image's mean total uncertainty, largest first; the name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_stochastic.decisions.decisions import Decisions
from nnunet_stochastic.decisions.lesions import LESIONS_FILE
from nnunet_stochastic.decisions.structures import STRUCTURES_FILE
from nnunet_stochastic.evaluation.applied_decisions import RECORD, read_record
from nnunet_stochastic.evaluation.decision_folder import REVIEW_FILE
from nnunet_stochastic.evaluation.model import describe_model, recorded_cases
from nnunet_stochastic.io.tables import read_csv_table
from nnunet_stochastic.measures import FOLDERS, Measure

__all__ = ["AGREEMENT", "Review", "ReviewedFolder", "Row", "is_decided", "open_reviewed", "read_review", "value"]

_APPLY = "run nnunet_stochastic_apply_calibration --method decisions again"
_PREDICT = "predict again"
_TEXTS = ("case", "structure", "candidate", "score", "reason")
#: What tells how well whole samples, or members, agree on a structure.
AGREEMENT = ("pairwise_dice_samples", "pairwise_dice_members")

Row = Mapping[str, str]


@dataclass(frozen=True)
class ReviewedFolder:
    """A folder before its tables are read.

    Attributes
    ----------
    folder, predictions
        Folder of the decisions, or the predictions themselves; folder of the predictions.
    decisions, alpha, masks
        What the decisions rest on, the share of their masks, and the structures that have masks.
    """

    folder: Path
    predictions: Path
    decisions: Decisions | None = None
    alpha: float | None = None
    masks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Review:
    """What is known of the cases of a folder.

    Attributes
    ----------
    folder, predictions
        Folder of the decisions, or the predictions themselves; folder of the predictions.
    cases
        Names, the case to open first on top.
    sorted_by
        Column that gives this order: ``place``, one of ``AGREEMENT``, ``TU`` or ``case``.
    reviewed
        Rows of review.csv by case; empty without decisions.
    structures
        Rows of structures.csv by case; empty where there is no such table.
    lesions
        Rows of lesions.csv by case; ``None`` where there is no such table.
    uncertainty
        Means of the maps over each image, nats.
    model
        Result of ``describe_model``.
    decisions, alpha, masks
        What the decisions rest on, the share of their masks, and the structures that have masks.
    """

    folder: Path
    predictions: Path
    cases: tuple[str, ...]
    sorted_by: str
    reviewed: Mapping[str, Row]
    structures: Mapping[str, Sequence[Row]]
    lesions: Mapping[str, Sequence[Row]] | None
    uncertainty: Mapping[str, Mapping[Measure, float]]
    model: Mapping[str, Any]
    decisions: Decisions | None = None
    alpha: float | None = None
    masks: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Structures, in the order of the tables."""
        return tuple(dict.fromkeys(row["structure"] for rows in self.structures.values() for row in rows))

    def agreement(self, case: str, column: str) -> tuple[float, str] | None:
        """Least agreement on a structure of a case, and which one; ``None`` where it is not known."""
        rows = self.structures.get(case, ())
        return min(
            ((known, row["structure"]) for row in rows if (known := value(row, column)) is not None), default=None
        )


def is_decided(folder: Path) -> bool:
    """Whether it is a folder of decisions."""
    return (folder / RECORD).is_file()


def value(row: Row, column: str) -> float | None:
    """A number of a row, which may be infinite; ``None`` where the cell is empty or there is no such column."""
    return float(text) if (text := row.get(column, "")) else None


def open_reviewed(folder: Path) -> ReviewedFolder:
    """A folder of decisions or of predictions, and what decisions.json of the former says."""
    if not is_decided(folder):
        return ReviewedFolder(folder, folder)
    record, decisions = read_record(folder)
    return ReviewedFolder(folder, Path(record["predictions"]), decisions, record["alpha"], tuple(record["masks"]))


def read_review(reviewed: ReviewedFolder, segmented: Sequence[str]) -> Review:
    """Read the tables of a folder.

    Parameters
    ----------
    reviewed
        Folder of decisions, or of predictions, that was opened.
    segmented
        Names of the cases that have a segmentation; what decisions are of is in their tables, whatever is there now.

    Raises
    ------
    ValueError, OSError
        A table is not what the commands write, or the decisions are of another prediction.
    """
    folder, predictions = reviewed.folder, reviewed.predictions
    entries = recorded_cases(predictions)
    lesions = _by_case(folder / LESIONS_FILE, ("structure", "number"), must_exist=False)
    is_of_decisions = reviewed.decisions is not None
    structures = _by_case(folder / STRUCTURES_FILE, ("structure", "num_voxels"), must_exist=is_of_decisions)
    review = Review(
        folder,
        predictions,
        tuple(segmented),
        sorted_by="case",
        reviewed={},
        structures=structures or {},
        lesions=lesions,
        uncertainty={case: _means(entry) for case, entry in entries.items()},
        model=describe_model(predictions),
    )
    if not is_of_decisions:
        return _sorted(review)
    _check_same_prediction(review, entries)
    lines = _by_case(folder / REVIEW_FILE, ("place", "reason"), must_exist=True) or {}
    if twice := [case for case, rows in lines.items() if len(rows) > 1]:
        raise ValueError(f"{folder / REVIEW_FILE} has several lines of {twice[0]}; {_APPLY}")
    return replace(
        review,
        cases=tuple(lines),
        sorted_by="place",
        reviewed={case: rows[0] for case, rows in lines.items()},
        decisions=reviewed.decisions,
        alpha=reviewed.alpha,
        masks=reviewed.masks,
    )


def _means(entry: Mapping[str, Any]) -> dict[Measure, float]:
    known = {measure: entry.get(f"mean_{name}") for measure, name in FOLDERS.items()}
    return {measure: float(mean) for measure, mean in known.items() if mean is not None}


def _sorted(review: Review) -> Review:
    """With the cases in the order of what is known of them."""
    for column in AGREEMENT:
        found = {case: review.agreement(case, column) for case in review.cases}
        if any(known is not None for known in found.values()):
            # Where nothing agrees or disagrees, nothing was found: these come last.
            order = sorted(review.cases, key=lambda case: (found[case] or (math.inf, ""))[0])
            return replace(review, cases=tuple(order), sorted_by=column)
    totals = {case: review.uncertainty.get(case, {}).get("TU") for case in review.cases}
    if any(total is not None for total in totals.values()):
        order = sorted(review.cases, key=lambda case: -(totals[case] or 0.0))
        return replace(review, cases=tuple(order), sorted_by="TU")
    return review


def _by_case(path: Path, needed: Sequence[str], *, must_exist: bool) -> dict[str, list[Row]] | None:
    """Rows of a table by their case, in its order; ``None`` where there is no table."""
    remedy = _APPLY if is_decided(path.parent) else _PREDICT
    if not path.is_file():
        if must_exist:
            raise FileNotFoundError(f"{path} does not exist; {remedy}")
        return None
    rows: dict[str, list[Row]] = {}
    table = read_csv_table(path, ("case", *needed), remedy=remedy)
    for number, row in table.rows():
        for column, text in row.items():
            if column not in _TEXTS and text and not _is_number(text):
                raise ValueError(f"{path}: line {number}: {column[:60]} must be a number, got {text[:60]!r}; {remedy}")
        rows.setdefault(row["case"], []).append(row)
    return rows


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False


def _check_same_prediction(review: Review, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise where the prediction was made anew since: its images, masks and maps would be shown beside old numbers."""
    for case, rows in review.structures.items():
        recorded = entries.get(case, {}).get("structures", {})
        for row in rows:
            known = recorded.get(row["structure"])
            if known is not None and known["num_voxels"] != value(row, "num_voxels"):
                raise ValueError(
                    f"{review.folder / STRUCTURES_FILE} has {row['num_voxels']} voxels of {row['structure']} for "
                    f"{case}, the record in {review.predictions} {known['num_voxels']}: predicted anew since; {_APPLY}"
                )
