"""Probability that a lesion is there, from the share of the samples (or members) that have it.

    P(there | share) = 1 / (1 + exp(a (share - 1) + b)),   a <= 0

Platt scaling of 1 - share (``metrics.PlattScaling``), fitted to the lesions of all validation cases and, with several
raters, to each rater's word on them. A lesion is there where it is matched one to one with one of the reference.
Where the share does not tell lesions from others, as all have the same or more samples have those that are not there,
a is 0 and the probability that of all lesions, (k + 1) / (n + 2) for k of n.
Policy: no lesion in any validation case -> ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from nnunet_stochastic.decisions.stored import Count, Stored
from nnunet_stochastic.metrics import PlattScaling, UncertaintyHistogram

__all__ = ["ExistenceCalibration"]


class ExistenceCalibration(Stored):
    """Monotone map from share to probability.

    Attributes
    ----------
    a, b
        Parameters, a at most 0.
    num_lesions, num_cases, num_patients
        What they were fitted to: lesions and candidates, cases and patients that have one.
    has_candidates
        Whether candidates are among the lesions; else the probability is not one of candidates.
    """

    a: Annotated[float, Field(le=0)]
    b: float
    num_lesions: Count
    num_cases: Count
    num_patients: Count
    has_candidates: bool = True

    @classmethod
    def fit(
        cls,
        shares: Sequence[np.ndarray],
        matched: Sequence[np.ndarray],
        patients: Sequence[str],
        *,
        has_candidates: bool = True,
    ) -> ExistenceCalibration:
        """Fit to the lesions of N cases.

        Parameters
        ----------
        shares
            Share of the samples that have each lesion, N arrays (L,), in [0, 1].
        matched
            Whether each rater (or the reference) has it, N arrays (A, L), bool.
        patients
            Patient of each case.
        has_candidates
            Whether candidates are among the lesions.
        """
        for share, found in zip(shares, matched, strict=True):
            if found.dtype != np.bool_ or found.ndim != 2 or found.shape[1] != len(share):
                raise ValueError(f"matched must be boolean (A, {len(share)}), got {found.dtype} {found.shape}")
            if not ((share >= 0) & (share <= 1)).all():
                raise ValueError(f"a share of the samples must be in [0, 1], got {share}")
        with_lesions = [index for index, share in enumerate(shares) if len(share)]
        if not with_lesions:
            raise ValueError("no validation case has a lesion")
        histogram = UncertaintyHistogram.empty()
        for index in with_lesions:
            histogram += UncertaintyHistogram.of(1 - np.asarray(shares[index], np.float64), matched[index])
        count, correct = int(histogram.count.sum()), int(histogram.correct_count.sum())
        a, b = 0.0, float(np.log((count - correct + 1) / (correct + 1)))
        if not histogram.is_constant:
            scaling = PlattScaling.fit(histogram)
            if scaling.a < 0:
                a, b = scaling.a, scaling.b
        return cls(
            a=a,
            b=b,
            has_candidates=has_candidates,
            num_lesions=sum(len(share) for share in shares),
            num_cases=len(with_lesions),
            num_patients=len({patients[index] for index in with_lesions}),
        )

    def probability(self, share: float) -> float:
        """Probability in [0, 1] that a lesion is there that this share of the samples has; grows with the share."""
        if not 0 <= share <= 1:
            raise ValueError(f"a share of the samples must be in [0, 1], got {share}")
        return float(PlattScaling(self.a, self.b).confidence(np.array(1.0 - share)))
