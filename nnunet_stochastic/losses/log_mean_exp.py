"""The loss of Stochastic Segmentation Networks: a Monte-Carlo estimate of the log-likelihood of whole images.

    L = -log 1/K Σ_k exp(Σ_n log softmax(η_k)_n[t_n]),   η_k ~ p(η)

(Monteiro et al. 2020, https://arxiv.org/abs/2006.06015, Eq. 5). The sum over voxels stands inside the exponential, so a
sample counts by how well it explains the whole image, and noise that is shared between voxels is rewarded.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nnunet_stochastic.distributions import LogitDistribution, full_precision

__all__ = ["log_mean_exp_loss"]


def log_mean_exp_loss(
    distribution: LogitDistribution, target: Tensor, num_samples: int, *, ignore_label: int | None = None
) -> Tensor:
    """Negative Monte-Carlo log-likelihood per voxel, mean over the batch.

    Parameters
    ----------
    distribution
        p(η) of logits (B, C, *S).
    target
        Labels, shape (B, *S), integers in 0 … C - 1 or ``ignore_label``.
    num_samples
        K, at least 1.
    ignore_label
        Voxels of this label count for nothing.

    Returns
    -------
    Tensor
        Scalar in nats per voxel, at least 0. An image whose voxels are all ignored contributes 0.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    counted = torch.ones_like(target, dtype=torch.bool) if ignore_label is None else target != ignore_label
    labels = torch.where(counted, target, 0)
    log_probabilities = torch.log_softmax(full_precision(distribution.rsample(num_samples)), dim=2)
    index = labels[None, :, None].expand(num_samples, *([-1] * (labels.ndim + 1)))
    log_likelihood = log_probabilities.gather(2, index)[:, :, 0] * counted
    per_image = torch.logsumexp(log_likelihood.flatten(2).sum(-1), dim=0) - math.log(num_samples)
    return -(per_image / counted.flatten(1).sum(1).clamp_min(1)).mean()
