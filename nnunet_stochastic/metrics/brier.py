"""Brier score of the predictive mean: BS = mean_n sum_c (p_n[c] - 1[y_n = c])^2, Brier's own multi-class form.

For two classes it is twice the binary score mean_n (p_n - y_n)^2. The score of all classes is the sum of the
binary scores of every class, background included.
Policy: no voxels -> NaN; a NaN among the probabilities -> ValueError. Voxels with the ignore label
are left out before the call.
Reference: Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review 1950.
"""

from __future__ import annotations

import numpy as np

from nnunet_stochastic.metrics._checks import check_binary, check_labels

__all__ = ["binary_brier", "brier"]


def brier(probabilities: np.ndarray, label: np.ndarray) -> float:
    """Mean over voxels of the squared distance between the probabilities and the one-hot label.

    Parameters
    ----------
    probabilities
        Predictive mean, (C, *S), in [0, 1], summing to 1 over classes.
    label
        Label map, (*S), integers in [0, C).

    Returns
    -------
    float
        Score in [0, 2]; 0 is best.
    """
    check_labels(probabilities, label)
    return sum(binary_brier(probability, label == c) for c, probability in enumerate(probabilities))


def binary_brier(probability: np.ndarray, target: np.ndarray) -> float:
    """Mean over all elements of (p - y)^2: one class against the rest, or regions.

    Parameters
    ----------
    probability
        Probability that the event happens, any shape, in [0, 1]; (C, *S) gives the mean over C regions.
    target
        Whether it happened, bool, same shape.

    Returns
    -------
    float
        Score in [0, 1]; 0 is best.
    """
    check_binary(probability, target)
    if target.size == 0:
        return float("nan")
    return float(np.mean(np.square(np.subtract(probability, target, dtype=np.float64))))
