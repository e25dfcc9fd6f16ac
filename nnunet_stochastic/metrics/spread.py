"""How much segmentations of one image differ: from each other in overlap and volume, and whether one covers the other.

    pairwise Dice   mean over classes and pairs i < j of Dice(y_i, y_j)
    spread          sd(V) / mean(V), the coefficient of variation of volumes, ddof 1
    coverage        share of observed volumes in the central interval of sampled ones, ends included

Policy: Dice of a class that is empty in both is left out; without any pair or class left, NaN. Spread of fewer than two
volumes, or of volumes with mean 0, is NaN, coverage without samples or observations as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from nnunet_stochastic.metrics.dice import dice, joint_label_counts

__all__ = ["interval_coverage", "pairwise_dice", "volume_spread"]


def pairwise_dice(label_maps: np.ndarray, classes: Sequence[Sequence[int]], *, num_labels: int) -> float:
    """Mean Dice of all pairs of A label maps.

    Parameters
    ----------
    label_maps
        Label maps, (A, n), integers in [0, num_labels).
    classes
        The label values that make up each class.
    num_labels
        Number of label values, background included.
    """
    found = [
        dice(joint_label_counts(one, other, num_labels=num_labels), classes)
        for one, other in combinations(label_maps, 2)
    ]
    known = np.isfinite(found)
    return float(np.array(found)[known].mean()) if np.any(known) else float("nan")


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
