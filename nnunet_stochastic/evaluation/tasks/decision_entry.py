"""What summary.json has of DECISIONS, of each set: ``decisions.judgement.judge`` as plain data.

Levels and alphas are keys, as texts: 0.8, 0.05. A number that does not exist is ``null``, as is the upper end of an
infinite interval, whose lower end is a number; ``left_out`` says why a part is missing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nnunet_stochastic.io.result_schemas import ReliabilityEntry
from nnunet_stochastic.io.schemas import Count, File, Name, NotNegative, Number

__all__ = ["DecisionsEntry"]

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Interval = Annotated[list[Share], Field(min_length=2, max_length=2)]
Ends = Annotated[list[NotNegative | None], Field(min_length=2, max_length=2)]
ByNumber = dict[str, Share | None]
_Interval = Annotated[list[Number], Field(min_length=2, max_length=2)] | None


class _Numbers(File):
    """With 95 % percentile intervals of a bootstrap over patients, by name of the number; null where there is none."""

    intervals: dict[str, _Interval] = Field(default_factory=dict)


class _Coverage(_Numbers):
    """Share of what was covered, mean over patients, with its binomial interval at 95 %."""

    coverage: Share
    interval: Interval
    num_cases: Count
    num_patients: Count


class _VolumeCoverage(_Coverage):
    """Of a conformal interval of the volume; widths are of the finite ones."""

    mean_width_ml: NotNegative | None
    median_width_ml: NotNegative | None
    share_infinite: Share


class _RatersCoverage(_Coverage):
    """Of the volumes of several annotations, and the share of the cases in which all of them are inside."""

    share_all_inside: Share


class _BoundCoverage(_Coverage):
    """Of the lower bound of the Dice."""

    mean_bound: Share


class _Risk(File):
    """Of the inner or of the outer mask: mean loss over patients."""

    threshold: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
    risk: Share | None
    standard_error: NotNegative | None
    num_patients: Count


class _Masks(File):
    """At an alpha."""

    outer: _Risk
    inner: _Risk


class _Quality(_Numbers):
    """How good a prediction of the Dice is."""

    mae: Share
    rank_correlation: Annotated[float, Field(ge=-1.001, le=1.001, allow_inf_nan=False)] | None
    aurc: Share


class _Dice(_Quality):
    """Of the predicted Dice, and of the baselines."""

    model: Name
    num_cases: Count
    num_patients: Count
    mean_dice: Share
    lower_bound: dict[str, _BoundCoverage]
    baselines: dict[str, _Quality]


class _Point(File):
    """Of some of the lesions."""

    sensitivity: Share | None
    false_per_case: NotNegative


class _FrocPoint(_Point):
    """Of those from a threshold on."""

    share: Share
    probability: Share | None


class _LesionIntervals(File):
    segmentation: dict[str, _Interval]
    sensitivity_at: dict[str, _Interval]
    existence_calibration_error: _Interval = None


class _Lesions(File):
    num_cases: Count
    num_patients: Count
    num_lesions: Count
    num_reference_lesions: Count
    num_candidates: Count
    has_candidates: bool
    segmentation: _Point
    froc: list[_FrocPoint]
    sensitivity_at: ByNumber
    existence_calibration_error: Share | None
    existence_bins: ReliabilityEntry | None
    intervals: _LesionIntervals | None = None


class _Raters(_Numbers):
    num_cases: Count
    num_patients: Count
    coverage: dict[str, _RatersCoverage] | None
    sampled_sd_ml: NotNegative | None
    raters_sd_ml: NotNegative | None
    ratio: NotNegative | None


class _Case(File):
    """Of a case, what the numbers are made of."""

    case: Name
    patient: Name
    segmented: bool
    volume_ml: NotNegative | None
    expected_volume_ml: NotNegative | None
    sample_sd_ml: NotNegative | None
    reference_ml: list[NotNegative | None]
    intervals_ml: dict[str, Ends]
    share_inside: ByNumber
    dice: Share | None
    predicted_dice: Share | None
    dice_at_least: ByNumber
    baselines: dict[str, Number | None]
    outer_loss: ByNumber
    inner_loss: ByNumber


class _Structure(File):
    num_segmented: Count
    volume: dict[str, _VolumeCoverage] | None
    masks: dict[str, _Masks] | None
    dice: _Dice | None
    lesions: _Lesions | None
    raters: _Raters | None
    cases: list[_Case]
    left_out: dict[str, str]


class _Judgement(File):
    """Of a set of cases."""

    num_cases: Count
    num_patients: Count
    num_shared_cases: Count
    structures: dict[str, _Structure]


class DecisionsEntry(File):
    """``tasks.DECISIONS`` of summary.json: what was judged, and the judgement of each set."""

    levels: list[Share]
    alphas: list[Share]
    alpha: Share
    unit: Literal["patients", "cases"]
    num_validation_cases: Count
    num_validation_patients: Count
    ID: _Judgement | None
    shifts: dict[str, _Judgement]
