"""Histogram of uncertainties with what calibration needs per bin: count, how many were correct, sum of uncertainties.

Bins are equally spaced in log10 u from 1e-12 to 1e2, 256 a decade, after a first bin for what is smaller, zero above
all; the last bin also takes what is larger. Neighbouring edges differ by 0.9 %, so that a quantile, read as a threshold
for uncertainties, is right to 0.9 %; a logistic fit through the bins' means would do with far fewer. The smallest
value of a bin stands for its values: many voxels of the same uncertainty are then never below a threshold among them.
The size does not depend on how many voxels are counted, and ``a + b`` pools two sets of voxels.
Policy: no voxels -> no bin is filled and quantiles are NaN; NaN, infinite or negative -> ValueError. Voxels with the
ignore label are left out before the call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["UncertaintyHistogram"]

_LOWEST_EXPONENT, _HIGHEST_EXPONENT, _BINS_PER_DECADE = -12, 2, 256
_NUM_BINS = 1 + (_HIGHEST_EXPONENT - _LOWEST_EXPONENT) * _BINS_PER_DECADE

# Voxels binned at a time, so that the temporary arrays stay small whatever the image's size.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class UncertaintyHistogram:
    """Sufficient statistic of Platt scaling and of quantiles.

    Attributes
    ----------
    count
        Number of predictions per bin, (bins,), int64; a voxel counts once for each rater.
    correct_count
        Number of them that were correct, (bins,), int64.
    uncertainty_sum
        Sum of their uncertainties, (bins,), float64.
    smallest
        Smallest of their uncertainties, (bins,), float64; infinite in an empty bin.
    largest
        Largest uncertainty of all, minus infinity without any.
    """

    count: np.ndarray
    correct_count: np.ndarray
    uncertainty_sum: np.ndarray
    smallest: np.ndarray
    largest: float

    @classmethod
    def empty(cls) -> UncertaintyHistogram:
        """The histogram of no voxels, to which others are added."""
        count, correct_count = np.zeros((2, _NUM_BINS), np.int64)
        return cls(count, correct_count, np.zeros(_NUM_BINS), np.full(_NUM_BINS, np.inf), -np.inf)

    @classmethod
    def of(cls, uncertainty: np.ndarray, correct: np.ndarray) -> UncertaintyHistogram:
        """Sort a map into bins.

        Parameters
        ----------
        uncertainty
            Map, (*S), finite, >= 0, in nats.
        correct
            Whether the prediction is the annotation, bool, (*S), or (A, *S) for the annotations of A raters.

        Returns
        -------
        UncertaintyHistogram
            The sums per bin over voxels and raters.
        """
        if correct.dtype != np.bool_:
            raise ValueError(f"correct must be boolean, got {correct.dtype}")
        if correct.shape not in (uncertainty.shape, (len(correct), *uncertainty.shape)):
            raise ValueError(
                f"correct must be (*S) or (A, *S) for an uncertainty (*S) of {uncertainty.shape}, got {correct.shape}"
            )
        # Written so that NaN, for which every comparison is false, fails.
        if uncertainty.size and not (uncertainty.min() >= 0 and uncertainty.max() < np.inf):
            raise ValueError(
                f"uncertainty must be finite and not negative, got values from {uncertainty.min()} to "
                f"{uncertainty.max()}"
            )
        if uncertainty.size == 0:
            return cls.empty()
        uncertainty, correct = uncertainty.ravel(), correct.reshape(-1, uncertainty.size)
        num_raters = len(correct)
        count, correct_count = np.zeros(_NUM_BINS, dtype=np.int64), np.zeros(_NUM_BINS, dtype=np.int64)
        uncertainty_sum, smallest = np.zeros(_NUM_BINS), np.full(_NUM_BINS, np.inf)
        for start in range(0, uncertainty.size, _CHUNK):
            values = uncertainty[start : start + _CHUNK].astype(np.float64)
            bins = _bin_of(values)
            agreeing = correct[:, start : start + _CHUNK].sum(axis=0)
            count += num_raters * np.bincount(bins, minlength=_NUM_BINS)
            correct_count += np.bincount(bins, weights=agreeing, minlength=_NUM_BINS).astype(np.int64)
            uncertainty_sum += num_raters * np.bincount(bins, weights=values, minlength=_NUM_BINS)
            np.minimum.at(smallest, bins, values)
        return cls(count, correct_count, uncertainty_sum, smallest, float(uncertainty.max()))

    def __add__(self, other: UncertaintyHistogram) -> UncertaintyHistogram:
        return UncertaintyHistogram(
            self.count + other.count,
            self.correct_count + other.correct_count,
            self.uncertainty_sum + other.uncertainty_sum,
            np.minimum(self.smallest, other.smallest),
            max(self.largest, other.largest),
        )

    @property
    def is_constant(self) -> bool:
        """Whether all voxels are in one bin: the same uncertainty to within 0.9 %, or none above 1e-12."""
        return bool(np.count_nonzero(self.count) <= 1)

    def quantile(self, q: float) -> float:
        """The q-quantile of the voxels' uncertainties, linear between neighbours as NumPy's.

        Parameters
        ----------
        q
            Share of the voxels, in [0, 1].

        Returns
        -------
        float
            In the uncertainty's unit, below the quantile of the uncertainties themselves by at most 0.9 % and never
            above it; their smallest and largest for 0 and 1. NaN without voxels.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q must be in [0, 1], got {q}")
        if not self.count.any():
            return float("nan")
        cumulative = np.cumsum(self.count)
        rank = q * (cumulative[-1] - 1)
        below = int(rank)
        low, high = (self._at(cumulative, place) for place in (below, below + 1))
        return low + (rank - below) * (high - low)

    def _at(self, cumulative: np.ndarray, place: int) -> float:
        """Uncertainty at a place, from 0, of all in ascending order; the largest for the last and beyond."""
        if place >= cumulative[-1] - 1:
            return self.largest
        return float(self.smallest[np.searchsorted(cumulative, place, "right")])


def _bin_of(uncertainty: np.ndarray) -> np.ndarray:
    # Zero has no logarithm: everything below the first edge is taken to a value that falls below it.
    exponent = np.log10(np.maximum(uncertainty, 10.0 ** (_LOWEST_EXPONENT - 1)))
    bins = np.floor((exponent - _LOWEST_EXPONENT) * _BINS_PER_DECADE).astype(np.int64) + 1
    return np.clip(bins, 0, _NUM_BINS - 1)
