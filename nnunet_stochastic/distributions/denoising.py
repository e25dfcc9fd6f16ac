"""Logits at the end of a chain of denoising steps: the diffusion model's p(η).

With x_1 ~ N(0, I) at every voxel and class, and f the network's logits for the clean mask, DDIM without added noise
(Song et al., https://arxiv.org/abs/2010.02502, Eq. 12, η = 0) goes from t to the next smaller time u by

    x̂ = 2 softmax f(x_t, t) - 1,     ε̂ = (x_t - √γ_t b x̂) / √(1 - γ_t),     x_u = √γ_u b x̂ + √(1 - γ_u) ε̂

through equally spaced times from 1 to 0. The logits of a sample are those of the last prediction, η = f(x_t, t) at the
last t above 0. So a sample is a fixed map of x_1: parts of an image that are given parts of one x_1 are parts of one
sample, as far as the network sees the same in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from nnunet_stochastic.distributions.base import LogitDistribution
from nnunet_stochastic.distributions.mean_probability import logits_of_mean_probability
from nnunet_stochastic.distributions.noise_schedule import NoiseSchedule

__all__ = ["DenoisingLogits"]

_VOXELS_AT_ONCE = 1 << 20  # of the samples that are denoised together, so that memory does not grow with K


class DenoisingLogits(LogitDistribution):
    """The law of the last prediction of DDIM.

    Parameters
    ----------
    denoise
        Network f: x_t of samples (K, B, C, *S) and the time t in (0, 1] to logits of the same shape.
    shape
        Shape (B, C, *S) of the logits.
    device
        Device on which ``denoise`` computes.
    schedule
        Noise schedule, γ and b.
    num_steps
        Number of evaluations of the network for a sample, at least 1.
    num_mean_samples
        Number of samples whose mean probability is the deterministic prediction, at least 1.
    """

    repeats_network = True

    def __init__(
        self,
        denoise: Callable[[Tensor, float], Tensor],
        shape: Sequence[int],
        *,
        device: torch.device,
        schedule: NoiseSchedule,
        num_steps: int,
        num_mean_samples: int,
    ) -> None:
        super().__init__(shape, dtype=torch.float32, device=device)
        for name, value in (("num_steps", num_steps), ("num_mean_samples", num_mean_samples)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self._denoise = denoise
        self._schedule = schedule
        self._num_steps = num_steps
        self._num_mean_samples = num_mean_samples

    @property
    def noise_channels(self) -> int:
        return self.shape[1]

    @cached_property
    def mean_logits(self) -> Tensor:
        """Logits of the mean probability of a few samples, the x_1 of which are always the same.

        Computed when first asked for, at the price of that many samples.
        """
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn((self._num_mean_samples, 1, *self.shape[1:]), generator=generator).to(self.device)
        samples = (self.transform(x[None].expand(1, *self.shape), x.new_zeros(1, self.shape[0], 0))[0] for x in noise)
        return logits_of_mean_probability(samples, regions=False)

    def transform(self, noise: Tensor, shared_noise: Tensor) -> Tensor:
        at_once = max(1, _VOXELS_AT_ONCE // (self.shape.numel() // self.shape[1]))
        return torch.cat([self._denoise_fully(samples) for samples in noise.split(at_once)])

    def _denoise_fully(self, noise: Tensor) -> Tensor:
        grid = torch.linspace(1, 0, self._num_steps + 1, dtype=torch.float64)[:-1]
        levels = zip(*(level.tolist() for level in self._schedule.levels(grid)), strict=True)
        first, *times = grid.tolist()
        scale, noise_level = next(levels)
        noisy = noise
        logits = self._denoise(noisy, first)
        for time, (next_scale, next_noise_level) in zip(times, levels, strict=True):
            clean = 2 * torch.softmax(logits, dim=2) - 1
            noisy = next_scale * clean + (next_noise_level / noise_level) * (noisy - scale * clean)
            scale, noise_level = next_scale, next_noise_level
            logits = self._denoise(noisy, time)
        return logits
