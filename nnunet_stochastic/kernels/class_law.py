"""The law of the log-ratios of three to five classes, x ~ N(μ, L Lᵀ), in one pass over the parameters of p(η).

With v_ir = a_r (B̂_(i+1)r - B̂_0r) of ``distributions.BasisGaussian``, or P_(i+1)r - P_0r of ``LowRankGaussian``,

    Σ_ij = Σ_r v_ir v_jr + d_0 + 1[i = j] d_(i+1) = (L Lᵀ)_ij

The factor is found column by column, as in ``distributions.cholesky``.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from nnunet_stochastic.kernels.law_launch import partition_of, run_law

__all__ = ["class_law"]

_BLOCK = 128


def class_law(mean: Tensor, variance: Tensor, factor: Tensor, bases: Tensor | None = None) -> Tensor:
    """Fields of the law, (D + D(D+1)/2, Z, Y, X) with D = C - 1, float32.

    They are those of torch but for rounding, which grows where logits move together.

    Parameters
    ----------
    mean, variance
        μ and d, (C, Z, Y, X). Half precision is computed in float32.
    factor
        a, (R, Z, Y, X); P, (C, R, Z, Y, X), where ``bases`` is not given.
    bases
        B̂ of every partition, (G, G, G, C, R).
    """
    free = len(mean) - 1
    result = torch.empty((free + free * (free + 1) // 2, *mean.shape[1:]), device=mean.device)
    differences = None if bases is None else (bases[..., 1:, :].float() - bases[..., :1, :].float()).contiguous()
    rows = triton.next_power_of_2(free)
    run_law(_law, result, (mean, variance, factor), differences, block=_BLOCK, FREE=free, ROWS=rows)
    return result


@triton.jit
def _row(column, row, i: tl.constexpr):
    """Row i of a column (ROWS, BLOCK), as (1, BLOCK)."""
    return tl.sum(tl.where(row == i, column, 0.0), axis=0)[None, :]


@triton.jit
def _factor_column(column, row, j: tl.constexpr):
    """Column j of the factor, of what the columns before it have left of the covariance."""
    pivot = tl.sqrt_rn(tl.maximum(_row(column, row, j), 1e-6))
    return tl.where(row == j, pivot, tl.where(row > j, column / pivot, 0.0))


@triton.jit
def _store_column(result, column, row, voxels, voxel, inside, j: tl.constexpr, FREE: tl.constexpr):
    place = (FREE + row * (row + 1) // 2 + j).to(tl.int64) * voxels + voxel[None, :]
    tl.store(result + place, column, mask=(row >= j) & (row < FREE) & inside[None, :])


@triton.jit(do_not_specialize=["voxels"])  # as in ``lattice_moments``: no sum over classes is to cross warps
def _law(
    result,
    mean,
    variance,
    factor,
    table,
    voxels,
    planes,
    rows,
    columns,
    grid_z,
    grid_y,
    grid_x,
    RANK: tl.constexpr,
    FREE: tl.constexpr,
    ROWS: tl.constexpr,
    HAS_BASES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    voxel = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = voxel < voxels
    row = tl.arange(0, ROWS)[:, None]
    present = (row < FREE) & inside[None, :]
    place = (row + 1).to(tl.int64) * voxels + voxel[None, :]
    first = tl.load(mean + voxel, mask=inside, other=0.0).to(tl.float32)
    others = tl.load(mean + place, mask=present, other=0.0).to(tl.float32)
    tl.store(result + row.to(tl.int64) * voxels + voxel[None, :], others - first[None, :], mask=present)

    partition = partition_of(voxel, planes, rows, columns, grid_z, grid_y, grid_x)
    basis = table + (partition[None, :] * FREE + row) * RANK
    c0 = tl.zeros([ROWS, BLOCK], tl.float32)
    c1 = tl.zeros([ROWS, BLOCK], tl.float32)
    c2 = tl.zeros([ROWS, BLOCK], tl.float32)
    c3 = tl.zeros([ROWS, BLOCK], tl.float32)
    for r in range(RANK):
        if HAS_BASES:
            scale = tl.load(factor + voxel, mask=inside, other=0.0).to(tl.float32)
            v = tl.load(basis + r, mask=present, other=0.0) * scale[None, :]
            factor += voxels
        else:
            base = tl.load(factor + r * voxels + voxel, mask=inside, other=0.0).to(tl.float32)
            own = factor + ((row + 1) * RANK + r).to(tl.int64) * voxels + voxel[None, :]
            v = tl.load(own, mask=present, other=0.0).to(tl.float32) - tl.where(row < FREE, base[None, :], 0.0)
        c0 += v * _row(v, row, 0)
        c1 += v * _row(v, row, 1)
        if FREE > 2:
            c2 += v * _row(v, row, 2)
        if FREE > 3:
            c3 += v * _row(v, row, 3)
    shared = tl.load(variance + voxel, mask=inside, other=1.0).to(tl.float32)[None, :]
    own_variance = tl.load(variance + place, mask=present, other=0.0).to(tl.float32)
    c0 = _factor_column(c0 + shared + tl.where(row == 0, own_variance, 0.0), row, 0)
    c1 += shared + tl.where(row == 1, own_variance, 0.0) - c0 * _row(c0, row, 1)
    c1 = _factor_column(c1, row, 1)
    _store_column(result, c0, row, voxels, voxel, inside, 0, FREE)
    _store_column(result, c1, row, voxels, voxel, inside, 1, FREE)
    if FREE > 2:
        c2 += shared + tl.where(row == 2, own_variance, 0.0) - c0 * _row(c0, row, 2) - c1 * _row(c1, row, 2)
        c2 = _factor_column(c2, row, 2)
        _store_column(result, c2, row, voxels, voxel, inside, 2, FREE)
    if FREE > 3:
        c3 += shared + tl.where(row == 3, own_variance, 0.0) - c0 * _row(c0, row, 3) - c1 * _row(c1, row, 3)
        c3 = _factor_column(c3 - c2 * _row(c2, row, 3), row, 3)
        _store_column(result, c3, row, voxels, voxel, inside, 3, FREE)
