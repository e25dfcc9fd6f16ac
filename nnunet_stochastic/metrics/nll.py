"""Negative log-likelihood of labels under the predictive mean: NLL = mean_n -ln max(p_n[y_n], 1e-8), in nats.

The logarithm and the floor are in float64: in float32, 1 - 1e-8 is 1 and the floor of 1 - p would be lost.
Policy: no voxels -> NaN; a NaN among the probabilities -> ValueError. Voxels with the ignore label
are left out before the call.
Reference: Gneiting and Raftery, Strictly proper scoring rules, JASA 2007.
"""

from __future__ import annotations

import numpy as np

from nnunet_stochastic.metrics._checks import check_binary, check_labels

__all__ = ["PROBABILITY_FLOOR", "binary_nll", "nll"]

PROBABILITY_FLOOR = 1e-8


def nll(probabilities: np.ndarray, label: np.ndarray) -> float:
    """Mean over voxels of -ln of the probability of the voxel's label.

    Parameters
    ----------
    probabilities
        Predictive mean, (C, *S), in [0, 1], summing to 1 over classes.
    label
        Label map, (*S), integers in [0, C).

    Returns
    -------
    float
        Nats per voxel, in [0, -ln 1e-8].
    """
    check_labels(probabilities, label)
    if label.size == 0:
        return float("nan")
    at_label = np.take_along_axis(probabilities, label[np.newaxis], axis=0)
    return _mean_negative_log(at_label)


def binary_nll(probability: np.ndarray, target: np.ndarray) -> float:
    """Mean over all elements of the NLL of a yes/no event: one class against the rest, or regions.

    Parameters
    ----------
    probability
        Probability that the event happens, any shape, in [0, 1]; (C, *S) gives the mean over C regions.
    target
        Whether it happened, bool, same shape.

    Returns
    -------
    float
        Nats per element, in [0, -ln 1e-8].
    """
    check_binary(probability, target)
    if target.size == 0:
        return float("nan")
    probability = np.asarray(probability, dtype=np.float64)
    return _mean_negative_log(np.where(target, probability, 1.0 - probability))


def _mean_negative_log(probability: np.ndarray) -> float:
    return float(-np.mean(np.log(np.maximum(probability, PROBABILITY_FLOOR, dtype=np.float64))))
