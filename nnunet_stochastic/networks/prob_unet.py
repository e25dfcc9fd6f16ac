"""Probabilistic U-Net on the attention U-Net: one latent vector decides among the hypotheses for an image.

    prior p(z | x) = N(μ_x, diag σ_x²),     posterior q(z | x, y) = N(μ_xy, diag σ_xy²),     η = g(u(x), z)

(Kohl et al. 2018, https://arxiv.org/abs/1806.05034.) u is the attention U-Net, prior and posterior are encoders of its
kind, and the posterior sees the annotation y beside the image. g tiles z onto the last features, and three 1x1
convolutions follow. As W [u, z] = W_u u + W_z z, the tiled z is never made, and W_u u is computed once for all samples
of an image.

All three networks have 24 base channels and the latent has 6 (Christensen et al., Rethinking Uncertainty Quantification
and Entanglement in Image Segmentation, 3.2 and 3.3). The reported 16.9 million parameters leave room for self-attention
behind the last block of both encoders, as behind the others of that level.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_stochastic.distributions import LatentLogits, full_precision
from nnunet_stochastic.networks.attention_blocks import Dimension, SelfAttention, convolution
from nnunet_stochastic.networks.attention_unet import CHANNEL_MULTIPLIERS, AttentionEncoder, AttentionUNet
from nnunet_stochastic.networks.base import GenerativeNetwork
from nnunet_stochastic.targets import Target

__all__ = ["LatentDecoder", "LatentEncoder", "ProbabilisticUNet"]

_LOG_STD_RANGE = (-5.0, 5.0)


class LatentEncoder(nn.Module):
    """Images -> mean and standard deviation of an axis-aligned Gaussian over latents.

    Parameters
    ----------
    in_channels, dimension, base_channels, channel_multipliers
        Input and size of the encoder, see ``AttentionEncoder``.
    latent_channels
        Length M of the latent.
    """

    def __init__(
        self,
        in_channels: int,
        latent_channels: int,
        *,
        dimension: Dimension,
        base_channels: int,
        channel_multipliers: Sequence[int],
    ) -> None:
        super().__init__()
        self.encoder = AttentionEncoder(
            in_channels, dimension=dimension, base_channels=base_channels, channel_multipliers=channel_multipliers
        )
        channels = self.encoder.level_channels[-1]
        self.attention = SelfAttention(dimension, channels)
        self.output = nn.Linear(channels, 2 * latent_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """μ and σ, each (B, latent_channels), of images (B, in_channels, *S)."""
        _, features = self.encoder(x)
        # Without a norm: where a group is one channel, it would take away the mean that is pooled here.
        pooled = functional.silu(self.attention(features)).flatten(2).mean(-1)
        mean, log_std = full_precision(self.output(pooled)).chunk(2, dim=1)
        return mean, log_std.clamp(*_LOG_STD_RANGE).exp()


class LatentDecoder(nn.Module):
    """g: features (B, features, *S) and latents (B, latent_channels) -> logits (B, C, *S)."""

    def __init__(self, dimension: Dimension, features: int, latent_channels: int, num_channels: int) -> None:
        super().__init__()
        self.of_features = convolution(dimension, features, features, kernel_size=1)
        self.of_latent = nn.Linear(latent_channels, features, bias=False)
        self.hidden = convolution(dimension, features, features, kernel_size=1)
        self.output = convolution(dimension, features, num_channels, kernel_size=1)

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        """Logits of features that have gone through ``of_features``."""
        tiled = self.of_latent(latent)
        hidden = functional.silu(features + tiled.view(*tiled.shape, *[1] * (features.ndim - 2)))
        return full_precision(self.output(functional.silu(self.hidden(hidden))))


class ProbabilisticUNet(GenerativeNetwork):
    """Attention U-Net, prior and posterior. Its deterministic prediction is that of the prior's mean latent.

    Parameters
    ----------
    in_channels
        Channels of the image.
    num_channels
        Channels C of the logits.
    dimension
        Number of spatial axes, 2 or 3.
    latent_channels
        Length M of the latent, at least 1.
    base_channels
        Channels of the first level of each of the three networks.
    channel_multipliers
        Channels of its levels in units of these.
    """

    def __init__(
        self,
        in_channels: int,
        num_channels: int,
        *,
        dimension: Dimension,
        latent_channels: int = 6,
        base_channels: int = 24,
        channel_multipliers: Sequence[int] = CHANNEL_MULTIPLIERS,
    ) -> None:
        super().__init__()
        if latent_channels < 1:
            raise ValueError(f"latent_channels must be at least 1, got {latent_channels}")
        architecture: dict[str, Any] = {
            "dimension": dimension,
            "base_channels": base_channels,
            "channel_multipliers": channel_multipliers,
        }
        self.unet = AttentionUNet(in_channels, **architecture)
        self.prior = LatentEncoder(in_channels, latent_channels, **architecture)
        self.posterior = LatentEncoder(in_channels + num_channels, latent_channels, **architecture)
        self.latent_decoder = LatentDecoder(dimension, self.unet.out_channels, latent_channels, num_channels)
        self.num_channels = num_channels

    def deterministic_logits(self, x: Tensor) -> Tensor:
        return self.logit_distribution(x).mean_logits

    def training_outputs(self, x: Tensor, target: Target) -> dict[str, Tensor]:
        """``logits`` (B, C, *S) of one posterior sample; ``posterior_mean``, ``posterior_std``, ``prior_mean`` and
        ``prior_std``, each (B, M)."""
        posterior_mean, posterior_std = self.posterior(torch.cat([x, target.mask.to(x.dtype)], dim=1))
        prior_mean, prior_std = self.prior(x)
        latent = torch.addcmul(posterior_mean, posterior_std, torch.randn_like(posterior_std))
        return {
            "logits": self.latent_decoder(self._features(x), latent),
            "posterior_mean": posterior_mean,
            "posterior_std": posterior_std,
            "prior_mean": prior_mean,
            "prior_std": prior_std,
        }

    def logit_distribution(self, x: Tensor) -> LatentLogits:
        mean, std = self.prior(x)
        return LatentLogits(
            mean,
            std,
            # Samples are drawn after the autocast of this call has ended, with weights in full precision.
            partial(self.latent_decoder, full_precision(self._features(x))),
            (x.shape[0], self.num_channels, *x.shape[2:]),
        )

    def _features(self, x: Tensor) -> Tensor:
        return self.latent_decoder.of_features(self.unet(x))
