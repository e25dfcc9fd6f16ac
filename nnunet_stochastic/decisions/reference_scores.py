"""Where the scores of a new image are among those of the validation images: is it like them?

    percentile = 100 Σ_i w_i ([s_i < s] + ½ [s_i = s])        w_i = 1 / (K · number of cases of i's patient)
    p-value    = (1 + K Σ_i w_i [s_i >= s]) / (K + 1)

over the validation cases of K patients, of which each has the same weight. For an image drawn at random of a new
patient that is exchangeable with them P(p-value <= α) <= α: a small one says that the image is unlike them (larger
scores are more uncertain). Lee, Barber and Willett, Distribution-free inference with hierarchical data, JRSS B 2025,
https://arxiv.org/abs/2306.06342; for one case per patient this is the conformal p-value of Vovk et al.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from nnunet_stochastic.decisions.stored import Positive, Stored, require

__all__ = ["ReferenceScores"]

_ROUNDING = 1e-6


class ReferenceScores(Stored):
    """Distribution of an image score over the validation cases.

    Attributes
    ----------
    scores
        Scores of the cases, ascending.
    weights
        Weight of each, > 0; they add up to 1.
    num_patients
        Number K of patients.
    """

    scores: Annotated[list[float], Field(min_length=1)]
    weights: list[Annotated[float, Field(gt=0)]]
    num_patients: Positive

    @model_validator(mode="after")
    def _consistent(self) -> ReferenceScores:
        require(
            len(self.scores) == len(self.weights) and sorted(self.scores) == self.scores,
            "scores must ascend and have a weight each",
        )
        require(abs(sum(self.weights) - 1) < _ROUNDING, "weights must add up to 1")
        require(self.num_patients <= len(self.scores), "num_patients must be at most the number of scores")
        return self

    @classmethod
    def fit(cls, scores: Sequence[float], patients: Sequence[str]) -> ReferenceScores:
        """Keep the scores of N cases and how much each counts."""
        if not len(scores) or len(scores) != len(patients) or not np.isfinite(scores).all():
            raise ValueError(f"there must be finite scores, one per case of {len(patients)}, got {scores!r:.80}")
        cases = Counter(patients)
        pairs = sorted(
            (float(score), 1 / (len(cases) * cases[patient])) for score, patient in zip(scores, patients, strict=True)
        )
        return cls(scores=[s for s, _ in pairs], weights=[w for _, w in pairs], num_patients=len(cases))

    def percentile(self, score: float) -> float:
        """Share of the validation images below a score, in percent, those of the same score counted half."""
        _check(score)
        values, weights = np.asarray(self.scores), np.asarray(self.weights)
        below = weights[values < score].sum() + weights[values == score].sum() / 2
        return float(
            100 * min(1.0, below / weights.sum())
        )  # their sum is 1 but for rounding, and all of them are 100 %

    def p_value(self, score: float) -> float:
        """Conformal p-value of a score, in [1 / (K + 1), 1]."""
        _check(score)
        above = np.asarray(self.weights)[np.asarray(self.scores) >= score].sum()
        return float(min(1.0, (1 + self.num_patients * above) / (self.num_patients + 1)))


def _check(score: float) -> None:
    if not np.isfinite(score):
        raise ValueError(f"the score of an image must be finite, got {score}")
