"""The k-sample loss of MoB: the segmentation loss averaged over sampled logits.

    L = 1/K Σ_k L_seg(η_k, t),   η_k ~ p(η)                                                          (Eq. 12)

The graph of one L_seg (softmax, Dice, cross-entropy) holds several tensors of the size of the logits. With
``recompute`` only one such graph exists at a time: a sample's noise and loss are computed again in the backward pass,
which costs about a third of the loss's own time and none of the network's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nnunet_stochastic.distributions import LogitDistribution

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
        Maps logits (B, C, *S) and ``target`` to a scalar.
    target
        Whatever ``segmentation_loss`` takes.
    num_samples
        K, at least 1.
    recompute
        Recompute each sample's loss in the backward pass instead of keeping its graph.

    Returns
    -------
    Tensor
        Scalar.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")

    def sampled_loss() -> Tensor:
        return segmentation_loss(distribution.rsample(1)[0], target)

    if recompute and torch.is_grad_enabled():
        losses = [checkpoint(sampled_loss, use_reentrant=False) for _ in range(num_samples)]
    else:
        losses = [sampled_loss() for _ in range(num_samples)]
    return torch.stack(losses).mean()
