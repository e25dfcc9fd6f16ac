"""The loss of diffusion: squared error of the predicted clean mask, the same weight at every time.

    L = mean over voxels and classes of (softmax(f(x, x_t, t)) - y)²

(Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation, 3.2: in the data
domain, with a softmax head.) Its minimum is E[y | x, x_t], which is all that the steps of DDIM need.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_stochastic.distributions import full_precision
from nnunet_stochastic.targets import Target

__all__ = ["denoising_loss"]


def denoising_loss(logits: Tensor, target: Target) -> Tensor:
    """L over all voxels of the batch that count.

    Parameters
    ----------
    logits
        Logits of the clean mask, shape (B, C, *S).
    target
        Annotation y.

    Returns
    -------
    Tensor
        Scalar in [0, 2 / C]; 0 where all voxels are ignored.
    """
    if logits.shape != target.mask.shape:
        raise ValueError(f"logits {tuple(logits.shape)} do not match a target of shape {tuple(target.mask.shape)}")
    error = (torch.softmax(full_precision(logits), dim=1) - target.mask).square() * target.counted
    return error.sum() / (target.counted.sum().clamp_min(1) * logits.shape[1])
