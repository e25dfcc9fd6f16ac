"""Intervals of what ``judged_lesions`` says: sensitivities, false positives, and the error of the existence.

A replicate's sensitivity is over the lesions of the references of the cases it draws, and does not exist without any;
that at so many false positives per case is its largest over the thresholds of all cases with at most so many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnunet_stochastic.decisions.intervals import intervals_of
from nnunet_stochastic.decisions.statistics import LesionStatistics
from nnunet_stochastic.metrics import ReliabilityBins, calibration_errors_bootstrap

__all__ = ["lesion_intervals"]

# Of false positives per case: sums of thirds, say, in another order.
_ROUNDING = 1e-9


def lesion_intervals(
    lesions: Sequence[LesionStatistics],
    thresholds: Sequence[float],
    allowed: Sequence[float],
    bins: Sequence[ReliabilityBins] | None,
    weights: np.ndarray,
) -> dict[str, Any]:
    """Intervals of ``segmentation``, of ``sensitivity_at`` and of the ``existence_calibration_error``.

    Parameters
    ----------
    lesions
        Of N cases.
    thresholds
        Shares of the samples from which on lesions count.
    allowed
        False positives per case at which the sensitivity is said.
    bins
        Reliability bins of the existence of each case; None where it is not judged.
    weights
        How often each replicate draws each case, (B, N), integers.
    """
    of_segmentation = [~each.is_candidate for each in lesions]
    sensitivity, false = _points(lesions, [[each] for each in of_segmentation], weights)
    alone = {"sensitivity": sensitivity[:, 0], "false_per_case": false[:, 0]}
    counted = [[each.shares >= threshold for threshold in thresholds] for each in lesions]
    sensitivity, false = _points(lesions, counted, weights)
    known = np.isfinite(sensitivity).all(axis=1)
    at = {
        f"{number:g}": np.where(
            known, np.where(false <= number + _ROUNDING, sensitivity, 0).max(axis=1, initial=0), np.nan
        )
        for number in allowed
    }
    found: dict[str, Any] = {"segmentation": intervals_of(alone), "sensitivity_at": intervals_of(at)}
    if bins is not None:
        stacked = np.stack([[each.count, each.confidence_sum, each.correct_sum] for each in bins])
        errors = calibration_errors_bootstrap(stacked.astype(np.float64), weights)
        found |= intervals_of({"existence_calibration_error": errors.expected})
    return found


def _points(
    lesions: Sequence[LesionStatistics], counted: Sequence[Sequence[np.ndarray]], weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sensitivity and false positives per case of T choices of each case's lesions (L,) in each replicate, (B, T)."""
    hits = np.array([[each.matched[:, which].sum() for which in of] for each, of in zip(lesions, counted, strict=True)])
    false = np.array(
        [
            [(~each.matched[:, which]).sum(axis=1).mean() for which in of]
            for each, of in zip(lesions, counted, strict=True)
        ]
    )
    total = weights @ np.array([each.num_reference.sum() for each in lesions])
    number = weights.sum(axis=1)
    shape = (len(weights), hits.shape[1])
    sensitivity = np.divide(weights @ hits, total[:, None], out=np.full(shape, np.nan), where=total[:, None] > 0)
    per_case = np.divide(weights @ false, number[:, None], out=np.full(shape, np.nan), where=number[:, None] > 0)
    return sensitivity, per_case
