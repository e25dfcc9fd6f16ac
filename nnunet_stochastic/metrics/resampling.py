"""Means and medians of the replicates of a bootstrap, and the interval that replicates make.

A replicate draws cases with replacement: how often it holds each case is its weight, an integer >= 0, so that B
replicates of N cases are weights (B, N) and no table is copied. Where patients are drawn, their cases share a weight.

    interval = 2.5 % and 97.5 % quantile of a number over the replicates         (percentile interval, 95 %)

Policy: a replicate in which the number does not exist, such as the AUROC of failures without a failure, is NaN and left
out; there is no interval (NaN) where none of the replicates has the number or all have the same, as of one patient or
of a number at its bound: resampling says nothing then, and an interval without width would look like certainty.
Reference: Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 1979.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["BOOTSTRAP_LEVEL", "mean_of_known", "percentile_interval", "weighted_mean", "weighted_median"]

#: Level of the intervals.
BOOTSTRAP_LEVEL = 0.95

# Difference of replicates that is rounding.
_ROUNDING = 1e-12


def percentile_interval(replicates: np.ndarray) -> tuple[float, float]:
    """Interval of a number from its replicates (B,), of which those that are not finite are left out."""
    known = replicates[np.isfinite(replicates)]
    if not known.size or np.ptp(known) <= _ROUNDING * np.abs(known).max():
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - BOOTSTRAP_LEVEL) / 2, (1 + BOOTSTRAP_LEVEL) / 2])
    return float(low), float(high)


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of (N,) with each replicate's weights (B, N), (B,); values that are not finite are left out."""
    known = np.isfinite(values)
    total = weights[:, known].sum(axis=1)
    return np.divide(weights[:, known] @ values[known], total, out=np.full(len(weights), np.nan), where=total > 0)


def mean_of_known(replicates: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of several numbers (B,) in each replicate, (B,); those that are not finite are left out."""
    values = np.stack(replicates)
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=0)
    return np.divide(total, known.sum(axis=0), out=np.full(values.shape[1:], np.nan), where=known.any(axis=0))


def weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Median of (N,) with each replicate's weights (B, N), (B,); values that are not finite are left out."""
    known = np.isfinite(values)
    order = np.argsort(values[known])
    ascending, upto = values[known][order], np.cumsum(weights[:, known][:, order], axis=1)
    median = np.full(len(weights), np.nan)
    if not ascending.size:
        return median
    filled = upto[:, -1] > 0
    upto = upto[filled]
    total = upto[:, -1:]
    # The k-th drawn value, from 0, is the first up to which more than k are drawn.
    low, high = (ascending[np.argmax(upto > place, axis=1)] for place in ((total - 1) // 2, total // 2))
    median[filled] = (low + high) / 2
    return median
