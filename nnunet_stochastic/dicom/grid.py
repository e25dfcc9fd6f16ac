"""From the voxels of a prediction to those of its series: axes in another order or direction, never resampled.

With A the affine of a grid, A_series⁻¹ A_prediction must be a signed permutation with whole shifts: each voxel of the
prediction is one of the series.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_stochastic.dicom.series import DicomSeries
from nnunet_stochastic.dicom.slices import on_same_grid

__all__ = ["VoxelOrder", "voxel_order"]


@dataclass(frozen=True)
class VoxelOrder:
    """How the axes of a prediction become slices, rows and columns.

    Attributes
    ----------
    axes
        Axis of the prediction for each of (slices, rows, columns).
    reversed_axes
        Those of (slices, rows, columns), by number, that run backwards in the prediction.
    """

    axes: tuple[int, ...]
    reversed_axes: tuple[int, ...]

    def of(self, array: np.ndarray) -> np.ndarray:
        """An array (*S) of the prediction as (slices, rows, columns), contiguous."""
        return np.ascontiguousarray(np.flip(array.transpose(self.axes), self.reversed_axes))


def voxel_order(path: Path, shape: tuple[int, ...], affine: np.ndarray, series: DicomSeries) -> VoxelOrder:
    """Find the order, and that both grids are the same.

    Parameters
    ----------
    path
        File of the prediction, for messages.
    shape
        Its size (z, y, x).
    affine
        From the index (z, y, x, 1) of its voxels to mm, (4, 4): right, anterior, superior.
    series
        The series.

    Raises
    ------
    ValueError
        The grids differ.
    """
    between = np.linalg.solve(series.affine, affine)
    signs = np.rint(between[:3, :3])
    is_permutation = (np.abs(signs).sum(axis=0) == 1).all() and (np.abs(signs).sum(axis=1) == 1).all()
    axes = tuple(int(axis) for axis in np.abs(signs).argmax(axis=1))
    if is_permutation and tuple(shape[axis] for axis in axes) == series.shape:
        reversed_axes = tuple(axis for axis in range(3) if signs[axis].sum() < 0)
        exact = np.eye(4)  # from the index of a voxel of the prediction to that of the series
        exact[:3, :3] = signs
        exact[:3, 3] = [series.shape[axis] - 1 if axis in reversed_axes else 0 for axis in range(3)]
        if on_same_grid(series.affine, affine @ np.linalg.inv(exact), series.shape):
            return VoxelOrder(axes, reversed_axes)
    raise ValueError(
        f"{path} ({_text(shape, affine)}) is not on the voxel grid of the series {series.folder} "
        f"({_text(series.shape, series.affine)}): nothing is resampled here; predict the series itself with "
        "nnunet_stochastic_predict, or name that which the image was made of"
    )


def _text(shape: tuple[int, ...], affine: np.ndarray) -> str:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    sides = " x ".join(f"{step:.5g}" for step in spacing)
    corner = ", ".join(f"{value:.5g}" for value in affine[:3, 3])
    return f"{' x '.join(map(str, shape))} voxels of {sides} mm from {corner}"
