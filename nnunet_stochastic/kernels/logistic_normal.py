"""Moments of a logistic normal, as ``distributions.logistic_normal`` has them, with its three rules in registers.

Of a block of neighbours a rule is computed only if one of them needs it: in an image most are far.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["fill_logistic_normal_moments"]

_BLOCK = 64  # of one warp: few, so that neighbours seldom need a rule that most do not
_LN_2 = tl.constexpr(math.log(2))
_ROOT_OF_HALF = tl.constexpr(math.sqrt(0.5))


def fill_logistic_normal_moments(
    moments: list[Tensor],
    mean: Tensor,
    std: Tensor,
    narrow: list[tuple[float, float]],
    wide: list[tuple[float, float, float, float]],
    greatest_narrow: float,
) -> None:
    """Write E[p], E[p²] and E[H(p)], within 2e-6 of those of torch.

    Parameters
    ----------
    moments
        Where to, three tensors (N), contiguous.
    mean, std
        Means and standard deviations, (N), float32, contiguous.
    narrow, wide
        Nodes of the rule in z with their weights, and of the rule in t with those of the three moments.
    greatest_narrow
        The largest standard deviation of the rule in z.
    """
    count = mean.numel()
    if not count:
        return
    _fill[(triton.cdiv(count, _BLOCK),)](
        *moments,
        mean,
        std,
        _table(tuple(narrow), mean.device),
        _table(tuple(wide), mean.device),
        count,
        len(narrow),
        len(wide),
        greatest_narrow,
        BLOCK=_BLOCK,
        num_warps=1,
    )


@cache
def _table(rows: tuple[tuple[float, ...], ...], device: torch.device) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32, device=device)


@triton.jit
def _fill(
    probability_out,
    square_out,
    entropy_out,
    means,
    stds,
    narrow,
    wide,
    count,
    num_narrow,
    num_wide,
    greatest_narrow,
    BLOCK: tl.constexpr,
):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    given = tl.load(means + index, mask=inside, other=-1e3)
    std = tl.load(stds + index, mask=inside, other=0.0)
    m = -tl.abs(given)
    variance = std * std
    near = m >= -5.5 - 1.5 * variance
    is_wide = near & (std > greatest_narrow)
    is_narrow = near & (std <= greatest_narrow)
    # Where the series does not hold its terms may be infinite.
    far_m, far_v = tl.where(near, -10.0, m), tl.where(near, 0.0, variance)
    y1 = tl.exp(far_m + far_v / 2)
    y2 = tl.exp(2 * (far_m + far_v))
    p = y1 - y2
    q = y2
    h = (1 - far_m - far_v) * y1 - (0.5 - far_m - 2 * far_v) * y2
    if tl.max(is_narrow.to(tl.int32), axis=0) > 0:
        sum_p, sum_q, sum_h = m * 0.0, m * 0.0, m * 0.0
        for k in range(num_narrow):
            node = tl.load(narrow + 2 * k)
            weight = tl.load(narrow + 2 * k + 1)
            x_low = m - node * std
            x_high = m + node * std
            low = 1 / (1 + tl.exp(-x_low))
            high = 1 / (1 + tl.exp(-x_high))
            sum_p += weight * (low + high)
            sum_q += weight * (low * low + high * high)
            sum_h -= weight * (x_low * low + x_high * high + tl.log((1 - low) * (1 - high)))
        p = tl.where(is_narrow, sum_p, p)
        q = tl.where(is_narrow, sum_q, q)
        h = tl.where(is_narrow, sum_h, h)
    if tl.max(is_wide.to(tl.int32), axis=0) > 0:
        sum_p, sum_q, sum_h = m * 0.0 + 0.5, m * 0.0 + 0.5, m * 0.0
        scale = _ROOT_OF_HALF / tl.where(is_wide, std, 1.0)
        for k in range(num_wide):
            step = tl.erf((m - tl.load(wide + 4 * k)) * scale) / 2
            sum_p += tl.load(wide + 4 * k + 1) * step
            sum_q += tl.load(wide + 4 * k + 2) * step
            sum_h += tl.load(wide + 4 * k + 3) * step
        p = tl.where(is_wide, sum_p, p)
        q = tl.where(is_wide, sum_q, q)
        h = tl.where(is_wide, sum_h, h)
    p = tl.minimum(tl.maximum(p, 0.0), 1.0)
    q = tl.minimum(tl.maximum(q, p * p), p)
    h = tl.minimum(tl.maximum(h, 0.0), _LN_2)
    # From p back to 1 - p where the mean is positive.
    spread = q - p * p
    positive = given > 0
    p = tl.where(positive, 1 - p, p)
    q = tl.minimum(tl.where(positive, spread + p * p, q), p)
    tl.store(probability_out + index, p, mask=inside)
    tl.store(square_out + index, q, mask=inside)
    tl.store(entropy_out + index, h, mask=inside)
