"""Logits that are a function of one latent vector for the whole image: the Probabilistic U-Net's p(η).

    z = μ_z + σ_z ∘ ε,   ε ~ N(0, I) in R^M,      η = g(z)

(Kohl et al., A Probabilistic U-Net for Segmentation of Ambiguous Images, https://arxiv.org/abs/1806.05034, Eq. 1). The
decoder g holds the features of the image, so that a sample costs an evaluation of g and no more. All the noise of a
sample is ε, which is shared by all voxels: parts of an image that are given one ε are parts of one sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from nnunet_stochastic.distributions.base import LogitDistribution

__all__ = ["LatentLogits"]


class LatentLogits(LogitDistribution):
    """The law of g(z), z ~ N(μ_z, diag σ_z²).

    Parameters
    ----------
    latent_mean
        Means μ_z, shape (B, M).
    latent_std
        Standard deviations σ_z, shape (B, M), positive.
    decode
        Decoder g: latents (B, M) to logits (B, C, *S).
    shape
        Shape (B, C, *S) of the logits.
    """

    def __init__(
        self, latent_mean: Tensor, latent_std: Tensor, decode: Callable[[Tensor], Tensor], shape: Sequence[int]
    ) -> None:
        super().__init__(shape, dtype=latent_mean.dtype, device=latent_mean.device)
        if latent_mean.ndim != 2 or latent_mean.shape != latent_std.shape or len(latent_mean) != shape[0]:
            raise ValueError(
                f"latent_mean and latent_std must both have shape ({shape[0]}, M), got {tuple(latent_mean.shape)} and "
                f"{tuple(latent_std.shape)}"
            )
        self.latent_mean = latent_mean
        self.latent_std = latent_std
        self._decode = decode

    @property
    def noise_channels(self) -> int:
        return 0

    @property
    def shared_noise_channels(self) -> int:
        return self.latent_mean.shape[1]

    @cached_property
    def mean_logits(self) -> Tensor:
        """g(μ_z), the logits of the mean latent. Computed when first asked for."""
        return self._decode(self.latent_mean)

    def transform(self, noise: Tensor, shared_noise: Tensor) -> Tensor:
        latents = torch.addcmul(self.latent_mean, self.latent_std, shared_noise)
        return torch.stack([self._decode(latent) for latent in latents])
