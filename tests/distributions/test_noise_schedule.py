"""The cosine schedule by its closed form and at its ends."""

from __future__ import annotations

import math

import pytest
import torch

from nnunet_stochastic.distributions import NoiseSchedule


def test_signal_is_the_cosine_of_nichol_and_dhariwal() -> None:
    def unnormalized(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    for time in (0.0, 0.1, 0.5, 0.9):
        signal = NoiseSchedule().signal(torch.tensor(time, dtype=torch.float64)).item()
        assert signal == pytest.approx(unnormalized(time) / unnormalized(0))
    ends = NoiseSchedule().signal(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([1.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_levels_scale_signal_and_noise(scale) -> None:
    schedule, time = NoiseSchedule(scale), torch.linspace(0, 1, 7, dtype=torch.float64)
    of_mask, of_noise = schedule.levels(time)
    torch.testing.assert_close(of_mask.square() / scale**2 + of_noise.square(), torch.ones(7, dtype=torch.float64))
    mask = (torch.rand(7, 20_000, generator=torch.Generator().manual_seed(0)) < 0.9).double() * 2 - 1
    noise = torch.randn(7, 20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noisy = of_mask[:, None] * mask + of_noise[:, None] * noise
    torch.testing.assert_close(noisy.square().mean(1).sqrt(), schedule.root_mean_square(time), rtol=0.02, atol=0)


def test_scale_must_be_positive() -> None:
    with pytest.raises(ValueError, match="input_scale must be positive, got 0"):
        NoiseSchedule(0)
