"""Dice of label maps: Dice_c = 2 TP_c / (2 TP_c + FP_c + FN_c), from one table of joint label counts.

Policy: a class that is empty in both maps has no Dice (NaN); averages leave NaN out. Label maps that hold no
integers -> ValueError.
Reference: Dice, Measures of the amount of ecologic association between species, Ecology 1945.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_stochastic.metrics._checks import check_label_map

__all__ = ["dice", "joint_label_counts"]


def joint_label_counts(prediction: np.ndarray, reference: np.ndarray, *, num_labels: int) -> np.ndarray:
    """Number of voxels with predicted label i and reference label j.

    Parameters
    ----------
    prediction
        Label map, (*S), integers in [0, num_labels).
    reference
        Label map, (*S), integers in [0, num_labels).
    num_labels
        Number of label values, background included.

    Returns
    -------
    np.ndarray
        Counts, (num_labels, num_labels), int64.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} must have the same shape")
    for name, labels in (("prediction", prediction), ("reference", reference)):
        check_label_map(name, labels)
        if labels.size and (labels.min() < 0 or labels.max() >= num_labels):
            raise ValueError(
                f"{name} must hold labels from 0 to {num_labels - 1}, got {labels.min()} to {labels.max()}; "
                "leave voxels with the ignore label out before the call"
            )
    joint = prediction.ravel().astype(np.int64) * num_labels + reference.ravel()
    return np.bincount(joint, minlength=num_labels**2).reshape(num_labels, num_labels)


def dice(counts: np.ndarray, classes: Sequence[Sequence[int]]) -> np.ndarray:
    """Dice per class.

    Parameters
    ----------
    counts
        Joint label counts, (L, L), of ``joint_label_counts``.
    classes
        The label values that make up each class: one for a label, several for a region.

    Returns
    -------
    np.ndarray
        Dice, (len(classes),), in [0, 1]; NaN where a class is empty in both maps.
    """
    scores = np.full(len(classes), np.nan)
    for index, labels in enumerate(classes):
        members = list(labels)
        overlap = counts[np.ix_(members, members)].sum()
        total = counts[members, :].sum() + counts[:, members].sum()
        if total > 0:
            scores[index] = 2 * overlap / total
    return scores
