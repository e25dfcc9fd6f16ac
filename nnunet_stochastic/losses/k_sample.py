"""The k-sample loss: the segmentation loss averaged over sampled logits.

    L = 1/K Σ_k L_seg(η_k, t),   η_k ~ p(η)

(Eq. 12 of *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation*, MoB.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nnunet_stochastic.distributions import LogitDistribution
from nnunet_stochastic.losses.sample_map import map_samples

__all__ = ["k_sample_loss"]


def k_sample_loss(
    distribution: LogitDistribution,
    segmentation_loss: Callable[[Tensor, Tensor], Tensor],
    target: Tensor,
    num_samples: int,
    *,
    recompute: bool = True,
) -> Tensor:
    """Mean of ``segmentation_loss`` over samples.

    Parameters
    ----------
    distribution
        p(η) of logits (B, C, *S).
    segmentation_loss
        Function from logits (B, C, *S) and ``target`` to a scalar, without random numbers of its own.
    target
        Annotation, in the form that ``segmentation_loss`` takes.
    num_samples
        Number K of samples, at least 1.
    recompute
        Whether to recompute each sample's loss in the backward pass instead of keeping its graph.

    Returns
    -------
    Tensor
        Scalar.
    """
    losses = map_samples(
        distribution, lambda logits: segmentation_loss(logits, target), num_samples, recompute=recompute
    )
    return torch.stack(losses).mean()
