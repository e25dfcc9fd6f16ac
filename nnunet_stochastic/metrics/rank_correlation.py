"""Spearman's rank correlation: Pearson's correlation of the ranks, of which equal values have their mean.

Policy: fewer than two cases, or all of one side equal -> NaN; a NaN among the values -> ValueError.
Reference: Spearman, The proof and measurement of association between two things, American Journal of Psychology 1904.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

__all__ = ["rank_correlation", "rank_correlation_bootstrap"]


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation of (n,) and (n,), in [-1, 1]."""
    _check(one, other)
    ranks = rankdata(one), rankdata(other)
    if len(one) < 2 or np.ptp(ranks[0]) == 0 or np.ptp(ranks[1]) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def rank_correlation_bootstrap(one: np.ndarray, other: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rank correlation of the replicates of a bootstrap over n cases, from one sort of each side.

    Parameters
    ----------
    one, other
        Values of the cases, (n,).
    weights
        How often each replicate holds each case, (B, n), integers >= 0.

    Returns
    -------
    np.ndarray
        Correlation of each replicate, (B,).
    """
    _check(one, other)
    total = weights.sum(axis=1)
    deviations = []
    varies = total > 1
    for values in (one, other):
        distinct, place = np.unique(values, return_inverse=True)
        count = np.zeros((len(weights), len(distinct)))
        np.add.at(count.T, place, weights.T)
        varies &= np.count_nonzero(count, axis=1) > 1
        ranks = np.cumsum(count, axis=1) - (count - 1) / 2
        deviations.append(ranks[:, place] - (total[:, np.newaxis] + 1) / 2)  # the mean rank, whatever the ties
    covariance, *variances = (
        (weights * a * b).sum(axis=1) for a, b in (deviations, deviations[:1] * 2, deviations[1:] * 2)
    )
    scale = np.sqrt(variances[0] * variances[1])
    return np.divide(covariance, scale, out=np.full(len(weights), np.nan), where=varies)


def _check(one: np.ndarray, other: np.ndarray) -> None:
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"one and other must be (n,) of the same length, got {one.shape} and {other.shape}")
    if np.isnan(one).any() or np.isnan(other).any():
        raise ValueError("a value is NaN; without it a case has no rank, leave it out")
