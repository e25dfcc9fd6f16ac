"""The loss of Stochastic Segmentation Networks: a Monte-Carlo estimate of the log-likelihood of whole images.

    L = -log 1/K Σ_k exp(Σ_n log softmax(η_k)_n[t_n]),   η_k ~ p(η)

(Monteiro et al. 2020, https://arxiv.org/abs/2006.06015, Eq. 5). The sum over voxels stands inside the exponential, so a
sample counts by how well it explains the whole image, and noise that is shared between voxels is rewarded.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nnunet_stochastic.distributions import LogitDistribution
from nnunet_stochastic.losses.cross_entropy import voxel_log_likelihood
from nnunet_stochastic.targets import Target

__all__ = ["log_mean_exp_loss"]


def log_mean_exp_loss(
    distribution: LogitDistribution, target: Target, num_samples: int, *, regions: bool = False
) -> Tensor:
    """Negative Monte-Carlo log-likelihood per voxel, mean over the batch.

    Parameters
    ----------
    distribution
        p(η) of logits (B, C, *S).
    target
        Annotation t; voxels that it does not count stand for nothing.
    num_samples
        Number K of samples, at least 1.
    regions
        Whether the logits are of regions, each with a sigmoid of its own, rather than exclusive classes.

    Returns
    -------
    Tensor
        Scalar in nats per voxel, at least 0. An image whose voxels are all ignored contributes 0.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    log_likelihood = voxel_log_likelihood(distribution.rsample(num_samples), target, regions=regions)
    per_image = torch.logsumexp(log_likelihood.flatten(2).sum(-1), dim=0) - math.log(num_samples)
    return -(per_image / target.counted.flatten(1).sum(1).clamp_min(1)).mean()
