"""Samples of a Gaussian with noise of each voxel, their softmax and the sums that are kept of a tile and a view.

    η = μ + √d ∘ z1 + B̂ (a ∘ z2)        p = softmax(η)

of ``distributions.BasisGaussian`` with z1 and z2 drawn at each voxel, in antithetic pairs, and of these the sums of
``sample_sums.SampleSums``. Parameters are read once per view; the noise of the classes, logits and probabilities of all
samples of a voxel stay in registers. a ∘ z2, which all classes need and every thread would draw anew, is drawn before
where that is little memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from nnunet_stochastic.kernels.random_numbers import as_int32, normal_pair, philox_words
from nnunet_stochastic.kernels.voxel_noise import fill_with_voxel_noise

__all__ = ["add_samples_of_view", "add_tile_to_image"]

_ELEMENTS = 2048  # classes x voxels of a block
_WARPS = 8
_REGISTERS = 128  # of a thread, so that two blocks run at a time
_BLOCK = 256
_MOST_BYTES_OF_NOISE = 512 << 20


def add_samples_of_view(
    total: Tensor,
    spread: Tensor | None,
    square: Tensor | None,
    entropy: Tensor | None,
    *,
    parameters: tuple[Tensor, Tensor, Tensor, Tensor],
    num_samples: int,
    start: tuple[int, int, int],
    flipped: Sequence[bool],
    key: tuple[int, int],
    numbers_of_sample: int,
    unit: float = 1.0,
) -> None:
    """Add the samples of a view to the sums of its tile, within 1e-5 for each sample.

    Parameters
    ----------
    total
        Σ p, (C, Z, Y, X), of any floating type, contiguous, in the orientation of the image.
    spread
        K² Var[p̄] of the views so far, (C, Z, Y, X), of any floating type; ``None`` where it is not wanted, or where the
        view has one pair only, which says nothing of it.
    square, entropy
        Σ Σ_c p_c² and Σ H(p), (Z, Y, X), float32; ``None`` where they are not wanted.
    parameters
        μ and d, (C, Z, Y, X), a, (R, Z, Y, X), in the orientation of the view, and B̂ of every partition,
        (G, G, G, C, R), float32. Half precision is computed in float32.
    num_samples
        Samples K of the view, at least 1; the last one is alone if K is odd.
    start
        First voxel of the tile in its image.
    flipped
        Whether the view is flipped along each axis.
    key
        Key of the noise, two words in [0, 2^32).
    numbers_of_sample
        By how much the third words of the counters of two samples differ, at least C + R.
    unit
        What stands for 1 in ``total``.
    """
    mean, variance, scale, bases = (tensor.contiguous() for tensor in parameters)
    classes, planes, rows, columns = mean.shape
    channels = triton.next_power_of_2(classes)
    block = max(16, _ELEMENTS // channels)
    voxels = planes * rows * columns
    units = (num_samples + 1) // 2
    scaled_noise: Tensor | None = None
    if 4 * units * scale.numel() <= _MOST_BYTES_OF_NOISE:
        scaled_noise = torch.empty((units, *scale.shape), device=scale.device)
        for unit_number, noise in enumerate(scaled_noise):
            fill_with_voxel_noise(noise, start, unit_number * numbers_of_sample + classes, key)
        scaled_noise *= scale
    _add_samples[(triton.cdiv(voxels, block),)](
        total,
        total if spread is None else spread,
        total if square is None else square,
        total if entropy is None else entropy,
        mean,
        variance,
        scale if scaled_noise is None else scaled_noise,
        bases,
        voxels,
        rows,
        columns,
        planes,
        *bases.shape[:3],
        *start,
        *map(int, flipped),
        classes,
        num_samples,
        *map(as_int32, key),
        unit,
        NUMBERS_OF_SAMPLE=numbers_of_sample,
        NOISE_IS_DRAWN=scaled_noise is not None,
        WITH_SPREAD=spread is not None,
        WITH_SQUARE=square is not None,
        WITH_ENTROPY=entropy is not None,
        RANK=scale.shape[0],
        CHANNELS=channels,
        BLOCK=block,
        num_warps=_WARPS,
        maxnreg=_REGISTERS,
    )


def add_tile_to_image(
    image: Tensor,
    total: Tensor,
    spread: Tensor | None,
    weights: Tensor,
    start: tuple[int, int, int],
    *,
    num_samples: int,
    num_spread: int,
    unit: float = 1.0,
) -> Tensor | None:
    """Add the mean of a tile to a sum over tiles, and return what its entropy lacks, (Z, Y, X), in nats.

    Parameters
    ----------
    image
        Σ_t w_t p̄_t, (C, *S), of any floating type, contiguous.
    total, spread
        Sums of the tile's samples.
    weights
        w_t of its voxels, (Z, Y, X), float32, contiguous.
    start
        First voxel of the tile in the image.
    num_samples, num_spread
        Samples in ``total``, and in ``spread``.
    unit
        What stands for 1 in ``total``.
    """
    classes, planes, rows, columns = total.shape
    voxels = planes * rows * columns
    lost = None if spread is None else torch.empty_like(weights)
    _add_tile[(triton.cdiv(voxels, _BLOCK),)](
        image,
        total,
        total if spread is None else spread,
        weights,
        weights if lost is None else lost,
        voxels,
        rows,
        columns,
        image.shape[2],
        image.shape[3],
        *start,
        image[0].numel(),
        classes,
        1 / (num_samples * unit),
        1 / (2 * num_samples * max(num_spread, 1)),
        WITH_SPREAD=spread is not None,
        BLOCK=_BLOCK,
    )
    return lost


@triton.jit
def _noise(z, y, x, number, key0, key1):
    """Number of a voxel, as ``inference.voxel_noise`` has it."""
    zero = tl.zeros_like(z + y + x + number)
    a, b, c, d = philox_words(z + zero, x + zero, number + zero, y // 4 + zero, key0, key1)
    row = y % 4 + zero
    cosine, sine = normal_pair(tl.where(row < 2, a, c), tl.where(row < 2, b, d))
    return tl.where(row % 2 == 0, cosine, sine)


@triton.jit
def _softmax(logits):
    """Probabilities over axis 0, and their entropy."""
    x = logits - tl.max(logits, axis=0)[None, :]
    e = tl.exp(x)
    norm = tl.sum(e, axis=0)
    p = e / norm[None, :]
    return p, tl.log(norm) - tl.sum(tl.where(e > 0, p * x, 0.0), axis=0)


@triton.jit(do_not_specialize=["z0", "y0", "x0", "flip_z", "flip_y", "flip_x", "num_samples", "key0", "key1"])
def _add_samples(
    total,
    spread,
    square,
    entropy,
    mean,
    variance,
    scale,
    bases,
    voxels,
    rows,
    columns,
    planes,
    grid_z,
    grid_y,
    grid_x,
    z0,
    y0,
    x0,
    flip_z,
    flip_y,
    flip_x,
    classes,
    num_samples,
    key0,
    key1,
    unit,
    NUMBERS_OF_SAMPLE: tl.constexpr,
    NOISE_IS_DRAWN: tl.constexpr,
    WITH_SPREAD: tl.constexpr,
    WITH_SQUARE: tl.constexpr,
    WITH_ENTROPY: tl.constexpr,
    RANK: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    voxel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = voxel < voxels
    x = voxel % columns
    y = (voxel // columns) % rows
    z = voxel // (rows * columns)
    c = tl.arange(0, CHANNELS)[:, None]
    present = (c < classes) & inside[None, :]
    place = c.to(tl.int64) * voxels + voxel[None, :]
    m = tl.load(mean + place, mask=present, other=0.0).to(tl.float32)
    m = tl.where(c < classes, m, float("-inf"))
    std = tl.sqrt_rn(tl.load(variance + place, mask=present, other=0.0).to(tl.float32))
    partition = (z * grid_z // planes * grid_y + y * grid_y // rows) * grid_x + x * grid_x // columns
    basis = bases + (partition[None, :] * classes + c) * RANK

    sum_p = tl.zeros([CHANNELS, BLOCK], tl.float32)
    sum_s2 = tl.zeros([CHANNELS, BLOCK], tl.float32)  # Σ_u S_u²
    sum_ms = tl.zeros([CHANNELS, BLOCK], tl.float32)  # Σ_u m_u S_u
    sum_q = tl.zeros([BLOCK], tl.float32)
    sum_h = tl.zeros([BLOCK], tl.float32)
    units = (num_samples + 1) // 2
    for u in range(units):
        number = u * NUMBERS_OF_SAMPLE
        move = std * _noise((z + z0)[None, :], (y + y0)[None, :], (x + x0)[None, :], number + c, key0, key1)
        for r in range(RANK):
            if NOISE_IS_DRAWN:
                place_of_noise = (tl.full([], u, tl.int64) * RANK + r) * voxels + voxel
                own = tl.load(scale + place_of_noise, mask=inside, other=0.0)
            else:
                own = _noise(z + z0, y + y0, x + x0, tl.zeros_like(voxel) + (number + classes + r), key0, key1)
                own *= tl.load(scale + r * voxels + voxel, mask=inside, other=0.0).to(tl.float32)
            move += tl.load(basis + r, mask=present, other=0.0) * own[None, :]
        p, h = _softmax(m + move)
        q = tl.sum(p * p, axis=0)
        size = 1.0
        if 2 * u + 1 < num_samples:
            other, h_other = _softmax(m - move)
            q += tl.sum(other * other, axis=0)
            h += h_other
            p += other
            size = 2.0
        sum_p += p
        sum_q += q
        sum_h += h
        if WITH_SPREAD:
            sum_s2 += p * p
            sum_ms += size * p

    z = tl.where(flip_z > 0, planes - 1 - z, z)
    y = tl.where(flip_y > 0, rows - 1 - y, y)
    x = tl.where(flip_x > 0, columns - 1 - x, x)
    target = (z * rows + y) * columns + x
    place = c.to(tl.int64) * voxels + target[None, :]
    before = tl.load(total + place, mask=present, other=0.0).to(tl.float32)
    tl.store(total + place, before + unit * sum_p, mask=present)
    if WITH_SQUARE:
        tl.store(square + target, tl.load(square + target, mask=inside) + sum_q, mask=inside)
    if WITH_ENTROPY:
        tl.store(entropy + target, tl.load(entropy + target, mask=inside) + sum_h, mask=inside)
    if WITH_SPREAD:
        average = sum_p / num_samples
        sizes = 4.0 * (num_samples // 2) + num_samples % 2
        deviations = sum_s2 - 2 * average * sum_ms + sizes * average * average
        found = tl.maximum(deviations, 0.0) * (units / (units - 1.0))
        before = tl.load(spread + place, mask=present, other=0.0).to(tl.float32)
        tl.store(spread + place, before + found, mask=present)


@triton.jit(do_not_specialize=["z0", "y0", "x0", "by_samples", "by_spread"])
def _add_tile(
    image,
    total,
    spread,
    weights,
    lost,
    voxels,
    rows,
    columns,
    image_rows,
    image_columns,
    z0,
    y0,
    x0,
    image_voxels,
    classes,
    by_samples,
    by_spread,
    WITH_SPREAD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    voxel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = voxel < voxels
    z = z0 + voxel // (rows * columns)
    y = y0 + (voxel // columns) % rows
    x = x0 + voxel % columns
    weight = tl.load(weights + voxel, mask=inside, other=0.0)
    to = image + (z.to(tl.int64) * image_rows + y) * image_columns + x
    sums = total + voxel
    spreads = spread + voxel
    missing = tl.zeros([BLOCK], tl.float32)
    for _ in range(classes):
        p = tl.load(sums, mask=inside, other=1.0).to(tl.float32) * by_samples
        if WITH_SPREAD:
            missing += tl.load(spreads, mask=inside, other=0.0).to(tl.float32) / tl.maximum(p, 1e-30)
        tl.store(to, tl.load(to, mask=inside, other=0.0).to(tl.float32) + weight * p, mask=inside)
        to += image_voxels
        sums += voxels
        spreads += voxels
    if WITH_SPREAD:
        tl.store(lost + voxel, missing * by_spread, mask=inside)
