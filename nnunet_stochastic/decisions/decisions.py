"""All that is learned of a model on validation cases with references, and what it says of a new case without any.

    volume      conformal interval at each level            ``conformal.VolumeIntervals``
    masks       thresholds λ of inner and outer masks        ``risk_control.RiskMasks``
    dice        predicted Dice, its conformal lower bound    ``predicted_dice.DiceFit``, ``conformal.DiceBounds``
    existence   share of samples -> probability of a lesion  ``existence.ExistenceCalibration``
    scores      percentile of an image's scores              ``reference_scores.ReferenceScores``

    expected loss of a structure = 1 - predicted Dice,                where the segmentation has it
                                 = (missed + r) / (not segmented + 1),  where it does not

with the numbers of validation cases whose segmentation lacks the structure, and of those among them whose reference has
it, and r the share of all references that have it: so a liver that is not found is a large loss, and a rare tumour is
not. What could not be fitted is in ``left_out`` with the reason. Numbers of cases and patients stand beside each fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from nnunet_stochastic.decisions.conformal import DiceBounds, LevelQuantile, VolumeIntervals, least_number
from nnunet_stochastic.decisions.existence import ExistenceCalibration
from nnunet_stochastic.decisions.lesions import Lesion
from nnunet_stochastic.decisions.predicted_dice import DiceFit, features_of
from nnunet_stochastic.decisions.reference_scores import ReferenceScores
from nnunet_stochastic.decisions.risk_control import RiskMasks
from nnunet_stochastic.decisions.stored import Ascending, Count, Share, Stored, require
from nnunet_stochastic.decisions.structures import StructureRow
from nnunet_stochastic.io.names import counted

__all__ = ["VERSION", "AssessedStructure", "Decisions", "Presence", "StructureDecisions"]

#: Version of the stored layout.
VERSION: Literal[1] = 1


class Presence(Stored):
    """How often a structure is there; of cases, ``num_missed`` those whose segmentation lacks what a reference has."""

    num_cases: Count
    num_patients: Count
    reference_share: Share
    num_not_segmented: Count
    num_missed: Count

    @model_validator(mode="after")
    def _consistent(self) -> Presence:
        require(
            self.num_missed <= self.num_not_segmented <= self.num_cases, "num_missed, num_not_segmented, num_cases fall"
        )
        require(self.num_patients <= self.num_cases, "num_patients must be at most num_cases")
        return self

    @property
    def loss_where_missing(self) -> float:
        """Expected loss of a case whose segmentation lacks the structure, in [0, 1]."""
        return (self.num_missed + self.reference_share) / (self.num_not_segmented + 1)


class StructureDecisions(Stored):
    """Of a structure; what is None has its reason in ``left_out``."""

    presence: Presence
    volume: VolumeIntervals | None = None
    masks: RiskMasks | None = None
    dice: DiceFit | None = None
    dice_bounds: DiceBounds | None = None
    existence: ExistenceCalibration | None = None
    left_out: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> StructureDecisions:
        for name in ("volume", "masks", "dice"):
            require((getattr(self, name) is None) == (name in self.left_out), f"{name} or its reason must be there")
        require((self.dice is None) == (self.dice_bounds is None), "dice and dice_bounds must both be there or not")
        return self

    def too_few(self) -> list[str]:
        """What rests on too few patients to say anything, a line each."""
        lines: list[tuple[str, int, int]] = []
        if self.volume is not None:
            lines += _infinite("volume interval at {} % is infinite", self.volume.quantiles, self.volume.num_patients)
        if self.dice_bounds is not None:
            quantiles, number = self.dice_bounds.quantiles, self.dice_bounds.num_patients
            lines += _infinite("lower bound of the Dice at {} % is 0", quantiles, number)
        if self.masks is not None:
            for threshold in self.masks.thresholds:
                least, share = least_number(1 - threshold.alpha), f"{100 * threshold.alpha:g}"
                for what, number in (
                    (f"outer mask at {share} % is the whole image", self.masks.num_patients_outer),
                    (f"inner mask at {share} % is empty", self.masks.num_patients_inner),
                ):
                    if number < least:
                        lines.append((what, number, least))
        return [f"{what}: {counted(number, 'patient')}, at least {least} are needed" for what, number, least in lines]


def _infinite(what: str, quantiles: Sequence[LevelQuantile], number: int) -> list[tuple[str, int, int]]:
    return [
        (what.format(f"{100 * entry.level:g}"), number, least_number(entry.level))
        for entry in quantiles
        if entry.quantile is None
    ]


@dataclass(frozen=True)
class AssessedStructure:
    """What is learned of a structure of a new case.

    Attributes
    ----------
    structure
        Its name.
    intervals_ml
        Least and greatest volume by level, ml; the greatest may be infinite. Empty where no intervals were fitted, or
        the segmentation lacks the structure.
    predicted_dice
        In [0, 1]; None where no model was fitted, or the segmentation lacks the structure.
    dice_at_least
        Lower bound of the Dice by level, in [0, 1].
    expected_loss
        In [0, 1]; None where the segmentation has the structure and no model was fitted.
    """

    structure: str
    intervals_ml: Mapping[float, tuple[float, float]]
    predicted_dice: float | None
    dice_at_least: Mapping[float, float]
    expected_loss: float | None


class Decisions(Stored):
    """The entry ``decisions`` of calibration.json.

    Attributes
    ----------
    version
        Version of this layout.
    seed
        Seed by which a case of each patient and a rater of each case were drawn.
    labels
        The label values of each structure.
    num_cases, num_patients
        What all was fitted to.
    levels, alphas
        Levels of intervals and shares of masks.
    structures, image_scores
        By name.
    num_samples
        Number of whole samples of each validation case: another number has another spread.
    left_out
        Why image scores are not there.
    """

    version: Literal[1]
    seed: int
    labels: dict[str, list[int]]
    num_cases: Count
    num_patients: Count
    levels: Ascending
    alphas: Ascending
    structures: dict[str, StructureDecisions]
    image_scores: dict[str, ReferenceScores]
    num_samples: Count = 0
    left_out: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Decisions:
        require(self.structures.keys() == self.labels.keys(), "structures must be those of labels")
        require(self.num_patients <= self.num_cases, "num_patients must be at most num_cases")
        for name, found in self.structures.items():
            volume = None if found.volume is None else [entry.level for entry in found.volume.quantiles]
            dice = None if found.dice_bounds is None else [entry.level for entry in found.dice_bounds.quantiles]
            thresholds = None if found.masks is None else [threshold.alpha for threshold in found.masks.thresholds]
            for what, has, needed in (
                ("volume", volume, self.levels),
                ("dice_bounds", dice, self.levels),
                ("masks", thresholds, self.alphas),
            ):
                require(has is None or has == needed, f"{what} of {name} must be at {needed}, got {has}")
            require(found.presence.num_cases == self.num_cases, f"num_cases of {name} must be {self.num_cases}")
        return self

    def check_labels(self, labels: Mapping[str, Sequence[int]]) -> None:
        """Raise ``ValueError`` where a data set has other structures or labels than the validation cases had."""
        mine, theirs = self.labels, {name: list(values) for name, values in labels.items()}
        if different := sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)):
            name = different[0]
            raise ValueError(
                f"the calibration was made for other labels: {name} is {mine.get(name, 'not there')} in it and "
                f"{theirs.get(name, 'not there')} here{f' (and {len(different) - 1} more)' * (len(different) > 1)}; "
                "make it again on validation predictions of this model"
            )

    def remarks(self) -> list[str]:
        """What is missing or infinite and why, a line each."""
        lines = [f"{what}: {reason}" for what, reason in self.left_out.items()]
        for name, found in self.structures.items():
            lines += [f"{name}: {what}: {reason}" for what, reason in found.left_out.items()]
            lines += [f"{name}: {line}" for line in found.too_few()]
        return lines

    def existence(self, lesion: Lesion) -> float | None:
        """Probability in [0, 1] that a lesion of a new case is there; None where it is not known."""
        found = self.structures[lesion.structure].existence if lesion.structure in self.structures else None
        if found is None or lesion.existence is None or (lesion.candidate and not found.has_candidates):
            return None
        return found.probability(lesion.existence)

    def assess(self, row: StructureRow) -> AssessedStructure:
        """What is learned of a structure of a new case.

        Raises
        ------
        ValueError
            The structure was in no validation case, or the prediction lacks samples, members, maps or a volume that
            those had.
        """
        if row.structure not in self.structures:
            raise ValueError(
                f"{row.structure}: the calibration has no such structure, only {', '.join(self.structures)}"
            )
        if row.num_samples and row.num_samples != self.num_samples:
            raise ValueError(
                f"{row.structure}: {counted(row.num_samples, 'sample')}, and the validation images had "
                f"{self.num_samples}, whose spread is another; predict with as many"
            )
        found = self.structures[row.structure]
        intervals: dict[float, tuple[float, float]] = {}
        bounds: dict[float, float] = {}
        predicted = loss = None
        if row.num_voxels == 0:
            return AssessedStructure(row.structure, {}, None, {}, found.presence.loss_where_missing)
        try:
            if found.volume is not None:
                if row.expected_volume_ml is None:
                    raise ValueError("the intervals are of volumes in ml, and this image has none")
                for level in self.levels:
                    intervals[level] = found.volume.interval(level, row.expected_volume_ml, row.sample_sd_ml)
            if found.dice is not None:
                predicted = found.dice.model.predict(features_of(row))
                loss = 1 - predicted
                if found.dice_bounds is not None:
                    bounds = {level: found.dice_bounds.lower(level, predicted) for level in self.levels}
        except ValueError as error:
            raise ValueError(f"{row.structure}: {error}") from None
        return AssessedStructure(row.structure, intervals, predicted, bounds, loss)
