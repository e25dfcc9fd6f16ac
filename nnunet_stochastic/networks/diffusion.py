"""Diffusion on the attention U-Net: p(η) is the law of masks that are denoised step by step, given the image.

The network f sees the image x beside a noisy mask x_t (see ``distributions.noise_schedule``) and the time t, and
returns logits of the clean mask:

    f(x, x_t / √E[x_t²], e(t)),    e(t) = W_2 SiLU(W_1 [sin(1000 t ω_i), cos(1000 t ω_i)]),    ω_i = 10000^(-i / n)

Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation, 3.2 and 3.3:
prediction of x_0 with a softmax head, cosine schedule, input scaling b = 0.1, DDIM in 10 steps, e(t) in all residual
blocks. As in https://arxiv.org/abs/2301.10972 the noisy mask is divided by its standard deviation, which b makes depend
on t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_stochastic.distributions import DenoisingLogits, NoiseSchedule, full_precision
from nnunet_stochastic.networks.attention_blocks import Dimension
from nnunet_stochastic.networks.attention_unet import (
    BASE_CHANNELS,
    CHANNEL_MULTIPLIERS,
    AttentionUNet,
    zero_convolution,
)
from nnunet_stochastic.networks.base import GenerativeNetwork
from nnunet_stochastic.targets import Target

__all__ = ["DiffusionNetwork", "TimeEmbedding"]

_TIME_SCALE = 1000.0
_LONGEST_PERIOD = 10_000.0
_EMBEDDING_CHANNELS = 32


class TimeEmbedding(nn.Module):
    """e: times in [0, 1], shape (B,), -> vectors (B, channels), ``channels`` even."""

    frequencies: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        frequencies = torch.exp(-math.log(_LONGEST_PERIOD) * torch.arange(channels // 2) / (channels // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, time: Tensor) -> Tensor:
        angles = _TIME_SCALE * time[:, None] * self.frequencies
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)
        return functional.silu(self.output(functional.silu(self.hidden(waves))))


class DiffusionNetwork(GenerativeNetwork):
    """Attention U-Net that denoises masks of exclusive classes.

    Its deterministic prediction is the mean probability of a few samples, always from the same noise.

    Parameters
    ----------
    in_channels
        Channels of the image.
    num_channels
        Channels C of the logits.
    dimension
        Number of spatial axes, 2 or 3.
    num_steps
        Number of DDIM's steps, evaluations of the network for one sample, at least 1.
    input_scale
        Scale b of the mask against the noise, positive.
    num_mean_samples
        Number of samples whose mean probability is the deterministic prediction, at least 1.
    base_channels
        Channels of the first level of the network.
    channel_multipliers
        Channels of its levels in units of these.
    """

    def __init__(
        self,
        in_channels: int,
        num_channels: int,
        *,
        dimension: Dimension,
        num_steps: int = 10,
        input_scale: float = NoiseSchedule.input_scale,
        num_mean_samples: int = 4,
        base_channels: int = BASE_CHANNELS,
        channel_multipliers: Sequence[int] = CHANNEL_MULTIPLIERS,
    ) -> None:
        super().__init__()
        if num_channels < 2:
            raise ValueError(f"diffusion has a softmax head and needs at least 2 classes, got {num_channels}")
        self.num_channels = num_channels
        self.num_steps = num_steps
        self.num_mean_samples = num_mean_samples
        self.schedule = NoiseSchedule(input_scale)
        self.embedding = TimeEmbedding(_EMBEDDING_CHANNELS)
        self.unet = AttentionUNet(
            in_channels + num_channels,
            dimension=dimension,
            base_channels=base_channels,
            channel_multipliers=channel_multipliers,
            embedding_channels=_EMBEDDING_CHANNELS,
        )
        self.output = zero_convolution(self.unet, num_channels)

    def deterministic_logits(self, x: Tensor) -> Tensor:
        return self.logit_distribution(x).mean_logits

    def training_outputs(self, x: Tensor, target: Target) -> dict[str, Tensor]:
        """``logits`` (B, C, *S) of the clean mask, each image at a time of its own, uniform in [0, 1)."""
        time = torch.rand(x.shape[0], device=x.device)
        # An ignored voxel has no mask: 0 lies between its two values.
        clean = (2 * target.mask - 1) * target.counted
        scale, noise_level = (_per_image(level, x) for level in self.schedule.levels(time))
        return {"logits": self.predict_clean(x, scale * clean + noise_level * torch.randn_like(clean), time)}

    def predict_clean(self, x: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """f.

        Parameters
        ----------
        x
            Images, shape (B, channels, *S).
        noisy
            Noisy mask x_t, shape (B, C, *S).
        time
            Time t in [0, 1], shape (B,).

        Returns
        -------
        Tensor
            Logits of x_0, shape (B, C, *S).
        """
        normalized = noisy / _per_image(self.schedule.root_mean_square(time), x)
        features = self.unet(torch.cat([x, normalized.to(x.dtype)], dim=1), self.embedding(time))
        return full_precision(self.output(features))

    def logit_distribution(self, x: Tensor) -> DenoisingLogits:
        # Samples are drawn after this call: in the precision in which it was made.
        precision: dict[str, Any] = {
            "device_type": x.device.type,
            "dtype": torch.get_autocast_dtype(x.device.type),
            "enabled": torch.is_autocast_enabled(x.device.type),
        }

        def denoise(noisy: Tensor, time: float) -> Tensor:
            images = x.expand(noisy.shape[0], *x.shape).flatten(0, 1)
            times = torch.full((images.shape[0],), time, device=x.device)
            with torch.autocast(**precision):
                return self.predict_clean(images, noisy.flatten(0, 1), times).view(noisy.shape)

        return DenoisingLogits(
            denoise,
            (x.shape[0], self.num_channels, *x.shape[2:]),
            device=x.device,
            schedule=self.schedule,
            num_steps=self.num_steps,
            num_mean_samples=self.num_mean_samples,
        )


def _per_image(numbers: Tensor, like: Tensor) -> Tensor:
    """(B,) as (B, 1, *1), to be multiplied with fields of the images ``like``."""
    return numbers.view(-1, *[1] * (like.ndim - 1))
