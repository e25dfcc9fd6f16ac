"""Cross-entropy of voxels and its curvature in the logits, for one label or several annotations of each voxel.

With the law of a voxel's logits η ~ N(μ, Σ) of a network (Σ = 0 for a deterministic one), p = softmax(η), or sigmoid:

    t_n   share of the annotations with each class         r_n = E[p] - t_n         Λ_n = E[diag(p) - p pᵀ]

Λ is the Hessian of E[-Σ t ln p] in μ, the loss on sampled logits that the Gaussian models are trained with (Eq. 12 of
*Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation*, MoB). Regions have a
sigmoid each and a diagonal Λ.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnunet_stochastic.distributions import logistic_normal_moments
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.voxel_law import law_with_noise

__all__ = ["negative_log_likelihood", "output_derivatives", "targets_of_labels"]

_LEAST_PROBABILITY = 1e-8
_NUM_PAIRS = 8


def targets_of_labels(
    labels: Tensor, num_logits: int, *, regions: Sequence[int | tuple[int, ...]] | None = None
) -> Tensor:
    """t, (N, C) in [0, 1], of label values (A, N); ``regions`` are the labels of each region."""
    if regions is None:
        return torch.stack([(labels == value).float().mean(0) for value in range(num_logits)], dim=1)
    members = [torch.as_tensor(region, device=labels.device).view(-1) for region in regions]
    return torch.stack([torch.isin(labels, values).float().mean(0) for values in members], dim=1)


def output_derivatives(space: OutcomeSpace, fields: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """E[p] and Λ of voxels.

    Parameters
    ----------
    space
        Meaning of the logits.
    fields
        Fields of the voxels' laws, (D + F, N), see ``voxel_law``.
    generator
        Random numbers on the CPU, for more than two exclusive classes with variance: 8 antithetic pairs of samples.

    Returns
    -------
    tuple of Tensor
        Probabilities (N, C), and Λ: (N, C, C), for regions its diagonal (N, C).
    """
    free = space.num_log_ratios
    if space.scalar:
        if len(fields) == free:
            probability = torch.sigmoid(fields)
            variance = probability * (1 - probability)
        else:
            probability, square, _ = logistic_normal_moments(*fields.chunk(2))
            variance = (probability - square).clamp_min_(0)
        if space.regions:
            return probability.T, variance.T
        signs = fields.new_tensor([[1.0, -1.0], [-1.0, 1.0]])
        return torch.stack([1 - probability[0], probability[0]], 1), variance[0, :, None, None] * signs
    if len(fields) == free:
        probabilities = space.probabilities(fields).T
        return probabilities, _covariance(probabilities)
    total, hessian = fields.new_zeros(1), fields.new_zeros(1)
    for _ in range(_NUM_PAIRS):
        noise = torch.randn((free, fields.shape[1]), generator=generator).to(fields.device)
        for signed in (noise, -noise):
            probabilities = space.probabilities(law_with_noise(space, fields, signed)).T
            total, hessian = total + probabilities, hessian + _covariance(probabilities)
    return total / (2 * _NUM_PAIRS), hessian / (2 * _NUM_PAIRS)


def _covariance(probabilities: Tensor) -> Tensor:
    """diag(p) - p pᵀ of (N, C): (N, C, C)."""
    return probabilities.diag_embed() - probabilities[:, :, None] * probabilities[:, None]


def negative_log_likelihood(space: OutcomeSpace, probabilities: Tensor, targets: Tensor) -> Tensor:
    """-Σ_c t_c ln p_c at each voxel, in nats, (N), float64; for regions the sum of their binary cross-entropies.

    Parameters
    ----------
    space
        Meaning of the probabilities.
    probabilities
        Probabilities (P, N).
    targets
        t, (N, C).
    """
    every = space.all_probabilities(probabilities.double()).T
    likelihood = targets * every.clamp_min(_LEAST_PROBABILITY).log()
    if space.regions:
        likelihood = likelihood + (1 - targets) * (1 - every).clamp_min(_LEAST_PROBABILITY).log()
    return -likelihood.sum(1)
