"""Moments of the law of a voxel from a shifted lattice: ``voxel_law.sampled_moments`` of ``lattice_nodes``.

One pass over the fields of the law: the shift of a voxel, its K normal numbers, probabilities and entropies stay in
registers. The shifts are those of ``inference.lattice_shifts``.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from nnunet_stochastic.kernels.random_numbers import as_int32, normal_quantile, philox_words, uniform_number

__all__ = ["lattice_moments"]

_BLOCK = 128


def lattice_moments(
    fields: Tensor,
    offsets: Tensor,
    *,
    spread: float,
    first_voxel: int,
    key: tuple[int, int],
    scalar: bool,
    regions: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """E[p], E[H(p)] and E[Σ_c p_c²], within 1e-5 of those of torch.

    Parameters
    ----------
    fields
        Fields of the law, (D + F, n), float32, voxels next to each other.
    offsets
        Points of the lattice before the shift, (K, D), float32; (K, 1) where each log-ratio is looked at alone.
    spread
        Factor τ of the normal numbers.
    first_voxel
        Number of the first voxel in its image.
    key
        Key of the shifts, two words in [0, 2^32).
    scalar
        Whether each probability is the sigmoid of a log-ratio of its own.
    regions
        Whether these are regions, of whose entropies the mean is taken.

    Returns
    -------
    tuple of Tensor
        Shapes (P, n), (n) and (n).
    """
    if fields.stride(1) != 1:
        fields = fields.contiguous()
    rows, count = fields.shape
    if scalar:
        free = rows // 2
        channels = free
    else:
        free = offsets.shape[1]
        channels = free + 1
    mean = fields.new_empty(channels, count)
    entropy, square = fields.new_empty(2, count)
    if not count:
        return mean, entropy, square
    slope = (1 / spread**2 - 1) / 2
    words = [as_int32(word) for word in key]
    numbers = (offsets.contiguous(), mean, entropy, square, count, first_voxel, *words, len(offsets), spread, slope)
    grid = (triton.cdiv(count, _BLOCK),)
    if scalar:
        over = free if regions else 1
        _scalar_moments[grid](fields, fields.stride(0), *numbers, free, float(over), BLOCK=_BLOCK)
    else:
        padded = triton.next_power_of_2(channels)
        _class_moments[grid](fields, fields.stride(0), *numbers, FREE=free, CHANNELS=padded, BLOCK=_BLOCK)
    return mean, entropy, square


@triton.jit
def _shift(voxel, dimension, key0, key1):
    """Shift of a voxel in a dimension, in [0, 1)."""
    zero = tl.zeros_like(voxel)
    a, b, c, d = philox_words(voxel // 4, zero + dimension, zero, zero, key0, key1)
    row = voxel % 4
    return uniform_number(tl.where(row == 0, a, tl.where(row == 1, b, tl.where(row == 2, c, d))))


@triton.jit(do_not_specialize=["first_voxel", "key0", "key1"])
def _scalar_moments(
    fields,
    stride,
    offsets,
    mean,
    entropy,
    square,
    count,
    first_voxel,
    key0,
    key1,
    num_samples,
    spread,
    slope,
    free,
    over,
    BLOCK: tl.constexpr,
):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    all_entropy = tl.zeros([BLOCK], tl.float32)
    all_square = tl.zeros([BLOCK], tl.float32)
    means = fields + index
    stds = means + tl.full([], free, tl.int64) * stride
    out = mean + index
    for channel in range(free):
        m = tl.load(means, mask=inside, other=0.0)
        s = tl.load(stds, mask=inside, other=0.0)
        shift = _shift(first_voxel + index, channel, key0, key1)
        total = tl.zeros([BLOCK], tl.float32)
        sum_p = tl.zeros([BLOCK], tl.float32)
        sum_q = tl.zeros([BLOCK], tl.float32)
        sum_h = tl.zeros([BLOCK], tl.float32)
        for k in range(num_samples):
            z = spread * normal_quantile(shift + tl.load(offsets + k))
            weight = tl.exp(slope * z * z)
            x = m + s * z
            e = tl.exp(-tl.abs(x))
            less = e / (1 + e)  # the smaller of p and 1 - p
            p = tl.where(x > 0, 1 - less, less)
            total += weight
            sum_p += weight * p
            sum_q += weight * p * p
            sum_h += weight * (tl.log(1 + e) + tl.abs(x) * less)
        tl.store(out, tl.minimum(sum_p / total, 1.0), mask=inside)
        means += stride
        stds += stride
        out += count
        all_square += sum_q / total
        all_entropy += sum_h / total
    tl.store(entropy + index, all_entropy / over, mask=inside)
    tl.store(square + index, all_square, mask=inside)


@triton.jit(do_not_specialize=["first_voxel", "key0", "key1"])
def _class_moments(
    fields,
    stride,
    offsets,
    mean,
    entropy,
    square,
    count,
    first_voxel,
    key0,
    key1,
    num_samples,
    spread,
    slope,
    FREE: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    row = tl.arange(0, CHANNELS)[:, None]  # class; log-ratio row - 1
    present = (row <= FREE) & inside[None, :]
    m = tl.load(fields + (row - 1).to(tl.int64) * stride + index[None, :], mask=present & (row > 0), other=0.0)
    sum_p = tl.zeros([CHANNELS, BLOCK], tl.float32)
    sum_q = tl.zeros([BLOCK], tl.float32)
    sum_h = tl.zeros([BLOCK], tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for k in range(num_samples):
        x = m
        length = tl.zeros([BLOCK], tl.float32)
        for j in tl.static_range(FREE):
            shift = _shift(first_voxel + index, j, key0, key1)
            z = spread * normal_quantile(shift + tl.load(offsets + k * FREE + j))
            length += z * z
            place = FREE + (row - 1) * row // 2 + j
            factor = tl.load(fields + place.to(tl.int64) * stride + index[None, :], mask=present & (row > j), other=0.0)
            x += factor * z[None, :]
        x = tl.where(row <= FREE, x, float("-inf"))
        weight = tl.exp(slope * length)
        x -= tl.max(x, axis=0)[None, :]
        e = tl.exp(x)
        z_sum = tl.sum(e, axis=0)
        p = e / z_sum[None, :]
        total += weight
        sum_p += weight[None, :] * p
        sum_q += weight * tl.sum(p * p, axis=0)
        sum_h += weight * (tl.log(z_sum) - tl.sum(tl.where(row <= FREE, p * x, 0.0), axis=0))
    tl.store(mean + row.to(tl.int64) * count + index[None, :], tl.minimum(sum_p / total[None, :], 1.0), mask=present)
    tl.store(entropy + index, sum_h / total, mask=inside)
    tl.store(square + index, sum_q / total, mask=inside)
