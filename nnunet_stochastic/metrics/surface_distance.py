"""Distances between the surfaces of two masks, in mm: Hausdorff distance, average distance, normalised surface Dice.

A surface S holds the voxels of a mask with a face neighbour outside of it; what is outside of the image is outside of
the mask, and an axis of one voxel has no neighbours, so that a slice has its outline. With d(a, B) the distance of a
voxel's centre from the nearest of S_B,

    HD95 = max(P95{d(a, B)}, P95{d(b, A)})        the larger of the two directed percentiles, linear between neighbours
    ASSD = (sum d(a, B) + sum d(b, A)) / (|S_A| + |S_B|)
    NSD  = (|{d(a, B) <= tolerance}| + |{d(b, A) <= tolerance}|) / (|S_A| + |S_B|)

Voxels are counted, not areas of surface, as Metrics Reloaded and MONAI have it. Distances are by SimpleITK's signed
Maurer distance map of the box that holds both masks, which leaves out nothing.
Policy: both masks empty -> NaN; one of them empty -> the distances are infinite, and NSD is 0.
References: Maier-Hein, Reinke et al., Metrics reloaded, Nature Methods 2024, https://arxiv.org/abs/2206.01653; Nikolov
et al., Clinically applicable segmentation of head and neck anatomy for radiotherapy, JMIR 2021,
https://arxiv.org/abs/1809.04430.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_stochastic.metrics.bounding_box import bounding_box

__all__ = ["SurfaceDistances", "surface_distances"]

# Distance maps are float32: a distance that equals the tolerance is within it.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances of each surface voxel of two masks from the other's surface.

    Attributes
    ----------
    of_first, of_second
        Distances of the surface voxels of the first and of the second mask, (n,) and (m,), mm, >= 0; infinite where
        the other mask is empty.
    """

    of_first: np.ndarray
    of_second: np.ndarray

    @property
    def are_infinite(self) -> bool:
        """Whether one of the masks is empty, and not the other."""
        return (self.of_first.size == 0) != (self.of_second.size == 0)

    def hausdorff_mm(self, percentile: float = 95.0) -> float:
        """Hausdorff distance by a percentile in [0, 100], mm; 100 is the Hausdorff distance itself."""
        if not 0 <= percentile <= 100:
            raise ValueError(f"percentile must be in [0, 100], got {percentile}")
        if self.are_infinite:
            return float("inf")
        if not self.of_first.size:
            return float("nan")
        return float(max(np.percentile(distances, percentile) for distances in (self.of_first, self.of_second)))

    def average_mm(self) -> float:
        """Average symmetric surface distance, mm."""
        both = np.concatenate([self.of_first, self.of_second])
        return float(both.mean()) if both.size else float("nan")

    def normalised_dice(self, tolerance_mm: float) -> float:
        """Normalised surface Dice at a tolerance >= 0 in mm, in [0, 1]."""
        if not 0 <= tolerance_mm < np.inf:
            raise ValueError(f"tolerance_mm must be finite and at least 0, got {tolerance_mm}")
        both = np.concatenate([self.of_first, self.of_second])
        return float(np.mean(both <= tolerance_mm * (1 + _ROUNDING))) if both.size else float("nan")


def surface_distances(first: np.ndarray, second: np.ndarray, *, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Distances between the surfaces of two masks.

    Parameters
    ----------
    first, second
        Voxels of a structure, (*S) of 1 to 3 axes, bool.
    spacing_mm
        Distance of neighbouring voxels along each axis, (len(S),), mm.

    Returns
    -------
    SurfaceDistances
        Distances of the surface voxels, in the order of the array.
    """
    _check(first, second, spacing_mm)
    axes = [axis for axis, size in enumerate(first.shape) if size > 1] or list(range(first.ndim))
    spacing = [float(spacing_mm[axis]) for axis in axes]
    shape = [first.shape[axis] for axis in axes]
    first, second = first.reshape(shape), second.reshape(shape)
    box = bounding_box(first, second)
    # What lies outside of the box is outside of both masks, as what lies outside of the image.
    surfaces = _surface(first[box]), _surface(second[box])
    counts = [np.count_nonzero(surface) for surface in surfaces]
    if 0 in counts:
        return SurfaceDistances(*(np.full(count, np.inf) for count in counts))
    return SurfaceDistances(
        _distance_to(surfaces[1], spacing)[surfaces[0]].astype(np.float64),
        _distance_to(surfaces[0], spacing)[surfaces[1]].astype(np.float64),
    )


def _surface(mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask with a face neighbour outside of it, (*S), bool."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        of_axis, of_mask = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        of_axis[1:] &= of_mask[:-1]
        of_axis[:-1] &= of_mask[1:]
        of_axis[:1] = of_axis[-1:] = False
    return mask & ~inside


def _distance_to(surface: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Distance of every voxel (*S) from the nearest voxel of a surface, mm, float32."""
    # Here: it takes a second, and every worker and command imports this module.
    import SimpleITK as sitk

    # The library takes two axes or more, and needs voxels outside of the object.
    padded = np.pad(surface.reshape(surface.shape if surface.ndim > 1 else (*surface.shape, 1)), 1)
    image = sitk.GetImageFromArray(padded.view(np.uint8))
    image.SetSpacing([*spacing[::-1]] if surface.ndim > 1 else [1.0, *spacing])
    distance_map = sitk.SignedMaurerDistanceMapImageFilter()
    distance_map.SetSquaredDistance(False)
    distance_map.SetUseImageSpacing(True)
    distance_map.SetInsideIsPositive(False)
    distance_map.SetNumberOfThreads(1)  # cases are evaluated in processes
    distance = sitk.GetArrayFromImage(distance_map.Execute(image))[(slice(1, -1),) * padded.ndim].reshape(surface.shape)
    return np.maximum(distance, 0)  # negative inside of a surface that is thicker than a voxel


def _check(first: np.ndarray, second: np.ndarray, spacing_mm: Sequence[float]) -> None:
    if first.shape != second.shape or not 1 <= first.ndim <= 3:
        raise ValueError(f"both masks must have the same shape of 1 to 3 axes, got {first.shape} and {second.shape}")
    for mask in (first, second):
        if mask.dtype != np.bool_:
            raise ValueError(f"both masks must be boolean, got {first.dtype} and {second.dtype}")
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    # Written so that NaN, for which every comparison is false, fails.
    if spacing.shape != (first.ndim,) or not ((spacing > 0) & (spacing < np.inf)).all():
        raise ValueError(
            f"spacing_mm must be {first.ndim} positive finite numbers for masks {first.shape}, got {spacing_mm}"
        )
