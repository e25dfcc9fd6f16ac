"""The agreement metrics of the CURVAS challenges, for a class (one label or several) that A raters have annotated.

    consensus  M = all raters in the class, or none     Dice of the prediction with the raters on M
    confidence ½ (mean p where all are in the class + 1 - mean p where none is)
    soft Dice  mean over t of Dice(p > t, share of raters > t), t = 0.1, 0.24, 0.38, 0.52, 0.66, 0.8

The challenges' other metrics are Dice against a fused reference, ``expected_calibration_error`` with 50 bins against
each rater, and ``crps_gaussian`` of the volume sum p against the raters' volumes.
Policy: NaN where a class is in no consensus and not predicted there (Dice), or where one of the two regions is empty
(confidence); a threshold that both leave empty has Dice 1; a NaN among the probabilities -> ValueError.
References: CURVAS 2024, https://curvas.grand-challenge.org, and CURVAS-PDACVI 2025,
https://curvas-pdacvi.grand-challenge.org.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_stochastic.metrics._checks import check_label_map, check_probability
from nnunet_stochastic.metrics.dice import dice, joint_label_counts

__all__ = ["consensus_confidence", "consensus_dice", "consensus_mask", "soft_dice_over_thresholds"]

_THRESHOLDS = tuple(np.linspace(0.1, 0.8, 6).tolist())


def consensus_mask(annotations: np.ndarray, *, labels: Sequence[int]) -> np.ndarray:
    """Where all raters agree on whether a voxel is in a class: bool, (*S).

    Parameters
    ----------
    annotations
        Label maps, (A, *S), integers.
    labels
        The label values that make up the class.
    """
    votes = _votes(annotations, labels)
    return (votes == 0) | (votes == len(annotations))


def consensus_dice(prediction: np.ndarray, annotations: np.ndarray, *, labels: Sequence[int]) -> float:
    """Dice of a class on the voxels of its ``consensus_mask``.

    Parameters
    ----------
    prediction
        Label map, (*S), integers.
    annotations
        Label maps, (A, *S), integers.
    labels
        The label values that make up the class.

    Returns
    -------
    float
        Dice in [0, 1].
    """
    _check_shapes(prediction, annotations)
    agreed = consensus_mask(annotations, labels=labels)
    predicted, annotated = (np.isin(array, list(labels))[agreed] for array in (prediction, annotations[0]))
    return float(dice(joint_label_counts(predicted, annotated, num_labels=2), [(1,)])[0])


def consensus_confidence(probability: np.ndarray, annotations: np.ndarray, *, labels: Sequence[int]) -> float:
    """Mean of the mean probabilities of the agreed answer, inside and outside a class.

    Parameters
    ----------
    probability
        Predictive mean of the class, (*S), in [0, 1].
    annotations
        Label maps, (A, *S), integers.
    labels
        The label values that make up the class.

    Returns
    -------
    float
        Confidence in [0, 1].
    """
    _check_shapes(probability, annotations)
    check_probability(probability)
    votes = _votes(annotations, labels)
    inside, outside = probability[votes == len(annotations)], probability[votes == 0]
    if inside.size == 0 or outside.size == 0:
        return float("nan")
    return float((inside.mean(dtype=np.float64) + 1 - outside.mean(dtype=np.float64)) / 2)


def soft_dice_over_thresholds(
    probability: np.ndarray,
    annotations: np.ndarray,
    *,
    labels: Sequence[int],
    thresholds: Sequence[float] = _THRESHOLDS,
) -> float:
    """Dice of the thresholded predictive mean with the thresholded share of raters, mean over thresholds.

    Parameters
    ----------
    probability
        Predictive mean of the class, (*S), in [0, 1].
    annotations
        Label maps, (A, *S), integers.
    labels
        The label values that make up the class.
    thresholds
        Values in [0, 1); a voxel counts where it is above.

    Returns
    -------
    float
        Dice in [0, 1].
    """
    if not thresholds:
        raise ValueError("thresholds is empty; give at least one")
    _check_shapes(probability, annotations)
    check_probability(probability)
    votes = _votes(annotations, labels)
    scores = []
    for threshold in thresholds:
        # In float64, as the thresholds are: 4 of 5 raters are not above 0.8, but in float32 they would be.
        shares = np.arange(len(annotations) + 1) / len(annotations) > threshold
        counts = joint_label_counts(probability > threshold, shares[votes], num_labels=2)
        scores.append(float(dice(counts, [(1,)])[0]))
    return float(np.mean(np.nan_to_num(scores, nan=1.0)))


def _votes(annotations: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """How many raters have a voxel in the class, (*S)."""
    if len(annotations) == 0:
        raise ValueError("annotations (A, *S) holds no annotation; give at least one")
    check_label_map("annotations", annotations)
    votes = np.zeros(annotations.shape[1:], dtype=np.min_scalar_type(len(annotations)))
    for annotation in annotations:
        votes += np.isin(annotation, list(labels))
    return votes


def _check_shapes(array: np.ndarray, annotations: np.ndarray) -> None:
    if array.shape != annotations.shape[1:]:
        raise ValueError(f"the prediction {array.shape} and annotations (A, *S) {annotations.shape} must agree in *S")
