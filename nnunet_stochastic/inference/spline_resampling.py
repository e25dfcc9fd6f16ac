"""From an image's grid to the network's, by nnU-Net's splines, axis by axis.

nnU-Net's ``resample_data_or_seg_to_shape`` calls ``scipy.ndimage.zoom``: the B-spline through the voxels of a volume
is evaluated at x_i = (i + ½) n / m - ½, from n to m voxels along an axis, the border's value beyond it. Coefficients
and values of the spline are linear in the voxels and products over the axes (Unser, "Splines: a perfect fit for signal
and image processing", 1999), so with the matrix W_a (m, n) of each axis

    result = W_z W_y W_x image,

where zoom weighs 4³ coefficients for each voxel. What one voxel gives its neighbours falls by the factor |pole| of the
spline with each step (cubic: 2 - √3), so the rows of W_a end where it is below the precision of float64, in which all
is computed: the result is zoom's up to the last digit of float32. It is clipped to the range of what is resampled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

from nnunet_stochastic.inference.resampling import nearest_voxels

__all__ = ["resample_image"]

#: The pole that is nearest to 1 of the splines of each order.
_POLES = {2: -0.17157, 3: -0.26795, 4: -0.36134, 5: -0.43058}
_PRECISION = 2.0**-56
_ROWS = 32  # of a matrix at a time
_VALUES = 1 << 21  # of the slices that are resampled at a time


def resample_image(image: np.ndarray, shape: Sequence[int], *, order: int, slice_axis: int | None = None) -> np.ndarray:
    """Resample an image as nnU-Net's ``resample_data_or_seg`` does.

    Parameters
    ----------
    image
        Image (channels, Z, Y, X), float32, finite.
    shape
        Shape (z, y, x) of the result.
    order
        Order of the splines, 0 to 5.
    slice_axis
        Axis 0, 1 or 2 along which the slices are thick: they are resampled each for itself, and the nearest one is
        taken along this axis. ``None``: all axes alike.

    Returns
    -------
    numpy.ndarray
        (channels, z, y, x), float32.
    """
    shape = tuple(int(size) for size in shape)
    if image.ndim != 4 or len(shape) != 3 or min(shape) < 1 or min(image.shape) < 1:
        raise ValueError(
            f"an image (channels, Z, Y, X) and a shape (z, y, x) are needed, got {image.shape} and {shape}"
        )
    if order not in range(6):
        raise ValueError(f"the order of splines is 0 to 5, got {order}")
    if image.shape[1:] == shape:
        return image.astype(np.float32, copy=False)
    result = np.empty((len(image), *shape), dtype=np.float32)
    for channel, resampled in zip(image, result, strict=True):
        if slice_axis is None:
            _resample_volume(channel, resampled, order)
        else:
            _resample_slices(np.moveaxis(channel, slice_axis, 0), np.moveaxis(resampled, slice_axis, 0), order)
    return result


def _resample_volume(volume: np.ndarray, result: np.ndarray, order: int) -> None:
    """Resample (Z, Y, X) into (z, y, x)."""
    low, high = float(volume.min()), float(volume.max())
    planes = torch.empty(len(volume), *result.shape[1:], dtype=torch.float64)
    for part, values in _in_parts(volume):
        planes[part] = _resample_planes(values, result.shape[1:], order)
    if len(volume) == len(result):
        result[:] = planes.clamp_(low, high).numpy()
        return
    for rows in _matrix(len(volume), len(result), order):
        slab = torch.mm(rows.weights, planes[rows.inputs].flatten(1)).clamp_(low, high)
        result[rows.outputs] = slab.view(-1, *result.shape[1:]).numpy()


def _resample_slices(volume: np.ndarray, result: np.ndarray, order: int) -> None:
    """Resample the slices (Z, Y, X) in their plane and write the nearest ones into (z, y, x)."""
    size = len(result)
    taken = np.arange(size) if len(volume) == size else nearest_voxels(len(volume), size, "nearest").numpy()
    wanted, place = np.unique(taken, return_inverse=True)
    planes = np.empty((len(wanted), *result.shape[1:]), dtype=np.float32)
    for part, values in _in_parts(volume[wanted]):
        low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
        planes[part] = torch.clamp(_resample_planes(values, result.shape[1:], order), low, high).numpy()
    result[:] = planes[place]


def _in_parts(volume: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
    """A few slices (k, Y, X) at a time, float64, and where they are in the volume."""
    size = max(1, _VALUES // math.prod(volume.shape[1:]))
    for start in range(0, len(volume), size):
        part = slice(start, min(start + size, len(volume)))
        yield part, torch.from_numpy(np.ascontiguousarray(volume[part], dtype=np.float64))


def _resample_planes(planes: Tensor, shape: Sequence[int], order: int) -> Tensor:
    """Resample (k, Y, X) along the last two axes to (k, y, x)."""
    for axis, size in zip((1, 2), shape, strict=True):
        length = planes.shape[axis]
        if length == size:
            continue
        resampled = planes.new_empty([*planes.shape[:axis], size, *planes.shape[axis + 1 :]])
        for rows in _matrix(length, size, order):
            if axis == 1:
                resampled[:, rows.outputs] = torch.matmul(rows.weights, planes[:, rows.inputs])
            else:
                resampled[..., rows.outputs] = torch.matmul(planes[..., rows.inputs], rows.weights.T)
        planes = resampled
    return planes


@dataclass(frozen=True)
class _Rows:
    """Rows of the matrix of an axis: weights (outputs, inputs), float64, of those inputs that count."""

    outputs: slice
    inputs: slice
    weights: Tensor


@lru_cache(maxsize=16)
def _matrix(length: int, size: int, order: int) -> tuple[_Rows, ...]:
    """The matrix (size, length) of an axis, a few rows at a time: what SciPy makes of unit impulses."""
    reach = order + (math.ceil(math.log(_PRECISION) / math.log(abs(_POLES[order]))) if order in _POLES else 0)
    position = (np.arange(size) + 0.5) * length / size - 0.5
    rows = []
    for start in range(0, size, _ROWS):
        stop = min(start + _ROWS, size)
        first = max(0, math.floor(position[start]) - reach)
        last = min(length, math.ceil(position[stop - 1]) + reach + 1)
        impulses = np.eye(last - first)
        places = np.meshgrid(position[start:stop] - first, np.arange(last - first), indexing="ij")
        weights = map_coordinates(impulses, places, order=order, mode="nearest")
        rows.append(_Rows(slice(start, stop), slice(first, last), torch.from_numpy(weights)))
    return tuple(rows)
