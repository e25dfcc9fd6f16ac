"""A function of samples that are drawn one by one: f(η_1), …, f(η_K) with η_k ~ p(η).

The graph of one f (softmax, Dice, cross-entropy) holds several tensors of the size of the logits. With ``recompute``
only one such graph exists at a time: a sample's noise and f are computed again in the backward pass, which costs about
a third of the loss's own time and none of the network's.

Both passes must see the same noise. Activation checkpointing restores the global generator of the CPU and, for
functions without tensor arguments, no other: on CUDA and MPS the backward pass would follow the gradient of samples
that the loss never saw. So each sample is a function of a seed, from which its own generator on the distribution's
device is made anew in both passes. The noise itself, kept from one pass to the other, would do as well and cost
4 (C + R) bytes per voxel and sample at worst (8 GB for 100 classes, K = 5 and two patches of 128³): memory would grow
with K. The seeds come from torch's default generator, so a seeded training repeats them.

Noise that the voxels of a sample share is given to all samples at once where these are few: P of LowRank, R times as
large as the logits, is then read once, and its gradient computed once, not by every sample. The means of all samples
are kept for that, up to 16 channels of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nnunet_stochastic.distributions import GaussianLogits, LogitDistribution

__all__ = ["map_samples"]

Result = TypeVar("Result", Tensor, tuple[Tensor, Tensor])

_SEEDS = 2**63 - 1  # number of them: torch takes whole numbers of 64 bits
_MOST_CHANNELS = 16  # of the means of all samples given their shared noise


def map_samples(
    distribution: LogitDistribution,
    function: Callable[[Tensor], Result],
    num_samples: int,
    *,
    recompute: bool,
) -> list[Result]:
    """``function`` of each of K samples.

    Parameters
    ----------
    distribution
        p(η) of logits (B, C, *S).
    function
        Function of logits (B, C, *S), without random numbers of its own.
    num_samples
        Number K of samples, at least 1.
    recompute
        Whether to recompute sample and function in the backward pass instead of keeping their graph.

    Returns
    -------
    list
        f(η_1), …, f(η_K).
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")

    def of_sample(law: LogitDistribution, seed: int) -> Result:
        generator = torch.Generator(law.device).manual_seed(seed)
        return function(law.rsample(1, generator=generator)[0])

    def recomputed(law: LogitDistribution, seed: int) -> Result:
        return checkpoint(of_sample, law, seed, use_reentrant=False, preserve_rng_state=False)

    evaluate = recomputed if recompute and torch.is_grad_enabled() else of_sample
    seeds = torch.randint(_SEEDS, (num_samples,)).tolist()
    return [evaluate(law, seed) for law, seed in zip(_laws_of_samples(distribution, num_samples), seeds, strict=True)]


def _laws_of_samples(distribution: LogitDistribution, num_samples: int) -> Sequence[LogitDistribution]:
    """What each sample is drawn from: its law given its shared noise, where all of these have few channels."""
    few = num_samples * distribution.shape[1] <= _MOST_CHANNELS
    if few and isinstance(distribution, GaussianLogits) and distribution.shared_noise_channels:
        generator = torch.Generator(distribution.device).manual_seed(int(torch.randint(_SEEDS, ())))
        laws = distribution.given_shared_noise(distribution.draw_shared_noise(num_samples, generator=generator))
        if laws is not None:
            return laws
    return [distribution] * num_samples
