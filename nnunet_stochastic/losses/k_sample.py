"""The k-sample loss: the segmentation loss averaged over sampled logits.

    L = 1/K Σ_k L_seg(η_k, t),   η_k ~ p(η)

(Eq. 12 of *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation*, MoB.)

The graph of one L_seg (softmax, Dice, cross-entropy) holds several tensors of the size of the logits. With
``recompute`` only one such graph exists at a time: a sample's noise and loss are computed again in the backward pass,
which costs about a third of the loss's own time and none of the network's.

Both passes must see the same noise. Activation checkpointing restores the global generator of the CPU and, for
functions without tensor arguments, no other: on CUDA and MPS the backward pass would follow the gradient of samples
that the loss never saw. So each sample is a function of a seed, from which its own generator on the distribution's
device is made anew in both passes. The noise itself, kept from one pass to the other, would do as well and cost
4 (C + R) bytes per voxel and sample at worst (8 GB for 100 classes, K = 5 and two patches of 128³): memory would grow
with K. The seeds come from torch's default generator, so a seeded training repeats them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nnunet_stochastic.distributions import LogitDistribution

__all__ = ["k_sample_loss"]

_SEEDS = 2**63 - 1  # number of them: torch takes whole numbers of 64 bits


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
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")

    def sampled_loss(seed: int) -> Tensor:
        generator = torch.Generator(distribution.device).manual_seed(seed)
        return segmentation_loss(distribution.rsample(1, generator=generator)[0], target)

    seeds = torch.randint(_SEEDS, (num_samples,)).tolist()
    if recompute and torch.is_grad_enabled():
        losses = [checkpoint(sampled_loss, seed, use_reentrant=False, preserve_rng_state=False) for seed in seeds]
    else:
        losses = [sampled_loss(seed) for seed in seeds]
    return torch.stack(losses).mean()
