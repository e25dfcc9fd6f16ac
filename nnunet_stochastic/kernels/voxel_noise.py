"""Noise of the voxels of a tile, as ``inference.voxel_noise`` has it, in one pass over what it writes."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from nnunet_stochastic.kernels.random_numbers import as_int32, normal_pair, philox_words

__all__ = ["fill_with_voxel_noise"]

_BLOCK = 256


def fill_with_voxel_noise(result: Tensor, start: tuple[int, int, int], first_number: int, key: tuple[int, int]) -> None:
    """Write the noise of a tile.

    Parameters
    ----------
    result
        Where to, (channels, Z, Y, X), float32, contiguous.
    start
        First voxel (z, y, x) of the tile in its image.
    first_number
        Third word of the counters of the first channel; those of the others follow it.
    key
        Key, two words in [0, 2^32).
    """
    channels, planes, rows, columns = result.shape
    quarters = -(-(start[1] + rows) // 4) - start[1] // 4
    threads = planes * quarters * columns
    if not result.numel():
        return
    _fill[(triton.cdiv(threads, _BLOCK), channels)](
        result, *start, rows, columns, quarters, threads, planes, first_number, *map(as_int32, key), BLOCK=_BLOCK
    )


@triton.jit(do_not_specialize=["z0", "y0", "x0", "first_number", "key0", "key1"])
def _fill(result, z0, y0, x0, rows, columns, quarters, threads, planes, first_number, key0, key1, BLOCK: tl.constexpr):
    thread = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.program_id(1)
    x = thread % columns
    quarter = y0 // 4 + (thread // columns) % quarters
    z = thread // (columns * quarters)
    number = tl.zeros_like(thread) + first_number + channel
    a, b, c, d = philox_words(z + z0, x + x0, number, quarter, key0, key1)
    first, second = normal_pair(a, b)
    third, fourth = normal_pair(c, d)
    plane = (channel.to(tl.int64) * planes + z) * rows
    for row in tl.static_range(4):
        y = 4 * quarter + row - y0
        value = first if row == 0 else second if row == 1 else third if row == 2 else fourth
        tl.store(result + (plane + y) * columns + x, value, mask=(thread < threads) & (y >= 0) & (y < rows))
