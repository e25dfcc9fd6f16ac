"""Uncertainty map to one score per image, for out-of-distribution and failure detection.

    mean u    max_patch mean_{n in patch} u_n    mean_{u_n >= t} u_n    sum u / area    sum u / border

The last two keep large structures from looking uncertain for their size: the area is the number of predicted foreground
voxels, the border the number of pairs of voxels that share a face and differ in label.
Policy: no voxels, or a NaN anywhere in the map -> NaN; nothing at or above the threshold -> 0; an area or border of 0
counts as 1.
References: Kahl et al., ValUES, ICLR 2024, https://arxiv.org/abs/2401.08501 (the first three); Christensen et al.,
Rethinking Uncertainty Quantification and Entanglement in Image Segmentation, section 3.4 (all five).
"""

from __future__ import annotations

import numpy as np

from nnunet_stochastic.metrics._checks import check_label_map

__all__ = ["border_length", "image_mean", "mean_above", "patch_maximum", "per_area", "per_border"]

# Positions of the patch along the first axis that are summed at a time, so that memory does not grow with the image.
_SLAB = 64


def image_mean(uncertainty: np.ndarray) -> float:
    """Mean over the voxels of a map (*S), in the map's unit; NaN without voxels."""
    return float(uncertainty.mean(dtype=np.float64)) if uncertainty.size else float("nan")


def patch_maximum(uncertainty: np.ndarray, *, side: int = 10) -> float:
    """Largest mean over a patch of ``side`` voxels along every axis; axes shorter than that are taken whole.

    Parameters
    ----------
    uncertainty
        Map, (*S), of any number of axes.
    side
        Side of the patch in voxels.

    Returns
    -------
    float
        Mean of the patch, in the map's unit; NaN without voxels, or where one is NaN.
    """
    if side < 1:
        raise ValueError(f"side must be at least 1 voxel, got {side}")
    if uncertainty.size == 0 or np.isnan(uncertainty.max()):
        return float("nan")
    sides = [min(side, length) for length in uncertainty.shape]
    largest = -np.inf
    for start in range(0, uncertainty.shape[0] - sides[0] + 1, _SLAB):
        sums = uncertainty[start : start + _SLAB + sides[0] - 1].astype(np.float64)
        for axis, width in enumerate(sides):
            sums = _window_sums(sums, axis, width)
        largest = max(largest, sums.max())
    return float(largest / np.prod(sides))


def mean_above(uncertainty: np.ndarray, threshold: float) -> float:
    """Mean of the voxels of a map (*S) at or above a threshold, 0 if there is none; NaN without voxels or with NaN."""
    if uncertainty.size == 0 or np.isnan(uncertainty.max()) or np.isnan(threshold):
        return float("nan")
    above = uncertainty[uncertainty >= threshold]
    return image_mean(above) if above.size else 0.0


def border_length(label_map: np.ndarray) -> int:
    """Number of pairs of voxels of a label map (*S) that share a face and have different labels."""
    check_label_map("label_map", label_map)
    by_axis = (np.moveaxis(label_map, axis, 0) for axis in range(label_map.ndim))
    return sum(int(np.count_nonzero(labels[1:] != labels[:-1])) for labels in by_axis)


def per_area(uncertainty: np.ndarray, prediction: np.ndarray) -> float:
    """Sum of a map (*S) over the number of foreground voxels (label not 0) of a label map (*S)."""
    _check_same_shape(uncertainty, prediction)
    return _total(uncertainty) / max(int(np.count_nonzero(prediction)), 1)


def per_border(uncertainty: np.ndarray, prediction: np.ndarray) -> float:
    """Sum of a map (*S) over the ``border_length`` of a label map (*S)."""
    _check_same_shape(uncertainty, prediction)
    return _total(uncertainty) / max(border_length(prediction), 1)


def _window_sums(values: np.ndarray, axis: int, width: int) -> np.ndarray:
    """Sums over all windows of ``width`` neighbours along an axis, which gets shorter by width - 1."""
    sums = np.moveaxis(np.cumsum(values, axis=axis), axis, 0)
    windows = sums[width - 1 :].copy()
    windows[1:] -= sums[:-width]
    return np.moveaxis(windows, 0, axis)


def _total(uncertainty: np.ndarray) -> float:
    return float(uncertainty.sum(dtype=np.float64)) if uncertainty.size else float("nan")


def _check_same_shape(uncertainty: np.ndarray, prediction: np.ndarray) -> None:
    if uncertainty.shape != prediction.shape:
        raise ValueError(f"uncertainty {uncertainty.shape} and prediction {prediction.shape} must have the same shape")
    check_label_map("prediction", prediction)
