"""Dice of all pairs of N label maps, by structure, from one count of their common voxels: 2 |a ∩ b| / (|a| + |b|).

Policy: a pair of which both lack the structure has no Dice and is left out of the mean; the mean of no pair is NaN.
Counts are sums over voxels: ``a + b`` is that of two parts of an image, so the maps need never be in memory whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_stochastic.metrics import co_occurrence, dice_of_pairs

__all__ = ["Overlaps"]


@dataclass(frozen=True)
class Overlaps:
    """Voxels that two of N segmentations both give to a structure.

    Attributes
    ----------
    counts
        Voxels of both, (number of structures, N, N), int64; the diagonal holds the sizes.
    """

    counts: np.ndarray

    @classmethod
    def of(cls, *segmentations: np.ndarray, classes: Sequence[Sequence[int]]) -> Overlaps:
        """Count the overlaps of label maps.

        Parameters
        ----------
        segmentations
            Label maps, (N, *S), integers; of several arrays those of all.
        classes
            The label values of each structure: one for a label, several for a region.
        """
        return cls(co_occurrence(*segmentations, classes=classes))

    def __add__(self, other: Overlaps) -> Overlaps:
        if self.counts.shape != other.counts.shape:
            raise ValueError(
                f"parts of an image must have the same structures and maps, got {self.counts.shape} and "
                f"{other.counts.shape}"
            )
        return Overlaps(self.counts + other.counts)

    @property
    def num_maps(self) -> int:
        """N."""
        return self.counts.shape[1]

    @property
    def voxels(self) -> np.ndarray:
        """Size of each structure in each map, (number of structures, N), voxels."""
        return np.diagonal(self.counts, axis1=1, axis2=2)

    def mean_dice(self) -> np.ndarray:
        """Mean Dice of the pairs of different maps, (number of structures,), in [0, 1]; NaN without a pair."""
        dice = dice_of_pairs(self.counts)
        known = np.isfinite(dice)
        number = known.sum(axis=1)
        total = np.where(known, dice, 0).sum(axis=1)
        return np.divide(total, number, out=np.full(len(dice), np.nan), where=number > 0)
