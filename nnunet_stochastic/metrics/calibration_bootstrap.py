"""Calibration errors of the replicates of a bootstrap, from the bins of each case (``metrics.calibration``).

The bins of a replicate are the sum of its cases' bins, each as often as it was drawn.
Policy: empty bins are left out; a replicate without voxels -> NaN.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

__all__ = ["CalibrationErrors", "calibration_errors_bootstrap"]


class CalibrationErrors(NamedTuple):
    """ACE, ECE and MCE of each replicate, (B,), in [0, 1]."""

    average: np.ndarray
    expected: np.ndarray
    maximum: np.ndarray


def calibration_errors_bootstrap(
    bins: np.ndarray, weights: np.ndarray, *, norm: Literal["l1", "l2"] = "l1"
) -> CalibrationErrors:
    """Errors of the replicates.

    Parameters
    ----------
    bins
        Of each case count, sum of confidences and number correct in each bin, (N, 3, M).
    weights
        How often each replicate holds each case, (B, N), integers >= 0.
    norm
        Norm of the ECE.
    """
    count, confidence, correct = np.moveaxis(np.tensordot(weights, bins, axes=1), 1, 0)
    filled = count > 0
    gap = np.divide(np.abs(correct - confidence), count, out=np.zeros(count.shape), where=filled)
    number, total = filled.sum(axis=1), count.sum(axis=1)

    def where_known(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
        return np.divide(numerator, denominator, out=np.full(len(count), np.nan), where=denominator > 0)

    expected = where_known((count * (gap if norm == "l1" else gap**2)).sum(axis=1), total)
    return CalibrationErrors(
        where_known(gap.sum(axis=1), number),
        expected if norm == "l1" else np.sqrt(expected),
        np.where(number > 0, gap.max(axis=1, initial=0), np.nan),
    )
