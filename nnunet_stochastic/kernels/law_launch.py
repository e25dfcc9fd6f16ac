"""What the kernels of laws have in common: how they are run, and which partition of MoB's bases holds a voxel."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl  # noqa: F401, the interpreter wants it beside each compiled function
from torch import Tensor

__all__ = ["partition_of", "run_law"]


def run_law(
    kernel: Any,
    result: Tensor,
    parameters: tuple[Tensor, Tensor, Tensor],
    table: Tensor | None,
    *,
    block: int,
    **constants: int,
) -> None:
    """Run a kernel over all voxels, ``block`` of them at a time.

    Parameters
    ----------
    kernel
        Compiled function of result, parameters, table, number of voxels, image's and partitions' shape and constants.
    result
        What it writes, (fields, Z, Y, X).
    parameters
        μ and d, (C, Z, Y, X), and a, (R, Z, Y, X), or P, (C, R, Z, Y, X).
    table
        Numbers of every partition, (G, G, G, …), R of them last; ``None`` where there are no bases.
    block, constants
        Constants of the kernel besides RANK and HAS_BASES.
    """
    mean, variance, factor = (tensor.contiguous() for tensor in parameters)
    shape = mean.shape[1:]
    voxels = shape.numel()
    grid, rank = (torch.Size([1, 1, 1]), factor.shape[1]) if table is None else (table.shape[:3], factor.shape[0])
    kernel[(triton.cdiv(voxels, block),)](
        result,
        mean,
        variance,
        factor,
        result if table is None else table,
        voxels,
        *shape,
        *grid,
        RANK=rank,
        HAS_BASES=table is not None,
        BLOCK=block,
        **constants,
    )


@triton.jit
def partition_of(voxel, planes, rows, columns, grid_z, grid_y, grid_x):
    """Number of the partition that holds a voxel, both counted row by row."""
    z, y, x = voxel // (rows * columns), (voxel // columns) % rows, voxel % columns
    return (z * grid_z // planes * grid_y + y * grid_y // rows) * grid_x + x * grid_x // columns
