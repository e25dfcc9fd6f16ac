"""How much segmentations of one image differ: from each other in overlap and volume, and whether one covers the other.

    pairwise Dice   mean over classes and pairs i < j of Dice(y_i, y_j)
    spread          sd(V) / mean(V), the coefficient of variation of volumes, ddof 1
    coverage        share of observed volumes in the central interval of sampled ones, ends included

Policy: Dice of a class that is empty in both is left out; without any pair or class left, NaN. Spread of fewer than two
volumes, or of volumes with mean 0, is NaN, coverage without samples or observations as well.
"""

from __future__ import annotations

import numpy as np

__all__ = ["dice_of_pairs", "interval_coverage", "pairwise_dice", "volume_spread"]


def pairwise_dice(counts: np.ndarray) -> float:
    """Mean Dice of all pairs of A label maps, given what ``co_occurrence`` counted of them, (classes, A, A)."""
    dice = dice_of_pairs(counts)
    known = dice[np.isfinite(dice)]
    return float(known.mean()) if known.size else float("nan")


def dice_of_pairs(counts: np.ndarray) -> np.ndarray:
    """Dice of each class and pair i < j, (classes, A (A - 1) / 2); NaN where both lack the class."""
    first, second = np.triu_indices(counts.shape[1], k=1)
    volume = np.diagonal(counts, axis1=1, axis2=2)
    size = volume[:, first] + volume[:, second]
    return np.divide(2 * counts[:, first, second], size, out=np.full(size.shape, np.nan), where=size > 0)


def volume_spread(volumes: np.ndarray) -> float:
    """Coefficient of variation of volumes (K,), any unit, >= 0."""
    volumes = np.asarray(volumes, dtype=np.float64)
    if volumes.size < 2 or volumes.mean() == 0:
        return float("nan")
    return float(volumes.std(ddof=1) / volumes.mean())


def interval_coverage(samples: np.ndarray, observations: np.ndarray, *, level: float) -> float:
    """Share of the observations between the (1 - level)/2 and (1 + level)/2 quantiles of the samples.

    Parameters
    ----------
    samples
        Sampled volumes, (K,).
    observations
        Observed volumes, (A,), in the same unit.
    level
        Nominal coverage, in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"the level must lie between 0 and 1, got {level}")
    if not np.size(samples) or not np.size(observations):
        return float("nan")
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(np.mean((low <= np.asarray(observations)) & (np.asarray(observations) <= high)))
