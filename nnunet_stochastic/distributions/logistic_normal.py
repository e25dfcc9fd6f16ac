"""Moments of a probability whose logit is Gaussian: p = sigmoid(x), x ~ N(m, σ²).

For two classes the logit of the foreground is x = η_1 - η_0, for regions each channel's own; where p(η) is Gaussian so
is x, and what Monte Carlo estimates with K samples are the integrals

    E[f(p)] = ∫ f(sigmoid(m + σ z)) φ(z) dz      f(p) = p,  p²,  H(p) = -p ln p - (1 - p) ln(1 - p)

Taken at -|m|, as sigmoid(-x) = 1 - p, by one of three rules, each where it is short:

    far     |m| > 5.5 + 1.5 σ²    p = y - y² + y³ ... in y = e^x, where E[y^k] = exp(k m + k² σ²/2)
    narrow  σ <= 1.25             Gauss-Hermite quadrature with 12 nodes in z
    wide    σ > 1.25              by parts, E[f(p)] = ∫ (d/dt f(sigmoid(t))) Φ((m - t)/σ) dt

With the logistic density s the derivatives are s(t), 2 sigmoid(t) s(t) and -t s(t): they decay as e^-|t| and have no
singularity within π of the real axis, so that the trapezoid rule with distance 1 of the nodes on [-14, 14] converges
for every σ > 1.25. All moments are within 2e-5 of the integrals, for every m and σ.

The values of the narrow rule are the moments of one distribution with 12 values, those of the series and of the wide
rule are within their error of one: E[p]² <= E[p²] <= E[p] holds, and E[H(p)] <= H(E[p]) up to 2e-5.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from nnunet_stochastic.distributions.base import full_precision
from nnunet_stochastic.kernels import use_kernels

__all__ = ["logistic_normal_moments"]

_NARROW = 1.25  # the largest standard deviation of the rule in z
_NODES_IN_Z = 12
_BOUND_IN_T = 14  # the kernels beyond it have a mass of 1e-5, p and 1 - p are below 1e-6
_CHUNK = 1 << 17  # values at a time on the CPU, so that the temporaries of a node stay in its cache


def logistic_normal_moments(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """E[p], E[p²] and E[H(p)] of p = sigmoid(x), x ~ N(mean, std²), elementwise and without gradients.

    Parameters
    ----------
    mean
        Means m, any shape. Half precision is computed in float32.
    std
        Standard deviations σ >= 0, the shape of ``mean``. Where it is 0 the moments are those of sigmoid(m).

    Returns
    -------
    tuple of Tensor
        E[p] in [0, 1], E[p²] in [E[p]², E[p]] and E[H(p)] in nats, in [0, ln 2], each of the shape of ``mean``.
    """
    if mean.shape != std.shape:
        raise ValueError(f"mean and std must have one shape, got {tuple(mean.shape)} and {tuple(std.shape)}")
    with torch.no_grad():
        mean, std = full_precision(mean), full_precision(std)
        probability, square, entropy = (torch.empty_like(mean, memory_format=torch.contiguous_format) for _ in range(3))
        if use_kernels(mean) and mean.dtype == torch.float32:
            _fill_by_kernel([probability, square, entropy], mean.contiguous(), std.contiguous())
            return probability, square, entropy
        on_cpu = mean.device.type == "cpu"
        chunk = _CHUNK if on_cpu else max(1, mean.numel())
        fields = [field.reshape(-1).split(chunk) for field in (mean, std, probability, square, entropy)]
        for mean_piece, std_piece, *pieces in zip(*fields, strict=True):
            _fill(pieces, mean_piece, std_piece, select=on_cpu)
    return probability, square, entropy


def _fill_by_kernel(moments: list[Tensor], mean: Tensor, std: Tensor) -> None:
    from nnunet_stochastic.kernels.logistic_normal import fill_logistic_normal_moments

    fill_logistic_normal_moments(moments, mean, std, _gauss_hermite(_NODES_IN_Z), _kernels(), _NARROW)


def _fill(moments: list[Tensor], mean: Tensor, std: Tensor, *, select: bool) -> None:
    """Write the three moments of the fields ``mean`` and ``std``, (N,), to ``moments``.

    With ``select`` each rule is given the values that it is for. Without, as on a GPU that would have to wait until it
    is known how many these are, each rule is given all of them.
    """
    probability, square, entropy = moments
    negative = -mean.abs()
    # The series costs less than finding where it holds: elsewhere the other two rules replace it.
    for moment, value in zip(moments, _far(negative, std), strict=True):
        moment.copy_(value)
    near = ~(negative < -5.5 - 1.5 * std.square())
    wide = near & (std > _NARROW)
    for rule, where in ((_wide, wide), (_narrow, near & ~wide)):
        if select:
            index = where.nonzero().squeeze(1)
            values = rule(negative.index_select(0, index), std.index_select(0, index))
            for moment, value in zip(moments, values, strict=True):
                moment.scatter_(0, index, value)
        else:
            for moment, value in zip(moments, rule(negative, std), strict=True):
                torch.where(where, value, moment, out=moment)
    # Rounding and the error of the wide rule may carry values out of the range that the moments of one p have.
    probability.clamp_(0, 1)
    torch.minimum(torch.maximum(square, probability.square(), out=square), probability, out=square)
    entropy.clamp_(0, math.log(2))
    # From p back to 1 - p: E[(1 - p)²] = (1 - E[p])² + Var[p].
    variance = square - probability.square()
    torch.where(mean > 0, 1 - probability, probability, out=probability)
    torch.where(mean > 0, variance.add_(probability.square()), square, out=square)
    torch.minimum(square, probability, out=square)


def _far(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three moments by the series in y = e^x, within 1e-6 where E[y³] <= e^-16.5.

    Cut after a term an alternating series is off by less than the next one, whatever y > 0 is:

        p = y - y² + ...      p² = y² - 2 y³ + ...      H = ln(1 + y) - x p = (1 - x) y - (½ - x) y² + ...

    Under the density that is proportional to y^k φ, x has mean m + k σ²: E[x y^k] = (m + k σ²) E[y^k].
    """
    variance = std.square()
    first = torch.exp(mean + variance / 2)
    second = torch.exp(2 * (mean + variance))
    entropy = (1 - mean - variance) * first - (0.5 - mean - 2 * variance) * second
    return first - second, second, entropy


def _narrow(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three moments by Gauss-Hermite quadrature, for mean <= 0.

    H(p) = -ln(1 - p) - x p, where p is far enough from 1 to cancel nothing. The nodes z and -z have one weight, so they
    share one logarithm, ln((1 - p_z) (1 - p_-z)).
    """
    probability, square, entropy = (torch.zeros_like(mean) for _ in range(3))
    x, p, product = (torch.empty_like(mean) for _ in range(3))
    for node, weight in _gauss_hermite(_NODES_IN_Z):
        for sign in (-1, 1):
            torch.add(mean, std, alpha=sign * node, out=x)
            torch.sigmoid(x, out=p)
            probability.add_(p, alpha=weight)
            square.addcmul_(p, p, value=weight)
            entropy.addcmul_(x, p, value=-weight)
            if sign < 0:
                torch.sub(1, p, out=product)
            else:
                product.addcmul_(product, p, value=-1)
        entropy.sub_(product.log_(), alpha=weight)
    return probability, square, entropy


@cache
def _gauss_hermite(num_nodes: int) -> list[tuple[float, float]]:
    """The nodes z > 0 of an even number, and the weight of z and of -z.

    They are the eigenvalues of the matrix of the recurrence of the Hermite polynomials, and the squares of the first
    entries of its eigenvectors: *Calculation of Gauss Quadrature Rules*, https://doi.org/10.1090/S0025-5718-69-99647-1.
    """
    off_diagonal = torch.arange(1, num_nodes, dtype=torch.float64).sqrt()
    nodes, vectors = torch.linalg.eigh(off_diagonal.diag(1) + off_diagonal.diag(-1))
    return list(zip(nodes.tolist(), vectors[0].square().tolist(), strict=True))[num_nodes // 2 :]


def _wide(mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three moments by the trapezoid rule in t, with Φ(u) = ½ + ½ erf(u / √2)."""
    # The sums of the weights of p and p² are 1, those of H are 0.
    probability, square, entropy = torch.full_like(mean, 0.5), torch.full_like(mean, 0.5), torch.zeros_like(mean)
    scale = math.sqrt(0.5) / std
    scaled_mean = mean * scale
    step = torch.empty_like(mean)
    for node, *weights in _kernels():
        torch.erf(torch.sub(scaled_mean, scale, alpha=node, out=step), out=step)
        for moment, weight in zip((probability, square, entropy), weights, strict=True):
            moment.add_(step, alpha=weight / 2)
    return probability, square, entropy


@cache
def _kernels() -> list[tuple[float, float, float, float]]:
    """Each node t, and its weight in E[p], in E[p²] and in E[H(p)]."""
    nodes = torch.arange(-_BOUND_IN_T, _BOUND_IN_T + 1, dtype=torch.float64)
    probability = nodes.sigmoid()
    density = probability * (-nodes).sigmoid()
    density /= density.sum()
    weights = torch.stack([density, 2 * probability * density, -nodes * density])
    return list(zip(nodes.tolist(), *weights.tolist(), strict=True))
