"""Cut a patch into G x G x G blocks of nearly equal size and apply one matrix per block.

*Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation* (MoB)
partitions the volume into cubes "of approximately equal size", each with a basis of its own (section 3, Eq. 6).
Voxel i of an axis of length L lies in block floor(i·G/L), so sizes of blocks differ by at most one voxel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["apply_per_partition", "partition_grid", "partition_index", "partition_of_voxels"]


def partition_grid(spatial_shape: Sequence[int], partitions: int) -> tuple[int, ...]:
    """Number of blocks along each axis: ``partitions`` (G), or the axis' length where it has fewer voxels."""
    if partitions < 1:
        raise ValueError(f"partitions must be at least 1, got {partitions}")
    return tuple(min(partitions, length) for length in spatial_shape)


def partition_index(length: int, blocks: int, device: torch.device | None = None) -> Tensor:
    """Block of every voxel of an axis, int64, shape (length,), values 0 … blocks - 1."""
    return torch.arange(length, device=device) * blocks // length


def partition_of_voxels(
    spatial_shape: Sequence[int], grid: Sequence[int], device: torch.device | None = None
) -> Tensor:
    """Number of the block of every voxel in the flattened ``grid``, int64, shape (*S)."""
    number = torch.zeros((), dtype=torch.int64, device=device)
    for length, blocks in zip(spatial_shape, grid, strict=True):
        number = number[..., None] * blocks + partition_index(length, blocks, device)
    return number


def apply_per_partition(matrices: Tensor, field: Tensor) -> Tensor:
    """Multiply the channels of every voxel by the matrix of its block.

    Parameters
    ----------
    matrices
        One matrix per block, shape (B, *G, O, I) with as many block axes as ``field`` has spatial axes.
    field
        Field to multiply, shape (B, I, *S).

    Returns
    -------
    Tensor
        shape (B, O, *S).
    """
    batch, channels, *spatial = field.shape
    grid = matrices.shape[1:-2]
    if len(grid) != len(spatial) or matrices.shape[0] != batch or matrices.shape[-1] != channels:
        raise ValueError(f"matrices {tuple(matrices.shape)} do not fit a field of shape {tuple(field.shape)}")
    outputs = matrices.shape[-2]
    matrices = matrices.to(field.dtype)
    if all(blocks == 1 for blocks in grid):
        return (matrices.reshape(batch, outputs, channels) @ field.flatten(2)).reshape(batch, outputs, *spatial)

    back: list[Tensor | None] = []
    for axis, (length, blocks) in enumerate(zip(spatial, grid, strict=True), start=2):
        forward, inverse = _equal_blocks(length, blocks, field.device) if length % blocks else (None, None)
        if forward is not None:
            field = field.index_select(axis, forward)
        back.append(inverse)

    dimensions = len(spatial)
    sizes = [length // blocks for length, blocks in zip(field.shape[2:], grid, strict=True)]
    split = [number for pair in zip(grid, sizes, strict=True) for number in pair]
    block_axes = [2 + 2 * axis for axis in range(dimensions)]
    voxel_axes = [3 + 2 * axis for axis in range(dimensions)]
    blocks_first = field.reshape(batch, channels, *split).permute(0, *block_axes, 1, *voxel_axes)
    product = matrices @ blocks_first.reshape(batch, *grid, channels, -1)
    product = product.reshape(batch, *grid, outputs, *sizes)
    interleaved = [
        axis
        for pair in zip(range(1, dimensions + 1), range(dimensions + 2, 2 * dimensions + 2), strict=True)
        for axis in pair
    ]
    result = product.permute(0, dimensions + 1, *interleaved).reshape(batch, outputs, *field.shape[2:])
    for axis, inverse in enumerate(back, start=2):
        if inverse is not None:
            result = result.index_select(axis, inverse)
    return result


def _equal_blocks(length: int, blocks: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices that repeat the last voxel of shorter blocks until all are equally long, and the indices that undo it."""
    size = -(-length // blocks)
    block = partition_index(length, blocks, device)
    starts = torch.searchsorted(block, torch.arange(blocks, device=device))
    ends = torch.cat([starts[1:], starts.new_tensor([length])])
    forward = torch.minimum(starts[:, None] + torch.arange(size, device=device), ends[:, None] - 1).flatten()
    inverse = block * size + torch.arange(length, device=device) - starts[block]
    return forward, inverse
