"""The law of one voxel's log-ratios, x ~ N(μ, L Lᵀ), as fields that can be blended, and its moments.

A Gaussian p(η) has such a law at each voxel; a deterministic network is its case L = 0. The fields of a law are the D
channels of μ and the F of L: the standard deviation of each log-ratio where each probability depends on one alone (two
classes, regions; F = D), else the lower triangle of the Cholesky factor, row by row (F = D(D+1)/2).

Laws are blended, over tiles and mirrored views, as Σ w μ / Σ w and Σ w L / Σ w: what the logits do that are given the
same noise z in all of them, x = μ + L z. So variance is neither averaged away where tiles overlap, nor inflated where
they disagree. Moments of p are taken once per voxel after that, and for L = 0 nothing is left to integrate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nnunet_stochastic.distributions import BasisGaussian, GaussianLogits, LowRankGaussian, logistic_normal_moments
from nnunet_stochastic.distributions.cholesky import cholesky_of_field
from nnunet_stochastic.kernels import use_kernels
from nnunet_stochastic.outcomes import OutcomeSpace

__all__ = [
    "MAX_CLASSES",
    "VoxelMoments",
    "exact_moments",
    "fields_of_law",
    "law_with_noise",
    "noise_free_moments",
    "num_fields",
    "sampled_moments",
]

#: The most exclusive classes whose law is kept, since its factor has C(C-1)/2 channels.
MAX_CLASSES = 5


@dataclass(frozen=True)
class VoxelMoments:
    """Moments of the probabilities of one member at n voxels.

    Parameters
    ----------
    mean
        E[p], (P, n).
    entropy
        E[H(p)], (n), in nats; ``None`` for a member without samples.
    square
        E[Σ_c p_c²] over the P channels, (n); ``None`` likewise.
    lost_entropy
        Estimate of how much H(mean) is too small, (n), in nats, because the mean is of a few samples; ``None`` is 0.
    """

    mean: Tensor
    entropy: Tensor | None = None
    square: Tensor | None = None
    lost_entropy: Tensor | None = None

    def of_samples(self, name: Literal["entropy", "square"]) -> Tensor:
        """A field that only members with samples have."""
        field: Tensor | None = getattr(self, name)
        if field is None:
            raise ValueError(f"the moments have no {name}: they are of a member without samples")
        return field


def num_fields(space: OutcomeSpace, *, has_samples: bool) -> int:
    """D + F."""
    free = space.num_log_ratios
    if not has_samples:
        return free
    return 2 * free if space.scalar else free + free * (free + 1) // 2


def fields_of_law(distribution: GaussianLogits, space: OutcomeSpace) -> Tensor:
    """μ and L at each voxel.

    Parameters
    ----------
    distribution
        Distribution p(η) of one tile, mean_logits (1, C, *T).
    space
        Meaning of the logits; of exclusive classes at most ``MAX_CLASSES``, unless p(η) has no variance.

    Returns
    -------
    Tensor
        (D + F, *T), float32.
    """
    kept = not space.regions and space.num_logits <= MAX_CLASSES
    if kept and not distribution.of_covariance and use_kernels(distribution.mean_logits):
        law = _law_by_kernel(distribution, space)
        if law is not None:
            return law
    mean = space.log_ratios(distribution.mean_logits[0])
    if not distribution.has_samples:
        return mean
    factor = distribution.of_covariance.get(space)
    if factor is None:
        factor = distribution.of_covariance[space] = _factor_of_law(distribution, space)
    return torch.cat([mean, factor])


def _law_by_kernel(distribution: GaussianLogits, space: OutcomeSpace) -> Tensor | None:
    """Fields of the law, (D + F, *T); ``None`` for a distribution that the kernels do not know."""
    if not isinstance(distribution, BasisGaussian | LowRankGaussian):
        return None
    from nnunet_stochastic.kernels.class_law import class_law
    from nnunet_stochastic.kernels.two_class_law import two_class_law

    spatial = distribution.mean_logits.shape[2:]
    flat = (1,) * (3 - len(spatial))
    bases: Tensor | None = None
    if isinstance(distribution, BasisGaussian):
        factor, bases = distribution.basis_scale[0], distribution.partition_bases[0]
        bases = bases.view(*flat, *bases.shape)
    else:
        factor = distribution.cov_factor[0]
    mean, variance, factor = (
        field.reshape(*field.shape[: field.ndim - len(spatial)], *flat, *spatial)
        for field in (distribution.mean_logits[0], distribution.diag_var[0], factor)
    )
    law = two_class_law if space.two_classes else class_law
    return law(mean, variance, factor, bases).view(-1, *spatial)


def _factor_of_law(distribution: GaussianLogits, space: OutcomeSpace) -> Tensor:
    """L at each voxel, (F, *T)."""
    if space.regions:
        return distribution.voxel_variance()[0].float().sqrt()
    if space.num_logits > MAX_CLASSES:
        raise ValueError(f"the law of a voxel is kept for up to {MAX_CLASSES} classes, here are {space.num_logits}")
    entries = [[entry[0].float() for entry in row] for row in distribution.difference_covariance()]
    if space.two_classes:
        return entries[0][0].clamp_(min=0).sqrt_()[None]
    return torch.stack([entry for row in cholesky_of_field(entries) for entry in row])


def law_with_noise(space: OutcomeSpace, fields: Tensor, noise: Tensor | None) -> Tensor:
    """x = μ + L z.

    Parameters
    ----------
    space
        Meaning of the log-ratios.
    fields
        Fields of the law, (D + F, *S).
    noise
        Normal numbers z, (D, *S); ``None`` where F = 0.

    Returns
    -------
    Tensor
        Log-ratios (D, *S).
    """
    free = space.num_log_ratios
    mean, factor = fields[:free], fields[free:]
    if not len(factor):
        return mean
    if noise is None:
        raise ValueError(f"a law with {len(factor)} fields of its factor needs noise")
    if space.scalar:
        return torch.addcmul(mean, factor, noise)
    rows, first = [], 0
    for i in range(free):
        row = mean[i]
        for j in range(i + 1):
            row = torch.addcmul(row, factor[first + j], noise[j])
        rows.append(row)
        first += i + 1
    return torch.stack(rows)


def noise_free_moments(space: OutcomeSpace, fields: Tensor) -> VoxelMoments:
    """Moments of a deterministic member: fields (D, n)."""
    return VoxelMoments(space.probabilities(fields))


def exact_moments(space: OutcomeSpace, fields: Tensor) -> VoxelMoments:
    """Moments by one-dimensional integrals, for two classes and regions: fields (2 D, n)."""
    if not space.scalar:
        raise ValueError(
            f"exact moments are for two classes and for regions, here are {space.num_logits} exclusive classes: "
            "take samples"
        )
    mean, std = fields.chunk(2)
    probability, square, entropy = logistic_normal_moments(mean, std)
    entropy = entropy.sum(0)
    return VoxelMoments(probability, entropy / space.num_channels if space.regions else entropy, square.sum(0))


def sampled_moments(
    space: OutcomeSpace, fields: Tensor, nodes: Iterable[tuple[Tensor, Tensor | float]]
) -> VoxelMoments:
    """Weighted averages over samples.

    Parameters
    ----------
    space
        Meaning of the log-ratios.
    fields
        Fields of the law, (D + F, n).
    nodes
        Numbers z of each sample, (D, n), at least one, and its weight, positive: (n), or (P, n) where each channel
        depends on a log-ratio alone.
    """
    sums: tuple[Tensor, Tensor, Tensor] | None = None
    total: Tensor | float = 0.0
    for noise, weight in nodes:
        probabilities = space.probabilities(law_with_noise(space, fields, noise))
        terms = space.entropy_terms(probabilities)
        if sums is None:
            sums = weight * probabilities, weight * probabilities.square_(), weight * terms
        else:
            mean, square, entropy = sums
            mean += weight * probabilities
            square += weight * probabilities.square_()
            entropy += weight * terms
        total = total + weight
    if sums is None:
        raise ValueError("moments of no samples are not defined: give at least one")
    mean, square, entropy = sums
    entropy = (entropy / total).sum(0)
    return VoxelMoments(
        (mean / total).clamp_(max=1),
        entropy / space.num_channels if space.regions else entropy,
        (square / total).sum(0),
    )
