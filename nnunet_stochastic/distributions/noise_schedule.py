"""The noise that diffusion adds to a mask, from none at time 0 to nothing but noise at time 1.

    x_t = √γ(t) b x_0 + √(1 - γ(t)) ε,      ε ~ N(0, I)
    γ(t) = cos²((t + s) / (1 + s) · π/2) / cos²(s / (1 + s) · π/2),   s = 0.008

The cosine schedule of Nichol and Dhariwal (https://arxiv.org/abs/2102.09672, Eq. 17) in continuous time, and the input
scaling b of Chen (https://arxiv.org/abs/2301.10972, section 3): a mask is seen through little noise long before its
details are settled, which a small b corrects. x_0 is +1 where a mask is 1 and -1 where it is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["NoiseSchedule"]

_OFFSET = 0.008


@dataclass(frozen=True)
class NoiseSchedule:
    """Which part of x_t is signal and which is noise.

    Parameters
    ----------
    input_scale
        Scale b of the mask against the noise, positive.
    """

    input_scale: float = 0.1

    def __post_init__(self) -> None:
        if not self.input_scale > 0:
            raise ValueError(f"input_scale must be positive, got {self.input_scale}")

    def signal(self, time: Tensor) -> Tensor:
        """γ(t) in [0, 1], from 1 at t = 0 to 0 at t = 1; any shape."""
        angle = (time + _OFFSET) / (1 + _OFFSET) * (math.pi / 2)
        return (angle.cos() / math.cos(_OFFSET / (1 + _OFFSET) * (math.pi / 2))).square().clamp(0, 1)

    def levels(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """√γ b, which multiplies x_0, and √(1 - γ), which multiplies ε, each of the shape of ``time``."""
        signal = self.signal(time)
        return signal.sqrt() * self.input_scale, (1 - signal).sqrt()

    def root_mean_square(self, time: Tensor) -> Tensor:
        """√E[x_t²] = √(γ b² + 1 - γ), which is the same for all masks, because x_0² = 1 at every voxel."""
        scale, noise = self.levels(time)
        return torch.hypot(scale, noise)
