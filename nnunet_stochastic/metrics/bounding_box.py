"""The smallest box that holds all voxels of masks: what of an image a structure's metrics need to look at."""

from __future__ import annotations

import numpy as np

__all__ = ["bounding_box"]


def bounding_box(*masks: np.ndarray) -> tuple[slice, ...]:
    """Index of the smallest box that holds every voxel of masks (*S), bool; of an empty one without any voxel."""
    edges = []
    for axis in range(masks[0].ndim):
        others = tuple(other for other in range(masks[0].ndim) if other != axis)
        there = np.flatnonzero(np.logical_or.reduce([mask.any(axis=others) for mask in masks]))
        edges.append(slice(int(there[0]), int(there[-1]) + 1) if there.size else slice(0, 0))
    return tuple(edges)
