"""The log-likelihood of annotations, voxel by voxel: what cross-entropy and the losses of whole images are made of.

    ln p(y_v | η) = ln softmax(η_v)[y_v],      for regions  Σ_c ln sigmoid(±η_vc)

Cross-entropy is its negative mean over the voxels that count, and over the regions where there are some.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nnunet_stochastic.distributions import full_precision
from nnunet_stochastic.targets import Target

__all__ = ["cross_entropy_loss", "voxel_log_likelihood"]


def voxel_log_likelihood(logits: Tensor, target: Target, *, regions: bool = False) -> Tensor:
    """ln p(y | η) at each voxel.

    Parameters
    ----------
    logits
        Logits η, shape (..., B, C, *S). Half precision is computed in float32.
    target
        Annotation y of the B images.
    regions
        Whether the channels are regions rather than exclusive classes.

    Returns
    -------
    Tensor
        Shape (..., B, *S), nats, at most 0; 0 at voxels that are ignored.
    """
    channel = -target.mask.ndim + 1
    logits = full_precision(logits)
    if logits.shape[channel - 1 :] != target.mask.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} do not match a target of shape {tuple(target.mask.shape)} (B, C, *S)"
        )
    if not regions:
        return (torch.log_softmax(logits, dim=channel) * target.mask).sum(channel)
    # ln sigmoid(-η) = ln sigmoid(η) - η
    of_regions = functional.logsigmoid(logits) - (1 - target.mask) * logits
    return (of_regions * target.counted).sum(channel)


def cross_entropy_loss(logits: Tensor, target: Target, *, regions: bool = False) -> Tensor:
    """Negative log-likelihood per voxel (and region), mean over all voxels of the batch that count.

    Parameters
    ----------
    logits
        Logits η, shape (B, C, *S).
    target
        Annotation y.
    regions
        Whether the channels are regions rather than exclusive classes.

    Returns
    -------
    Tensor
        Scalar, nats, at least 0; 0 where all voxels are ignored.
    """
    voxels = target.counted.sum().clamp_min(1)
    return -voxel_log_likelihood(logits, target, regions=regions).sum() / (voxels * (logits.shape[1] if regions else 1))
