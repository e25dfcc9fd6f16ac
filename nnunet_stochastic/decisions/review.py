"""Which case to open first, why, what that is worth, and which case to label next.

    expected loss of a case = that of its worst structure (``decisions.Decisions.assess``)
    opening the first n removes Σ_{i <= n} loss_i / Σ_i loss_i of the expected error

Cases are sorted by expected loss, equal ones by the largest percentile of their scores among the validation images,
then by name. A case of which no loss is known comes after those with one, sorted by percentile. An image is said to be
unlike the validation images from the 95th percentile of a score on, if these are of at least 19 patients: of images
that are like those of fewer, more than one in twenty lies above all of them.

Next to label: farthest-first traversal weighted by uncertainty. With u_i the share of the unlabelled cases whose
epistemic score is at most that of case i, and d_i the Euclidean distance, in standardised features, to the nearest case
that is labelled or already chosen, the next is the case with the largest u_i d_i; the first one, where nothing is
labelled, has the largest u_i. Distances alone are the core-set rule of Sener and Savarese, Active learning for
convolutional neural networks, ICLR 2018, https://arxiv.org/abs/1708.00489.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_stochastic.decisions.conformal import least_number
from nnunet_stochastic.decisions.decisions import AssessedStructure, Decisions
from nnunet_stochastic.decisions.structures import StructureRow

__all__ = ["REVIEW_LEVEL", "CaseToReview", "ReviewRow", "labelling_features", "next_to_label", "review"]

#: Level of the lower bound of the Dice that a reason names.
REVIEW_LEVEL = 0.90
_UNLIKE = 95.0


@dataclass(frozen=True)
class CaseToReview:
    """What is known of a new case.

    Attributes
    ----------
    case
        Its name.
    structures
        What is learned of each structure.
    percentiles
        Percentile of each of its scores among the validation images, 0 to 100.
    tells_unlike
        Whether there are enough validation patients for a percentile to say that the image is unlike theirs.
    """

    case: str
    structures: Sequence[AssessedStructure]
    percentiles: Mapping[str, float]
    tells_unlike: bool = True

    @classmethod
    def of(
        cls, case: str, rows: Sequence[StructureRow], scores: Mapping[str, float], decisions: Decisions
    ) -> CaseToReview:
        """Assess the structures of a case and place its scores; scores that the validation images lack are left out."""
        known = {name: found for name, found in decisions.image_scores.items() if name in scores}
        try:
            structures = [decisions.assess(row) for row in rows]
            percentiles = {name: found.percentile(scores[name]) for name, found in known.items()}
        except ValueError as error:
            raise ValueError(f"{case}: {error}") from None
        return cls(case, structures, percentiles, decisions.num_patients >= least_number(_UNLIKE / 100))

    @property
    def worst(self) -> AssessedStructure | None:
        """The structure with the largest expected loss, the first of equal ones; None where no loss is known."""
        known = [found for found in self.structures if found.expected_loss is not None]
        return max(known, key=lambda found: found.expected_loss or 0.0) if known else None

    @property
    def most_unlike(self) -> tuple[str, float] | None:
        """The score with the largest percentile, and that; None without scores."""
        return max(sorted(self.percentiles.items()), key=lambda item: item[1]) if self.percentiles else None


@dataclass(frozen=True)
class ReviewRow:
    """A row of review.csv.

    Attributes
    ----------
    place
        From 1, the case to open first.
    case, structure
        Names of the case and of its worst structure.
    expected_loss, predicted_dice, dice_at_least
        Of that structure, in [0, 1].
    percentile, score
        Largest percentile of its scores among the validation images, and of which score.
    removed
        Share of the expected error that opening this case and those before it removes, in [0, 1].
    reason
        Why it stands there, in words.
    """

    place: int
    case: str
    structure: str | None
    expected_loss: float | None
    predicted_dice: float | None
    dice_at_least: float | None
    percentile: float | None
    score: str | None
    removed: float | None
    reason: str


def review(cases: Sequence[CaseToReview]) -> list[ReviewRow]:
    """All cases, the one to open first on top."""

    def urgency(case: CaseToReview) -> tuple[bool, float, float, str]:
        worst, unlike = case.worst, case.most_unlike
        loss = None if worst is None else worst.expected_loss
        return loss is None, -(loss or 0.0), 0.0 if unlike is None else -unlike[1], case.case

    ordered = sorted(cases, key=urgency)
    losses = [0.0 if (worst := case.worst) is None else worst.expected_loss or 0.0 for case in ordered]
    total = sum(losses)
    rows = []
    for index, case in enumerate(ordered):
        worst, unlike = case.worst, case.most_unlike
        rows.append(
            ReviewRow(
                place=index + 1,
                case=case.case,
                structure=None if worst is None else worst.structure,
                expected_loss=None if worst is None else worst.expected_loss,
                predicted_dice=None if worst is None else worst.predicted_dice,
                dice_at_least=None if worst is None else _at_least(worst),
                percentile=None if unlike is None else unlike[1],
                score=None if unlike is None else unlike[0],
                removed=min(1.0, sum(losses[: index + 1]) / total) if total > 0 else None,
                reason=_reason(worst, unlike if case.tells_unlike else None),
            )
        )
    return rows


def labelling_features(rows: Sequence[StructureRow], scores: Mapping[str, float]) -> list[float]:
    """What a case looks like to ``next_to_label``: ln of its scores, then ln(1 + voxels) of its structures."""
    return [*(float(np.log(max(scores[name], 1e-12))) for name in sorted(scores))] + [
        float(np.log1p(row.num_voxels)) for row in rows
    ]


def next_to_label(
    uncertainty: Mapping[str, float],
    features: Mapping[str, Sequence[float]],
    *,
    labelled: Sequence[Sequence[float]] = (),
) -> list[str]:
    """All unlabelled cases in the order in which to label them.

    Parameters
    ----------
    uncertainty
        Epistemic score of each unlabelled case.
    features
        Features of each, equally many.
    labelled
        Features of the cases that are labelled already.
    """
    names = sorted(uncertainty)
    if set(names) != set(features):
        raise ValueError("uncertainty and features must be of the same cases")
    if not names:
        return []
    lengths = {len(features[name]) for name in names} | {len(each) for each in labelled}
    points = [list(features[name]) for name in names] + [list(each) for each in labelled]
    if (
        len(lengths) > 1
        or not np.isfinite([*uncertainty.values(), *(value for point in points for value in point)]).all()
    ):
        raise ValueError(f"uncertainty and features must be finite, and features equally many, got {sorted(lengths)}")
    values = np.array([uncertainty[name] for name in names])
    weight = (values[:, np.newaxis] >= values).mean(axis=1)
    array = np.array(points, dtype=np.float64).reshape(len(points), -1)
    scale = array.std(axis=0)
    array = (array - array.mean(axis=0)) / np.where(scale > 0, scale, 1)
    mine, distance = array[: len(names)], np.full(len(names), np.inf)
    for point in array[len(names) :]:
        distance = np.minimum(distance, np.linalg.norm(mine - point, axis=1))
    left, order = list(range(len(names))), []
    while left:
        near = distance[left]
        gain = weight[left] * (near if np.isfinite(near).all() else 1.0)
        # Where all that are left look like chosen ones, uncertainty alone decides.
        best = left[int(np.argmax(gain if gain.max() > 0 else weight[left]))]
        left.remove(best)
        order.append(names[best])
        distance = np.minimum(distance, np.linalg.norm(mine - mine[best], axis=1))
    return order


def _at_least(found: AssessedStructure) -> float | None:
    return next((bound for level, bound in found.dice_at_least.items() if np.isclose(level, REVIEW_LEVEL)), None)


def _reason(worst: AssessedStructure | None, unlike: tuple[str, float] | None) -> str:
    parts = []
    if worst is None:
        parts.append("no predicted Dice")
    elif worst.predicted_dice is None:
        parts.append(f"{worst.structure}: not segmented, there with probability {worst.expected_loss:.2f}")
    else:
        bound = _at_least(worst)
        at_least = "" if bound is None else f", at least {bound:.2f}"
        parts.append(f"{worst.structure}: predicted Dice {worst.predicted_dice:.2f}{at_least}")
    if unlike is not None and unlike[1] >= _UNLIKE:
        measure = unlike[0].split("_")[0]
        where = "above all of theirs" if unlike[1] >= 100 else f"at their {int(unlike[1])}th percentile"
        parts.append(f"image unlike the validation images, {measure} {where}")
    return "; ".join(parts)
