"""Generalized energy distance between sampled and annotated segmentations.

    GED = 2 E[d(s, y)] - E[d(s, s')] - E[d(y, y')]

over predicted samples s, s' and annotations y, y' (this is D^2; the field reports it without a root). Expectations
are means over all pairs, self-pairs included, so GED is 0 when both sets hold the same segmentations.
d is 1 - IoU or 1 - Dice per foreground class, then the mean over classes.
Policy: a class empty in both segmentations has distance 0, in only one of them distance 1. Label maps that
hold no integers -> ValueError.
Reference: Kohl et al., A probabilistic U-Net for segmentation of ambiguous images, NeurIPS 2018,
https://arxiv.org/abs/1806.05034.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from nnunet_stochastic.metrics._checks import check_label_map

__all__ = ["co_occurrence", "generalized_energy_distance", "pairwise_distance"]

# Voxels multiplied at a time. Below 2**24 every count is exact in float32, whose matrix product is the fast one.
_CHUNK = 1 << 18


def generalized_energy_distance(
    samples: np.ndarray,
    annotations: np.ndarray,
    *,
    classes: Sequence[Sequence[int]],
    distance: Literal["iou", "dice"] = "iou",
) -> float:
    """GED of K samples against A annotations.

    Parameters
    ----------
    samples
        Label maps, (K, *S), integers.
    annotations
        Label maps, (A, *S), integers. Voxels with the ignore label are left out before the call.
    classes
        The label values of each foreground class: one for a label, several for a region.
    distance
        1 - IoU or 1 - Dice.

    Returns
    -------
    float
        GED in [0, 2]; 0 is best.
    """
    if len(samples) == 0 or len(annotations) == 0:
        raise ValueError(f"GED needs samples and annotations, got {len(samples)} and {len(annotations)}.")
    if samples.shape[1:] != annotations.shape[1:]:
        raise ValueError(f"samples {samples.shape} and annotations {annotations.shape} must agree after axis 0.")
    counts = co_occurrence(samples, annotations, classes=classes)
    distances = pairwise_distance(counts, distance=distance).mean(axis=0)
    k = len(samples)
    return float(2 * distances[:k, k:].mean() - distances[:k, :k].mean() - distances[k:, k:].mean())


def co_occurrence(*segmentations: np.ndarray, classes: Sequence[Sequence[int]]) -> np.ndarray:
    """Voxels that belong to a class in both of two segmentations, for all pairs at once; the diagonal holds volumes.

    Parameters
    ----------
    segmentations
        Label maps, (N, *S), integers; several arrays (N_1, *S), (N_2, *S), ... are taken one after the other, N in all.
    classes
        The label values of each class.

    Returns
    -------
    np.ndarray
        Counts, (len(classes), N, N), int64.
    """
    if not classes:
        raise ValueError("classes is empty; name at least one foreground class.")
    for maps in segmentations:
        check_label_map("segmentations", maps)
    flat = [maps.reshape(len(maps), -1) for maps in segmentations]
    num_maps = sum(len(maps) for maps in flat)
    counts = np.zeros((len(classes), num_maps, num_maps), dtype=np.int64)
    holds_zero = any(0 in labels for labels in classes)
    for start in range(0, flat[0].shape[1], _CHUNK):
        chunk = np.concatenate([maps[:, start : start + _CHUNK] for maps in flat])
        if not holds_zero:
            # Most voxels are background in every map and belong to no class. (``any`` and a mask as index are slower.)
            chunk = chunk.compress(np.bitwise_or.reduce(chunk, axis=0) != 0, axis=1)
        for index, labels in enumerate(classes):
            member = np.isin(chunk, list(labels)).astype(np.float32)
            counts[index] += np.rint(member @ member.T).astype(np.int64)
    return counts


def pairwise_distance(counts: np.ndarray, *, distance: Literal["iou", "dice"] = "iou") -> np.ndarray:
    """Distances from co-occurrence counts (classes, N, N): 1 - IoU or 1 - Dice, same shape, in [0, 1]."""
    volume = np.diagonal(counts, axis1=1, axis2=2)
    total = volume[:, :, np.newaxis] + volume[:, np.newaxis, :]
    if distance == "iou":
        overlap, size = counts, total - counts
    elif distance == "dice":
        overlap, size = 2 * counts, total
    else:
        raise ValueError(f"distance must be 'iou' or 'dice', got {distance!r}.")
    return 1.0 - np.divide(overlap, size, out=np.ones(counts.shape), where=size > 0)
