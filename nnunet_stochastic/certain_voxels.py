"""Voxels that are all but certain of one of several classes: moments in closed form, without samples.

With x ~ N(μ, L Lᵀ) and a class k, let d_j = x_j - x_k (x_0 = 0), with mean m_j and variance v_j, y_j = e^(d_j) and
Y = Σ_(j≠k) y_j. Then p_k = 1 / (1 + Y), p_j = y_j / (1 + Y) and H(p) = ln(1 + Y) - Σ_j p_j d_j. To first order in y

    E[p_j] ≈ e_j = exp(m_j + v_j / 2)     E[Σ_c p_c²] ≈ Σ_c E[p_c]²     E[H(p)] ≈ Σ_j (1 - m_j - v_j) e_j

where the density that is proportional to e^(t d) φ shifts the mean of d by t v. With

    s = Σ_j exp(m_j + v_j)          h = Σ_j exp(m_j + v_j) √((m_j + 2 v_j)² + v_j)

Minkowski's inequality and E[y_j²] = exp(2 m_j + 2 v_j) give E[Y²] <= s², and Cauchy's E[Y Σ_j y_j |d_j|] <= s h. Hence

* 0 <= e_j - E[p_j] = E[y_j Y / (1 + Y)], and over j these sum to at most s², by which 1 - Σ e_j falls short of E[p_k];
* Σ_c p_c² lies in [1 - 2 Y, 1 - 2 Y + 4 Y²], so its mean is off by at most 4 s²;
* ln(1 + Y) lies in [Y - Y²/2, Y] and |Σ_j (y_j - p_j) d_j| <= Y Σ_j y_j |d_j|: E[H(p)] is off by at most s²/2 + s h;
* |H(p) - H(p')| <= Σ_c |Δp_c| ln(1 / |Δp_c|) for small Δp: H of a mean of such p̄ is off by s² (1 + ln((C - 1) / s²)).

For s <= 1.7e-3, s h <= 5e-5 and C <= 5 that is 2.9e-6, 1.2e-5, 5.2e-5 and 4.4e-5, for every mean over members, too. So
total and aleatoric are within 5.2e-5 of the limit of many samples, and epistemic and variance within 1e-4. The number
of classes is in the last bound alone, which is 6.0e-5 for a thousand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from nnunet_stochastic.distributions import GaussianLogits
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.voxel_law import VoxelMoments

__all__ = [
    "MOST_S",
    "MOST_SH",
    "MOST_V",
    "OF_ITSELF",
    "are_certain",
    "certain_class",
    "differences",
    "moments_of_certain",
    "moments_of_differences",
]

#: Bounds of s, and of s h, up to which a voxel is certain.
MOST_S, MOST_SH = 1.7e-3, 5e-5
#: Bound of v up to which e^d has its expectation beside samples. That of a wider one is carried by values that few
#: samples reach: where means are resampled by their logarithms it would stand out from voxels beside it. Blended laws
#: have no such bound: 30 samples of a lattice have a mean logarithm that is off by 0.1 to 0.4 at v = 9 (three to five
#: classes), and by 1.5 to 3.3 at v = 25, where the expectation is below 1e-8.
MOST_V = 4.0
#: The m of a class to itself: of no probability, and finite.
OF_ITSELF = -1e4

_VOXELS_AT_ONCE = 1 << 13  # the temporaries of some dozen classes stay in the cache of a CPU


def certain_class(space: OutcomeSpace, fields: Tensor) -> Tensor:
    """The class of which a voxel is so certain that the closed form holds.

    Parameters
    ----------
    space
        Meaning of the log-ratios: three to five exclusive classes.
    fields
        Fields of the law, (D + F, n).

    Returns
    -------
    Tensor
        k in [0, C), or -1 where samples are needed, (n), int64.
    """
    found = torch.full_like(fields[0], -1, dtype=torch.int64)
    # s is at least e^m of the class that is next: the check costs nothing where no mean is so large.
    if fields.device.type == "cpu" and not bool((fields[: space.num_log_ratios].abs() >= -math.log(MOST_S)).any()):
        return found
    for k in range(space.num_logits):
        found[_are_certain(_differences(space, fields, k))] = k
    return found


def moments_of_certain(space: OutcomeSpace, fields: Tensor, k: int) -> VoxelMoments:
    """Moments of voxels that are certain of class ``k``: fields (D + F, n), as ``certain_class`` chooses them."""
    of_itself = torch.full_like(fields[0], OF_ITSELF), torch.zeros_like(fields[0])
    each = _differences(space, fields, k)
    mean, variance = (torch.stack(numbers) for numbers in zip(*each[:k], of_itself, *each[k:], strict=True))
    return moments_of_differences(mean, variance, torch.full_like(fields[0], k, dtype=torch.int64))


def are_certain(mean: Tensor, variance: Tensor) -> Tensor:
    """Whether voxels are certain of the class to which their differences are taken, and these narrow enough.

    Parameters
    ----------
    mean, variance
        m and v, each (C, n), as ``differences`` has them.

    Returns
    -------
    Tensor
        (n), bool.
    """
    return _are_certain([(mean, variance)]) & (variance <= MOST_V).all(0)


def moments_of_differences(mean: Tensor, variance: Tensor, classes: Tensor) -> VoxelMoments:
    """Moments of voxels that are certain of ``classes`` (n), by m and v as ``differences`` has them, each (C, n)."""
    probabilities = torch.exp(mean + variance / 2)
    entropy = (1 - mean).sub_(variance).mul_(probabilities).sum(0)
    probabilities.scatter_(0, classes[None], 1 - probabilities.sum(0, keepdim=True))
    return VoxelMoments(probabilities, entropy, probabilities.square().sum(0))


def differences(distribution: GaussianLogits) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Differences of the logits to the one whose mean is the largest, some voxels after the other.

    Parameters
    ----------
    distribution
        p(η) of one image, (1, C, *S).

    Yields
    ------
    tuple
        Which n voxels of the flattened S; m and v, each (C, n), float32, v at least 0; and the class k, (n). The class
        itself is given as one without probability: m = ``OF_ITSELF``, v = 0.
    """
    logits = distribution.mean_logits.float()
    largest, classes = logits.max(1)
    variances = distribution.difference_variance(classes)[0].flatten(1).float()
    logits, largest, classes = logits[0].flatten(1), largest.flatten(), classes.flatten()
    for start in range(0, len(classes), _VOXELS_AT_ONCE):
        part = slice(start, min(start + _VOXELS_AT_ONCE, len(classes)))
        k = classes[part]
        mean = (logits[:, part] - largest[part]).scatter_(0, k[None], OF_ITSELF)
        yield part, mean, variances[:, part].clamp_min(0), k


def _are_certain(differences: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Whether s and s h are within their bounds, (n).

    Parameters
    ----------
    differences
        Mean and variance of x_j - x_k, of one class j after the other, (n), or of several at once, (J, n).
    """
    s: Tensor | float = 0.0
    h: Tensor | float = 0.0
    for mean, variance in differences:
        term = torch.exp(mean + variance)
        absolute = torch.sqrt((mean + 2 * variance).square_() + variance).mul_(term)
        s, h = (total + (each if each.ndim == 1 else each.sum(0)) for total, each in ((s, term), (h, absolute)))
    return torch.as_tensor(s <= MOST_S) & (s * h <= MOST_SH)


def _differences(space: OutcomeSpace, fields: Tensor, k: int) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance of x_j - x_k for each class j but k, (n) each."""
    free = space.num_log_ratios
    mean, factor = fields[:free], fields[free:]
    zero = torch.zeros_like(fields[0])
    means = [zero, *mean]
    rows = [[], *(list(factor[i * (i + 1) // 2 : (i + 1) * (i + 2) // 2]) for i in range(free))]
    result = []
    for j in range(space.num_logits):
        if j == k:
            continue
        longer, shorter = (rows[j], rows[k]) if j > k else (rows[k], rows[j])
        variance = sum(((entry - shorter[i]) if i < len(shorter) else entry).square() for i, entry in enumerate(longer))
        result.append((means[j] - means[k], variance))
    return result
