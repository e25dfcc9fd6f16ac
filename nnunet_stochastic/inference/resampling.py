"""Linear resampling, a slab of output slices at a time.

Output voxel i along an axis resampled from n to m voxels lies at (i + ½) n / m - ½ (the outer borders of the two grids
coincide) and is the convex combination of its two neighbours, clamped at the border: torch's ``interpolate`` with
``align_corners=False``. A constant stays the constant, bounds are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["resample_slab"]


def resample_slab(volume: Tensor, shape: Sequence[int], start: int, stop: int) -> Tensor:
    """Slices ``start`` to ``stop`` of a volume resampled to ``shape``.

    Parameters
    ----------
    volume
        (P, Z, Y, X), float32.
    shape
        The whole result's (z, y, x).
    start, stop
        The wanted slices, 0 <= start < stop <= z.

    Returns
    -------
    Tensor
        (P, stop - start, y, x).
    """
    depth, target_depth = volume.shape[1], shape[0]
    if not 0 <= start < stop <= target_depth:
        raise ValueError(f"slices {start} to {stop} are not within 0 to {target_depth}")
    if depth == target_depth:
        slab = volume[:, start:stop]
    else:
        position = (torch.arange(start, stop, dtype=torch.float64) + 0.5) * depth / target_depth - 0.5
        position = position.clamp_(0, depth - 1)
        lower = position.long()
        upper = (lower + 1).clamp_(max=depth - 1)
        fraction = (position - lower).to(volume.dtype)[:, None, None]
        slab = torch.lerp(volume[:, lower], volume[:, upper], fraction)
    if tuple(slab.shape[2:]) == tuple(shape[1:]):
        return slab
    return F.interpolate(slab, size=tuple(shape[1:]), mode="bilinear", align_corners=False)
