"""Generalized energy distance between sampled and annotated segmentations.

    GED = 2 E[d(s, y)] - E[d(s, s')] - E[d(y, y')]

over predicted samples s, s' and annotations y, y' (this is D^2; the field reports it without a root). Expectations
are means over all pairs, self-pairs included, so GED is 0 when both sets hold the same segmentations. d is

    iou, dice     1 - IoU (Kohl et al.) or 1 - Dice per foreground class, mean over classes
    pooled_dice   1 - 2 sum |a and b| / sum (|a| + |b|), both sums over all pairs of an expectation and all classes, as
                  ValUES has it: pairs count by their size

Policy: a class empty in both segmentations has distance 0, in only one of them distance 1; pooled, sums that
are empty have distance 1, for there the Dice of nothing is 0. Label maps that hold no integers -> ValueError.
References: Kohl et al., A probabilistic U-Net for segmentation of ambiguous images, NeurIPS 2018,
https://arxiv.org/abs/1806.05034; Kahl et al., ValUES, ICLR 2024, https://arxiv.org/abs/2401.08501.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

from nnunet_stochastic.io.names import shown
from nnunet_stochastic.metrics._checks import check_label_map

__all__ = [
    "GED_DISTANCES",
    "GedDistance",
    "co_occurrence",
    "energy_distance_of_counts",
    "generalized_energy_distance",
    "pairwise_distance",
]

GedDistance = Literal["iou", "dice", "pooled_dice"]
GED_DISTANCES: tuple[GedDistance, ...] = get_args(GedDistance)

# Voxels multiplied at a time. Below 2**24 every count is exact in float32, whose matrix product is the fast one.
_CHUNK = 1 << 18


def generalized_energy_distance(
    samples: np.ndarray, annotations: np.ndarray, *, classes: Sequence[Sequence[int]]
) -> dict[GedDistance, float]:
    """GED of K samples against A annotations.

    Parameters
    ----------
    samples
        Label maps, (K, *S), integers.
    annotations
        Label maps, (A, *S), integers. Voxels with the ignore label are left out before the call.
    classes
        The label values of each foreground class: one for a label, several for a region.

    Returns
    -------
    dict[GedDistance, float]
        GED in [0, 2] by each distance, 0 is best. A pooled Dice is no metric's mean: its GED may be below 0.
    """
    if len(samples) == 0 or len(annotations) == 0:
        raise ValueError(f"GED needs samples and annotations, got {len(samples)} and {len(annotations)}")
    if samples.shape[1:] != annotations.shape[1:]:
        raise ValueError(f"samples {samples.shape} and annotations {annotations.shape} must agree after axis 0")
    counts = co_occurrence(samples, annotations, classes=classes)
    return energy_distance_of_counts(counts, slice(len(samples)), slice(len(samples), None))


def energy_distance_of_counts(counts: np.ndarray, s: slice, y: slice) -> dict[GedDistance, float]:
    """GED of some of N label maps against others, given what ``co_occurrence`` counted of all, (classes, N, N).

    Parameters
    ----------
    counts
        Voxels in common.
    s, y
        Which of the maps are the samples, and which the annotations; at least one each.
    """

    def of_pairs(distance: GedDistance) -> Callable[[slice, slice], float]:
        if distance == "pooled_dice":
            return lambda one, other: _pooled_dice_distance(counts, one, other)
        distances = pairwise_distance(counts, distance=distance).mean(axis=0)
        return lambda one, other: distances[one, other].mean()

    return {
        distance: float(2 * expected(s, y) - expected(s, s) - expected(y, y))
        for distance, expected in ((distance, of_pairs(distance)) for distance in GED_DISTANCES)
    }


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
        raise ValueError("classes is empty; name at least one foreground class")
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
        # So are most of the others the same in every map: their number counts for all pairs, whatever the class.
        agreed = np.bitwise_and.reduce(chunk == chunk[:1], axis=0)
        values, numbers = np.unique(chunk[0].compress(agreed), return_counts=True)
        chunk = chunk.compress(~agreed, axis=1)
        for index, labels in enumerate(classes):
            counts[index] += numbers[np.isin(values, list(labels))].sum()
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
        raise ValueError(f"distance must be 'iou' or 'dice', got {shown(distance)}")
    return 1.0 - np.divide(overlap, size, out=np.ones(counts.shape), where=size > 0)


def _pooled_dice_distance(counts: np.ndarray, one: slice, other: slice) -> float:
    """1 - Dice of all pairs of two groups of segmentations and all classes together, from co-occurrence counts."""
    volume = np.diagonal(counts, axis1=1, axis2=2)
    size = (volume[:, one, np.newaxis] + volume[:, np.newaxis, other]).sum()
    return float(1 - 2 * counts[:, one, other].sum() / size) if size else 1.0
