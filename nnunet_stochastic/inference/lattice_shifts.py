"""Shifts of the lattice of each voxel of an image: uniform numbers that are a function of the voxel.

    s_d(n) = ⌊word n mod 4 of Philox(counter (⌊n / 4⌋, d, 0, 0), key (purpose, seed, case)) / 2^8⌋ / 2^24

with n the number of the voxel in the order of memory. They are the same bits on every device, and the same for all
members.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_stochastic.inference.philox import NUM_WORDS, philox4x32
from nnunet_stochastic.inference.seeds import NoiseKey

__all__ = ["LATTICE", "lattice_shifts"]

#: What the numbers are for: the purpose in their key.
LATTICE = "lattice"


def lattice_shifts(voxels: range, dimensions: int, *, noise: NoiseKey, device: torch.device | str = "cpu") -> Tensor:
    """Shifts of the voxels.

    Parameters
    ----------
    voxels
        Numbers of the voxels, one after the other, below 2^34.
    dimensions
        Dimensions D of the lattice.
    noise
        Key of the image's noise.
    device
        Device that computes the numbers.

    Returns
    -------
    Tensor
        (D, n), float32, in [0, 1).
    """
    first = voxels.start // NUM_WORDS
    counters = torch.arange(first, -(-voxels.stop // NUM_WORDS), device=device)
    zero = torch.zeros(1, dtype=torch.int64, device=device)
    key, inside = noise.words(LATTICE), slice(voxels.start - NUM_WORDS * first, voxels.stop - NUM_WORDS * first)
    shifts = torch.empty((dimensions, len(voxels)), device=device)
    for dimension, row in enumerate(shifts):
        words = philox4x32((counters, zero + dimension, zero, zero), key)
        row.copy_(torch.stack(words, dim=1).flatten()[inside] >> 8)
    return shifts.mul_(2.0**-24)
