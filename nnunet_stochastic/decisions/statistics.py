"""What one case with a reference contributes to a fit or a judgement: a few hundred numbers, whatever its size.

    structure: its row, volumes and Dice of the references, losses of its masks on the grid of λ
    lesions: share of the samples that have each, whether each reference has it, how many lesions that has
    image: the scores of its maps

References are the raters' segmentations, each on its own, or the one reference. Voxels that a reference does not label
(ignore) are left out of its Dice and losses; its volume and its lesions are not known then (None; no row).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnunet_stochastic.decisions.components import components, match_components
from nnunet_stochastic.decisions.lesions import Lesion
from nnunet_stochastic.decisions.risk_control import GRID, mask_losses
from nnunet_stochastic.decisions.structures import StructureRow
from nnunet_stochastic.labels import voxels_of
from nnunet_stochastic.metrics import image_mean, per_border

__all__ = ["CaseStatistics", "LesionStatistics", "StructureStatistics", "case_statistics", "image_scores"]


@dataclass(frozen=True)
class StructureStatistics:
    """Of a structure.

    Attributes
    ----------
    row
        What the prediction says of it.
    reference_voxels
        Its size in each reference, (A,), voxels.
    reference_ml
        Its volume by each reference, (A,), ml; None in 2D and where a reference does not label the whole image.
    dice
        Dice of the segmentation with each reference, (A,); None where both lack the structure.
    outer_loss, inner_loss
        Losses of the masks at each λ of ``GRID``, (G,), means over the references; NaN where they do not exist, None
        without probabilities.
    """

    row: StructureRow
    reference_voxels: Sequence[int]
    reference_ml: Sequence[float | None]
    dice: Sequence[float | None]
    outer_loss: np.ndarray | None = None
    inner_loss: np.ndarray | None = None

    @property
    def mean_dice(self) -> float | None:
        """Mean Dice over the references that it exists for."""
        known = [value for value in self.dice if value is not None]
        return float(np.mean(known)) if known else None


@dataclass(frozen=True)
class LesionStatistics:
    """Of the lesions and candidates of a structure.

    Attributes
    ----------
    shares
        Share of the samples (or members) that have each of L, (L,), in [0, 1]; NaN where there are none of either.
    matched
        Whether each reference has it, (A, L), bool.
    num_reference
        Number of lesions of each reference, (A,).
    is_candidate
        Which of them the segmentation misses, (L,), bool.
    has_candidates
        Whether candidates were looked for, which takes all samples; else they are the segmentation's alone.
    """

    shares: np.ndarray
    matched: np.ndarray
    num_reference: np.ndarray
    is_candidate: np.ndarray
    has_candidates: bool = True


@dataclass(frozen=True)
class CaseStatistics:
    """Of a case.

    Attributes
    ----------
    case, patient
        Names; a case without a known patient is one of its own.
    structures
        By name, all of the data set.
    image_scores
        By name, see ``image_scores``.
    lesions
        By structure, for those that have lesions.
    """

    case: str
    patient: str
    structures: Mapping[str, StructureStatistics]
    image_scores: Mapping[str, float] = field(default_factory=dict)
    lesions: Mapping[str, LesionStatistics] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain data, of which ``from_json`` makes the statistics again."""
        return {
            "case": self.case,
            "patient": self.patient,
            "structures": {
                name: {
                    "row": found.row.as_json(),
                    "reference_voxels": list(found.reference_voxels),
                    "reference_ml": list(found.reference_ml),
                    "dice": list(found.dice),
                    "outer_loss": _listed(found.outer_loss),
                    "inner_loss": _listed(found.inner_loss),
                }
                for name, found in self.structures.items()
            },
            "image_scores": dict(self.image_scores),
            "lesions": {
                name: {
                    "shares": _listed(found.shares),
                    "matched": found.matched.tolist(),
                    "num_reference": found.num_reference.tolist(),
                    "is_candidate": found.is_candidate.tolist(),
                    "has_candidates": found.has_candidates,
                }
                for name, found in self.lesions.items()
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CaseStatistics:
        """The statistics of ``as_json``."""
        structures = {
            name: StructureStatistics(
                StructureRow(**found["row"]),
                found["reference_voxels"],
                found["reference_ml"],
                found["dice"],
                _array(found["outer_loss"]),
                _array(found["inner_loss"]),
            )
            for name, found in data["structures"].items()
        }
        lesions = {}
        for name, found in data["lesions"].items():
            number = np.array(found["num_reference"], dtype=np.int64)
            shares = np.array(found["shares"], dtype=np.float64)  # None becomes NaN
            matched = np.array(found["matched"], dtype=bool).reshape(len(number), len(shares))
            candidate = np.array(found["is_candidate"], dtype=bool)
            lesions[name] = LesionStatistics(shares, matched, number, candidate, found["has_candidates"])
        return cls(data["case"], data["patient"], structures, data["image_scores"], lesions)


def case_statistics(
    case: str,
    patient: str,
    *,
    segmentation: np.ndarray,
    references: Sequence[np.ndarray],
    classes: Mapping[str, Sequence[int]],
    rows: Sequence[StructureRow],
    voxel_ml: float | None,
    probabilities: Mapping[str, np.ndarray] | None = None,
    lesions: Mapping[str, tuple[Sequence[Lesion], np.ndarray]] | None = None,
    has_candidates: bool = True,
    min_lesion_ml: float = 0.0,
    scores: Mapping[str, float] | None = None,
    ignore_label: int | None = None,
) -> CaseStatistics:
    """Statistics of a case from its arrays; beside these it needs the memory of a few masks.

    Parameters
    ----------
    case, patient
        Names.
    segmentation
        Label map, (*S), integers.
    references
        Label maps of the raters, or of the reference alone, A maps (*S), integers.
    classes
        The label values of each structure by name.
    rows
        What the prediction says of each structure.
    voxel_ml
        Volume of a voxel in ml, None for 2D images.
    probabilities
        Predictive mean of each structure by name, (*S), in [0, 1].
    lesions
        What ``find_lesions`` gave for structures that have lesions.
    has_candidates
        Whether candidates are among these.
    min_lesion_ml
        Volume below which a lesion of a reference does not count, ml.
    scores
        Scores of the image.
    ignore_label
        Label of the voxels that a reference does not label.
    """
    if not references:
        raise ValueError(f"{case}: references is empty; what is fitted or judged needs one")
    for reference in references:
        if reference.shape != segmentation.shape:
            raise ValueError(f"{case}: reference {reference.shape} and segmentation {segmentation.shape} must agree")
    by_name = {row.structure: row for row in rows}
    if missing := [name for name in classes if name not in by_name]:
        raise ValueError(f"{case}: rows must have {', '.join(missing)}")
    labelled = [None if ignore_label is None else reference != ignore_label for reference in references]
    labelled = [None if where is None or where.all() else where for where in labelled]
    structures = {}
    for name, labels in classes.items():
        inside = voxels_of(segmentation, labels)
        given = [voxels_of(reference, labels) for reference in references]
        probability = None if probabilities is None else probabilities[name]
        structures[name] = _structure(by_name[name], inside, given, labelled, probability, voxel_ml)
    whole = [reference for reference, where in zip(references, labelled, strict=True) if where is None]
    of_lesions = {}
    for name, (found, numbers) in (lesions or {}).items():
        if whole:
            marked = [voxels_of(reference, classes[name]) for reference in whole]
            of_lesions[name] = _lesions(found, numbers, marked, voxel_ml, min_lesion_ml, has_candidates)
    return CaseStatistics(case, patient, structures, dict(scores or {}), of_lesions)


def image_scores(maps: Mapping[str, np.ndarray], segmentation: np.ndarray) -> dict[str, float]:
    """Scores of an image: of each map AU, EU, TU (*S) its mean (``EU_mean``) and its sum over the border's length.

    Parameters
    ----------
    maps
        Maps by measure, (*S), nats.
    segmentation
        Label map, (*S), integers.
    """
    scores = {}
    for measure, uncertainty in maps.items():
        scores[f"{measure}_mean"] = image_mean(uncertainty)
        scores[f"{measure}_border"] = per_border(uncertainty, segmentation)
    return scores


def _structure(
    row: StructureRow,
    inside: np.ndarray,
    references: Sequence[np.ndarray],
    labelled: Sequence[np.ndarray | None],
    probability: np.ndarray | None,
    voxel_ml: float | None,
) -> StructureStatistics:
    sizes: list[int] = []
    volumes: list[float | None] = []
    dice: list[float | None] = []
    for reference, where in zip(references, labelled, strict=True):
        mine, true = (inside, reference) if where is None else (inside[where], reference[where])
        size = int(np.count_nonzero(true))
        total = size + int(np.count_nonzero(mine))
        sizes.append(size)
        volumes.append(size * voxel_ml if voxel_ml is not None and where is None else None)
        dice.append(2 * int(np.count_nonzero(mine & true)) / total if total else None)
    if probability is None:
        return StructureStatistics(row, sizes, volumes, dice)
    has_structure = row.num_voxels > 0
    if all(where is None for where in labelled):
        losses = [mask_losses(probability, references, has_structure=has_structure)]  # p is sorted into bins but once
    else:
        losses = [
            mask_losses(probability[everywhere], [reference[everywhere]], has_structure=has_structure)
            for reference, everywhere in zip(
                references, (np.ones(inside.shape, bool) if where is None else where for where in labelled), strict=True
            )
        ]
    outer, inner = (_mean_of_known(found) for found in zip(*losses, strict=True))
    return StructureStatistics(row, sizes, volumes, dice, outer, inner)


def _lesions(
    found: Sequence[Lesion],
    numbers: np.ndarray,
    references: Sequence[np.ndarray],
    voxel_ml: float | None,
    min_lesion_ml: float,
    has_candidates: bool,
) -> LesionStatistics:
    matched = np.zeros((len(references), len(found)), dtype=bool)
    num_reference = np.zeros(len(references), dtype=np.int64)
    for index, reference in enumerate(references):
        of_reference = components(reference, voxel_ml=voxel_ml, min_lesion_ml=min_lesion_ml)
        num_reference[index] = int(of_reference.max(initial=0))
        pairs, _ = match_components(numbers, of_reference)
        matched[index, pairs[:, 0] - 1] = True
    shares = np.array([lesion.existence for lesion in found], dtype=np.float64)  # None becomes NaN
    is_candidate = np.array([lesion.candidate for lesion in found], dtype=bool)
    return LesionStatistics(shares, matched, num_reference, is_candidate, has_candidates)


def _mean_of_known(losses: Sequence[np.ndarray]) -> np.ndarray:
    known = [loss for loss in losses if not np.isnan(loss).any()]
    return np.mean(known, axis=0) if known else np.full(len(GRID), np.nan)


def _listed(values: np.ndarray | None) -> list[float | None] | None:
    return None if values is None else [None if np.isnan(value) else float(value) for value in values]


def _array(values: Sequence[float | None] | None) -> np.ndarray | None:
    return None if values is None else np.array([np.nan if value is None else value for value in values])
