"""What a task is: one question that tells whether an uncertainty is any good, and all that others must know of it.

A task takes part in the work on a single case, in the results of a set of cases, in the bootstrap of Δ, in the ranking
of models, and in tables and figures. Each of these asks the catalogue, and none names a task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from nnunet_stochastic.conventions import Convention
from nnunet_stochastic.evaluation.applied_decisions import AppliedDecisions
from nnunet_stochastic.evaluation.case_inputs import CaseInputs, MapInputs
from nnunet_stochastic.evaluation.case_sets import ID, OOD
from nnunet_stochastic.evaluation.maps import Measure
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks.resampling import Resampled
from nnunet_stochastic.io.schemas import File

__all__ = [
    "ARROWS",
    "Need",
    "Task",
    "TaskInputs",
    "count_without_border",
    "has_number",
    "mean_of",
    "over_sets",
    "reason",
    "split_by_set",
]

# What the predictions must come with.
Need = Literal["maps", "calibration", "samples", "decisions"]
_UNMET: dict[Need, str] = {
    "maps": "the predictions have no uncertainty maps; predict with nnunet_stochastic_predict",
    "calibration": "no -val folder was given",
    "samples": "the predictions have no samples; predict with --save_samples",
    "decisions": "no -decisions folder was given",
}
#: What stands behind the name of a number: the direction in which it is better, behind a space.
ARROWS: Mapping[int, str] = {1: " ↑", -1: " ↓", 0: ""}


@dataclass(frozen=True)
class TaskInputs:
    """What the tasks of an evaluation are computed from.

    Attributes
    ----------
    sets
        Results of the case sets, ID first, then the shifts.
    convention
        The preset.
    num_samples
        Number of samples per case.
    calibrated
        Whether there was a calibration.
    raters
        Whether ID has raters' annotations.
    applied
        Decisions about the predictions, or None.
    patients
        Patient of each case; None where each case is its own.
    weights
        How often each replicate of the bootstrap draws each case, (B, N) by set.
    """

    sets: Sequence[SetResults]
    convention: Convention
    num_samples: int
    calibrated: bool
    raters: bool
    applied: AppliedDecisions | None = None
    patients: Mapping[str, str] | None = None
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def known(self) -> SetResults:
        """The set in distribution."""
        return self.sets[0]

    @property
    def shifts(self) -> Sequence[SetResults]:
        """The sets out of distribution."""
        return self.sets[1:]

    @property
    def annotations(self) -> str:
        """What the predictions are compared with."""
        return "raters" if self.raters else "reference"

    def unmet(self, needs: Sequence[Need]) -> str | None:
        """Why a task with these needs cannot be computed of any set, or None."""
        met = {
            "maps": not self.known.scores.empty,
            "calibration": self.calibrated,
            "samples": self.num_samples > 0,
            "decisions": self.applied is not None,
        }
        return next((_UNMET[need] for need in needs if not met[need]), None)


def split_by_set(inputs: TaskInputs, values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers by set as ID, OOD (mean over shifts) and shifts; NaN for a split without sets."""
    shifts = {name: value for name, value in values.items() if name != ID}
    nothing = _nan_like(next(iter(values.values())))
    return {ID: values.get(ID, nothing), OOD: over_sets(list(shifts.values())) if shifts else nothing, "shifts": shifts}


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """An entry of the catalogue.

    Attributes
    ----------
    name
        Key in summary.json.
    title
        Name of the task in tables, or of its number where it has one that needs no measure.
    metric
        Name of the number in tables: ``AUROC``. Empty where each class has several numbers.
    direction
        Direction: 1 where larger is better, -1 where smaller is, 0 for neither.
    directions
        Direction of each number by name, where a class has several.
    caption
        Description of the number, in a sentence without full stop under a table of the page.
    describe
        The choices of a convention in words, for summary.json.
    of_set
        Numbers of a set of cases: by measure, by class, or one; of each variant where there are variants.
    has_number
        Whether a set has any.
    lacking
        Function that gives the reason where a set has none, of the set.
    needs
        What the predictions must come with.
    optional
        Parts of the task that need more, and what.
    complete
        Function from the numbers by set to the task's entry in summary.json.
    omissions
        Reasons why parts of that entry are missing, by part.
    further_entries
        Schemas of keys that the entry has besides numbers by split, such as curves.
    schema
        Schema of that entry, of a task whose splits hold more than numbers; tables of numbers leave it out.
    applies
        Whether a convention has the task at all.
    by_measure, by_class
        Whether the number is one per measure (AU, EU, TU), or one per class.
    entry
        Name of the number where a measure has several.
    right, wrong
        Measure that theory names for the task, and those it is compared with: then the task has a Δ, and is ranked.
    splits
        Splits that have a number each; empty where a number is of a shift against ID.
    variants
        Names of several ways to compute the number, each with its title.
    variant_of
        The variant of a convention, which stands for the task.
    shown_variants
        Variants that tables always show, besides that of the convention.
    with_border
        Entry of the results that has the numbers of the images with a predicted border alone, beside
        ``num_without_border``, of a task that is made of image scores.
    setting
        Entry of the task's results that names a choice; results that differ in it are not compared.
    compared
        Splits that stand in the comparison of models, of a task that is not ranked.
    is_quality
        Whether the number tells how good segmentations and samples are, as Dice does, and not the uncertainty.
    of_epistemic
        Whether the number is made of EU, and means nothing where EU is that of a single member.
    warn
        What is wrong with a model with such a number; empty if nothing.
    decimals
        Decimals in the tables of a comparison.
    image_columns, of_case
        Columns of images.csv, and their values for a case.
    measure_columns, of_map
        Columns of scores.csv, and their values for a map.
    measure_curves
        Names of the curves, lists of numbers of one length, that ``of_map`` has besides.
    class_key, of_classes
        Key in the record of a case, and the numbers by class, or other plain data, that stand there.
    replicates
        What ``of_set`` gives, of a set of that name in each replicate of a bootstrap: (B,) in the place of a number.
    parts
        Further places of the task's entry that hold the same numbers of other replicates: of some of the images alone,
        of other image scores. Each with the function that makes these of the replicates.
    """

    name: str
    title: str
    metric: str
    direction: Literal[-1, 0, 1]
    describe: Callable[[Convention], str]
    of_set: Callable[[TaskInputs, SetResults], Any]
    has_number: Callable[[SetResults], bool]
    lacking: Callable[[SetResults], str]
    directions: Mapping[str, Literal[-1, 0, 1]] = field(default_factory=dict)
    caption: str = ""
    needs: tuple[Need, ...] = ()
    optional: Mapping[str, Need] = field(default_factory=dict)
    complete: Callable[[TaskInputs, Mapping[str, Any]], dict[str, Any]] = split_by_set
    omissions: Callable[[TaskInputs, Mapping[str, Any]], Mapping[str, str]] = lambda inputs, entry: {}
    further_entries: Mapping[str, Any] = field(default_factory=dict)
    schema: type[File] | None = None
    applies: Callable[[Convention], bool] = lambda convention: True
    by_measure: bool = False
    by_class: bool = False
    entry: str = ""
    right: Measure | None = None
    wrong: tuple[Measure, ...] = ()
    splits: tuple[str, ...] = (ID, OOD)
    variants: Mapping[str, str] = field(default_factory=dict)
    variant_of: Callable[[Convention], str] = lambda convention: ""
    shown_variants: tuple[str, ...] = ()
    with_border: str = ""
    setting: str = ""
    compared: tuple[str, ...] = ()
    is_quality: bool = False
    of_epistemic: bool = False
    warn: Callable[[float], str] = lambda value: ""
    decimals: int = 3
    image_columns: tuple[str, ...] = ()
    of_case: Callable[[CaseInputs], Mapping[str, float]] = lambda inputs: {}
    measure_columns: tuple[str, ...] = ()
    measure_curves: tuple[str, ...] = ()
    of_map: Callable[[MapInputs], Mapping[str, float | Sequence[float]]] = lambda inputs: {}
    class_key: str = ""
    of_classes: Callable[[CaseInputs], Mapping[str, Any]] = lambda inputs: {}
    replicates: Callable[[Resampled, str], Any] | None = None
    parts: Mapping[tuple[str, ...], Callable[[Resampled], Resampled]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.right is not None and not (self.by_measure and self.wrong and self.replicates and self.direction):
            raise ValueError(
                f"task {self.name} names a right measure, so it must be by_measure and have wrong measures, a "
                "direction and replicates"
            )

    @property
    def is_ranked(self) -> bool:
        """Whether models are ranked by the task, and it has a Δ."""
        return self.right is not None

    @property
    def heading(self) -> str:
        """What stands over the task's columns."""
        return self.name if self.is_ranked else self.title

    @property
    def arrow(self) -> str:
        """The direction in which the number is better, behind a space; empty where there is none."""
        return ARROWS[self.direction]

    @property
    def wrong_in_words(self) -> str:
        """The measures that the right one is compared with."""
        return f"the better of {' and '.join(self.wrong)}" if len(self.wrong) > 1 else self.wrong[0]

    @property
    def paths(self) -> tuple[tuple[str, ...], ...]:
        """Where the numbers of the splits are, below ``tasks`` and below ``delta``: name and split."""
        return tuple((self.name, split) for split in self.splits) or ((self.name,),)

    def variants_in_tables(self, *chosen: str) -> tuple[str, ...]:
        """Variants that stand in tables, each once; ``chosen`` are those of conventions."""
        return tuple(dict.fromkeys((*self.shown_variants, *chosen))) if self.shown_variants else ()

    def variant_name(self, variant: str) -> str:
        """What tables call the number of a variant."""
        return f"{self.name} ({self.variants[variant]})"


def mean_of(values: np.ndarray) -> float:
    """Mean of the numbers that exist, NaN without any."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def over_sets(values: Sequence[Any]) -> Any:
    """Mean of numbers, or of dictionaries of numbers entry by entry; NaN is left out."""
    if isinstance(values[0], dict):
        return {key: over_sets([value[key] for value in values if key in value]) for key in values[0]}
    return mean_of(np.array(values, dtype=np.float64))


def reason(results: SetResults, otherwise: str, *, raters: bool = False, samples: bool = False) -> str:
    """Why a set has no number of a task: the first thing that it needs and has not.

    Parameters
    ----------
    results
        The set.
    otherwise
        Reason where nothing is missing.
    raters, samples
        Whether the task needs several raters, and samples, besides annotations.
    """
    option = "-gt" if results.name == ID else "-ood_gt"
    if not results.has_reference:
        return f"no annotations were given ({option})"
    if raters and results.num_raters < 2:
        return f"no annotations of several raters were given ({option}_raters)"
    if samples and not results.num_samples:
        return _UNMET["samples"]
    return otherwise


def count_without_border(sets: Sequence[SetResults]) -> dict[str, int]:
    """Number of images of each set in which no border is predicted."""
    return {results.name: int(np.count_nonzero(~results.has_border)) for results in sets}


def has_number(values: Any) -> bool:
    """Whether any number of an array or column exists."""
    return bool(np.isfinite(values).any())


def _nan_like(value: Any) -> Any:
    return {key: _nan_like(entry) for key, entry in value.items()} if isinstance(value, dict) else float("nan")
