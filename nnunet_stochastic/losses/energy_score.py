"""The energy score of whole segmentations: the law of the samples is rewarded for being that of the annotations.

    ES = E d(S, Y) - ½ E d(S, S'),     S, S' ~ samples, Y ~ annotations
    d(p, q) = 1 - (⟨p, q⟩ + 1) / (|p| + |q| - ⟨p, q⟩ + 1)

(Gneiting and Raftery 2007, https://doi.org/10.1198/016214506000001437, section 5.) p and q are masks of probabilities,
⟨p, q⟩ their product summed over voxels and |p| their sum: d is 1 - IoU of two binary masks to which one more voxel that
both have is added, so that two empty masks are alike. A mean over samples of a distance to Y, as the k-sample loss is
one, is smallest where every sample is the one best segmentation; the second term rewards samples for being as far
apart as annotations are.

1 - d is a positive definite kernel: with a = ⟨p, q⟩ + 1 and b = |p| + |q| + 2 it is Σ_n (a / b)ⁿ, n from 1 on, a series
of products of the kernels a and 1/b = ∫ exp(-t b) dt. So ES is proper, and for binary masks its only minimum is the
law of Y: the powers of a know every moment of it. Of binary masks the generalized energy distance of Kohl et al. 2018
(https://arxiv.org/abs/1806.05034, Eq. 6) is 2 ES and what no prediction changes. One annotation of an image, drawn at
random, is enough for an unbiased estimate.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nnunet_stochastic.distributions import LogitDistribution, full_precision
from nnunet_stochastic.losses.cross_entropy import voxel_log_likelihood
from nnunet_stochastic.losses.sample_map import map_samples
from nnunet_stochastic.targets import Target

__all__ = ["energy_score", "energy_score_loss"]


def energy_score(samples: Tensor, target: Target, *, regions: bool = False) -> Tensor:
    """ES of masks of probabilities, its unbiased estimate from K samples.

    Parameters
    ----------
    samples
        Sampled probabilities, shape (K, B, C, *S), K at least 2, in [0, 1].
    target
        Annotation Y of the B images; voxels that it does not count stand for nothing.
    regions
        Whether the channels are regions. Of exclusive classes the first is background and is left out.

    Returns
    -------
    Tensor
        Scalar, mean over the images and the regions or foreground classes; in (-½, 1).
    """
    if samples.shape[1:] != target.mask.shape:
        raise ValueError(
            f"samples {tuple(samples.shape)} (K, B, C, *S) do not match a target of shape {tuple(target.mask.shape)}"
        )
    if len(samples) < 2:
        raise ValueError(
            f"the energy score compares samples with each other: at least 2 are needed, got {len(samples)}"
        )
    first = 0 if regions else 1
    if samples.shape[2] <= first:
        raise ValueError("the energy score needs at least one foreground class")
    counted = target.counted.flatten(1)
    scores = []
    with torch.autocast(samples.device.type, enabled=False):  # sums over voxels are beyond half precision
        for channel in range(first, samples.shape[2]):
            masks = full_precision(samples[:, :, channel].flatten(2)).transpose(0, 1)
            annotation = target.mask[:, channel].flatten(1).to(masks.dtype)[..., None]
            volume = masks @ counted.to(masks.dtype)[..., None]
            to_annotation = _distance(masks @ annotation, volume, annotation.sum(1, keepdim=True)).mean((1, 2))
            overlap = (masks * counted[:, None]) @ masks.transpose(1, 2)
            pairs = _distance(overlap, volume, volume.transpose(1, 2))
            different = pairs.sum((1, 2)) - pairs.diagonal(dim1=1, dim2=2).sum(1)
            scores.append(to_annotation - different / (2 * len(samples) * (len(samples) - 1)))
    return torch.stack(scores).mean()


def _distance(overlap: Tensor, volume: Tensor, other_volume: Tensor) -> Tensor:
    """d from ⟨p, q⟩, |p| and |q|, which broadcast."""
    return 1 - (overlap + 1) / (volume + other_volume - overlap + 1)


def energy_score_loss(
    distribution: LogitDistribution,
    target: Target,
    num_samples: int,
    *,
    regions: bool = False,
    weight_cross_entropy: float = 10.0,
    recompute: bool = True,
) -> Tensor:
    """ES plus the weighted cross-entropy of the predictive mean, - mean over voxels of ln 1/K Σ_k p(y_v | η_k).

    ES sees whole masks, and hardly the probability that a voxel far from all of them has; the cross-entropy sees that.

    Parameters
    ----------
    distribution
        p(η) of logits (B, C, *S).
    target
        Annotation y; voxels that it does not count stand for nothing.
    num_samples
        Number K of samples, at least 2.
    regions
        Whether the logits are of regions, each with a sigmoid of its own, rather than exclusive classes.
    weight_cross_entropy
        Weight of the cross-entropy, which is in nats per voxel (and region), at least 0.
    recompute
        Whether to recompute each sample in the backward pass. Its probabilities of the classes and the likelihood of
        its annotation are kept all the same: 4 (C + 1) bytes per voxel and sample.

    Returns
    -------
    Tensor
        Scalar.
    """
    if num_samples < 2:
        raise ValueError(f"num_samples must be at least 2, got {num_samples}: the energy score compares samples")
    if weight_cross_entropy < 0:
        raise ValueError(f"weight_cross_entropy must be at least 0, got {weight_cross_entropy}")

    def probabilities_and_likelihood(logits: Tensor) -> tuple[Tensor, Tensor]:
        logits = full_precision(logits)
        probabilities = torch.sigmoid(logits) if regions else torch.softmax(logits, dim=1)
        return probabilities, voxel_log_likelihood(logits, target, regions=regions)

    drawn = map_samples(distribution, probabilities_and_likelihood, num_samples, recompute=recompute)
    score = energy_score(torch.stack([probabilities for probabilities, _ in drawn]), target, regions=regions)
    likelihood = torch.logsumexp(torch.stack([each for _, each in drawn]), dim=0) - math.log(num_samples)
    voxels = target.counted.sum().clamp_min(1) * (target.mask.shape[1] if regions else 1)
    return score - weight_cross_entropy * likelihood.sum() / voxels
