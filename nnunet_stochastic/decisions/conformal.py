"""Split conformal intervals: with scores s_1 … s_n of validation units and q their ceil((n + 1) level)-th smallest,

    P(s_new <= q) >= level,    and <= level + 1 / (n + 1) where scores have no ties,

if the new unit is exchangeable with them; q is infinite where n < 1 / (1 - level) - 1.
Lei et al., Distribution-free predictive inference for regression, JASA 2018, https://arxiv.org/abs/1604.04173.

Volume of a structure: s = |V - V̂| / (σ + σ₀), the interval V̂ ± q (σ + σ₀) cut at 0. V̂ = Σ p is the expected volume, σ
the sd of the volumes of whole samples, σ₀ the median of σ over the validation units (their mean, where the median is
0), so that a case whose samples agree by chance has an interval of some width. σ + σ₀ is 1 without samples, and where
no validation case has samples that differ. σ₀ is made of the σ alone, not of the errors, and not of the new case's:
in simulations this moves the coverage by less than the weight of one unit, 1 / (n + 1).
Dice: s = predicted - true, the lower bound max(0, predicted - q).

Cases of a patient, and raters of a case, are not exchangeable with those of others, so the unit is the patient: of each
one case is drawn at random, and of that case one rater. But for σ₀ the bound above then holds exactly for a case drawn
at random of a new patient, and a rater drawn at random: the subsampling of Dunn, Wasserman and Ramdas,
Distribution-free prediction sets for two-layer hierarchical models, JASA 2023, https://arxiv.org/abs/1809.07441. (To
pool all scores of K patients, with a point at infinity for the new one, is valid as well, but covers up to 1 / K more
than the level.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from nnunet_stochastic.decisions.stored import Count, Stored, require
from nnunet_stochastic.seeds import stream_seed

__all__ = [
    "LEVELS",
    "DiceBounds",
    "LevelQuantile",
    "VolumeIntervals",
    "conformal_quantile",
    "draw_cases",
    "draw_rater",
    "least_number",
]

#: Levels at which intervals are given.
LEVELS = (0.80, 0.90, 0.95)

# Above the rounding of (n + 1) level, below the distance of two whole numbers.
_ROUNDING = 1e-9

NotNegative = Annotated[float, Field(ge=0)]


def conformal_quantile(scores: np.ndarray, level: float) -> float:
    """The ceil((n + 1) level)-th smallest of n scores (n,), infinite where there are fewer.

    Parameters
    ----------
    scores
        Scores of exchangeable units, larger is worse; they may be infinite.
    level
        Probability with which a new score is to be no larger, in (0, 1).
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or np.isnan(scores).any():
        raise ValueError(f"scores must be (n,) without NaN, got {scores.shape} with {np.isnan(scores).sum()} NaN")
    rank = _rank(len(scores), level)
    return math.inf if rank > len(scores) else float(np.partition(scores, rank - 1)[rank - 1])


def least_number(level: float) -> int:
    """The least number of units with a finite quantile: n >= 1 / (1 - level) - 1."""
    _check_level(level)
    return math.ceil(level / (1 - level) - _ROUNDING)


def draw_cases(cases: Iterable[tuple[str, str]], *, seed: int) -> list[str]:
    """One case of each patient, in order of the patients; whatever the order of the cases, the draw is the same.

    Parameters
    ----------
    cases
        Name and patient of each case; names are different.
    seed
        Seed of the draw.
    """
    by_patient: dict[str, list[str]] = {}
    for case, patient in sorted(cases):
        by_patient.setdefault(patient, []).append(case)
    return [
        names[np.random.default_rng(stream_seed(seed, "case", patient)).integers(len(names))]
        for patient, names in sorted(by_patient.items())
    ]


def draw_rater(case: str, num_raters: int, *, seed: int) -> int:
    """Which of a case's raters counts, 0 to num_raters - 1."""
    if num_raters < 1:
        raise ValueError(f"{case}: num_raters must be at least 1, got {num_raters}")
    return int(np.random.default_rng(stream_seed(seed, "rater", case)).integers(num_raters))


class LevelQuantile(Stored):
    """Quantile of the scores at a level; None where there are too few and the interval is infinite."""

    level: Annotated[float, Field(gt=0, lt=1)]
    quantile: float | None


def _of_levels(entries: list[LevelQuantile]) -> list[LevelQuantile]:
    """Levels ascend, and quantiles with them; those that are infinite come last."""
    levels = [entry.level for entry in entries]
    quantiles = [math.inf if entry.quantile is None else entry.quantile for entry in entries]
    require(levels == sorted(set(levels)) and quantiles == sorted(quantiles), "levels and quantiles must ascend")
    return entries


Quantiles = Annotated[list[LevelQuantile], Field(min_length=1), AfterValidator(_of_levels)]


class VolumeIntervals(Stored):
    """Conformal intervals of a structure's volume.

    Attributes
    ----------
    has_samples
        Whether errors are divided by σ + σ₀; else they count as they are.
    least_spread_ml
        σ₀ in ml; 0 without samples.
    quantiles
        Quantile of the score at each level.
    num_patients
        Number of units they rest on, one case of each patient.
    num_cases
        Number of cases that these were drawn from.
    """

    has_samples: bool
    least_spread_ml: NotNegative
    quantiles: Quantiles
    num_patients: Count
    num_cases: Count

    @model_validator(mode="after")
    def _consistent(self) -> VolumeIntervals:
        require(
            all(entry.quantile is None or entry.quantile >= 0 for entry in self.quantiles),
            "quantiles must be at least 0",
        )
        require(self.num_patients <= self.num_cases, "num_patients must be at most num_cases")
        require(self.has_samples == (self.least_spread_ml > 0), "least_spread_ml must be 0 without samples alone")
        return self

    @classmethod
    def fit(
        cls,
        volume_ml: np.ndarray,
        expected_ml: np.ndarray,
        spread_ml: np.ndarray | None,
        *,
        levels: Sequence[float] = LEVELS,
        num_cases: int | None = None,
    ) -> VolumeIntervals:
        """Intervals from one case of each of n patients.

        Parameters
        ----------
        volume_ml
            Volumes V of the reference, (n,), ml.
        expected_ml
            Expected volumes V̂, (n,), ml.
        spread_ml
            Standard deviations σ of the sampled volumes, (n,), ml; None without samples.
        levels
            Levels in (0, 1).
        num_cases
            Number of cases that the n were drawn from, n by default.
        """
        _check_volumes(volume_ml=volume_ml, expected_ml=expected_ml, spread_ml=spread_ml)
        least = 0.0
        if spread_ml is not None and len(spread_ml):
            least = float(np.median(spread_ml)) or float(np.mean(spread_ml))
        has_samples = least > 0
        scale = spread_ml + least if spread_ml is not None and has_samples else np.ones(len(volume_ml))
        scores = np.abs(np.asarray(volume_ml) - expected_ml) / scale
        return cls(
            has_samples=has_samples,
            least_spread_ml=least,
            quantiles=_quantiles(scores, levels),
            num_patients=len(scores),
            num_cases=len(scores) if num_cases is None else num_cases,
        )

    def interval(self, level: float, expected_ml: float, spread_ml: float | None) -> tuple[float, float]:
        """Least and greatest volume in ml, the greatest infinite where there were too few validation patients.

        Parameters
        ----------
        level
            One of the levels that were fitted.
        expected_ml
            Expected volume V̂ of the new case, ml.
        spread_ml
            Standard deviation σ of its sampled volumes, ml; None without samples.
        """
        quantile = _find(self.quantiles, level)
        if self.has_samples and spread_ml is None:
            raise ValueError(
                "the intervals were fitted to predictions with samples, and this one has none: predict with as many "
                "samples as on the validation images"
            )
        if quantile is None:
            return 0.0, math.inf
        half = quantile * (spread_ml + self.least_spread_ml if self.has_samples and spread_ml is not None else 1.0)
        return max(0.0, expected_ml - half), expected_ml + half


class DiceBounds(Stored):
    """Conformal lower bounds of a predicted Dice.

    Attributes
    ----------
    quantiles
        Quantile of predicted - true Dice at each level.
    num_patients
        Number of units they rest on, one case of each patient.
    """

    quantiles: Quantiles
    num_patients: Count

    @model_validator(mode="after")
    def _consistent(self) -> DiceBounds:
        require(
            all(entry.quantile is None or abs(entry.quantile) <= 1 for entry in self.quantiles),
            "quantiles must be in [-1, 1]",
        )
        return self

    @classmethod
    def fit(cls, predicted: np.ndarray, true: np.ndarray, *, levels: Sequence[float] = LEVELS) -> DiceBounds:
        """Bounds from predicted and true Dice, (n,) in [0, 1], of one case of each of n patients.

        The predictions must be of models that did not see the case. Where these are the models of a cross-validation
        and new cases are predicted by one fitted to all, coverage is near the level and no longer exact: Barber et
        al., Predictive inference with the jackknife+, Annals of Statistics 2021.
        """
        if np.shape(predicted) != np.shape(true):
            raise ValueError(f"predicted {np.shape(predicted)} and true {np.shape(true)} must have the same shape")
        scores = np.asarray(predicted, dtype=np.float64) - true
        return cls(quantiles=_quantiles(scores, levels), num_patients=len(scores))

    def lower(self, level: float, predicted: float) -> float:
        """Lower bound in [0, 1] of the Dice of a new case; 0 where there were too few validation patients."""
        quantile = _find(self.quantiles, level)
        return 0.0 if quantile is None else min(1.0, max(0.0, predicted - quantile))


def _quantiles(scores: np.ndarray, levels: Sequence[float]) -> list[LevelQuantile]:
    found = [(level, conformal_quantile(scores, level)) for level in sorted(levels)]
    return [LevelQuantile(level=level, quantile=None if np.isinf(value) else value) for level, value in found]


def _find(quantiles: Sequence[LevelQuantile], level: float) -> float | None:
    for entry in quantiles:
        if math.isclose(entry.level, level):
            return entry.quantile
    raise ValueError(f"level must be one of {', '.join(f'{entry.level:g}' for entry in quantiles)}, got {level:g}")


def _rank(number: int, level: float) -> int:
    _check_level(level)
    return math.ceil((number + 1) * level - _ROUNDING)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")


def _check_volumes(**volumes: np.ndarray | None) -> None:
    lengths = {name: np.shape(values) for name, values in volumes.items() if values is not None}
    if len(set(lengths.values())) > 1 or any(len(shape) != 1 for shape in lengths.values()):
        raise ValueError(f"volumes and spreads must be (n,) of the same length, got {lengths}")
    for name, values in volumes.items():
        if values is not None and not (np.isfinite(values).all() and (np.asarray(values) >= 0).all()):
            raise ValueError(f"{name} must be finite and not negative, got {np.asarray(values)[:10]}")
