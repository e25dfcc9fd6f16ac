"""DDIM on denoisers whose result is known."""

from __future__ import annotations

import pytest
import torch

from nnunet_stochastic.distributions import DenoisingLogits, NoiseSchedule

SHAPE = (2, 2, 3, 5)
CPU = torch.device("cpu")


def build(denoise, **options) -> DenoisingLogits:
    options = {"num_steps": 10, "num_mean_samples": 4} | options
    return DenoisingLogits(denoise, SHAPE, device=CPU, schedule=NoiseSchedule(), **options)


def test_a_denoiser_that_knows_the_mask_leaves_it_and_its_noise_unchanged() -> None:
    """Every x_t then is √γ b x_0 + √(1 - γ) ε with the ε that the chain started with."""
    mask = torch.randint(2, SHAPE[:1] + SHAPE[2:], generator=torch.Generator().manual_seed(0))
    clean = torch.stack([1 - 2 * mask, 2 * mask - 1], 1).float()
    seen = []

    def denoise(noisy, time):
        seen.append((noisy, time))
        return 50 * clean.expand_as(noisy)

    noise = torch.randn(3, *SHAPE)
    logits = build(denoise, num_steps=5).transform(noise, torch.empty(3, 2, 0))
    torch.testing.assert_close(logits.argmax(2), mask.expand(3, *mask.shape))
    assert [time for _, time in seen] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    for noisy, time in seen:
        scale, level = NoiseSchedule().levels(torch.tensor(time, dtype=torch.float64))
        torch.testing.assert_close(noisy, (scale * clean + level * noise).float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("num_steps", [1, 4])
def test_steps_of_a_linear_denoiser_as_a_recursion_on_numbers(num_steps) -> None:
    """With logits (0, c x_t) of the foreground's x_t, softmax to ±1 is a tanh, and every voxel is on its own."""

    def denoise(noisy, time):
        return torch.stack([torch.zeros_like(noisy[:, :, 1]), 3 * noisy[:, :, 1]], 2)

    noise = torch.randn(1, *SHAPE, dtype=torch.float64)
    logits = build(denoise, num_steps=num_steps).transform(noise, torch.empty(1, 2, 0))
    schedule, x = NoiseSchedule(), noise[0, :, 1]
    for step in range(num_steps - 1):
        (a, s), (b, r) = (
            schedule.levels(torch.tensor(1 - index / num_steps, dtype=torch.float64)) for index in (step, step + 1)
        )
        clean = torch.tanh(1.5 * x)
        x = b * clean + r * (x - a * clean) / s
    torch.testing.assert_close(logits[0, :, 1], 3 * x)


def test_samples_denoised_a_few_at_a_time_are_the_same(monkeypatch) -> None:
    sizes = []

    def denoise(noisy, time):
        sizes.append(len(noisy))
        return 3 * noisy + time

    noise = torch.randn(5, *SHAPE)
    together = build(denoise).transform(noise, torch.empty(5, 2, 0))
    monkeypatch.setattr("nnunet_stochastic.distributions.denoising._VOXELS_AT_ONCE", 2 * 2 * 15)
    apart = build(denoise).transform(noise, torch.empty(5, 2, 0))
    torch.testing.assert_close(apart, together)
    assert sizes == [5] * 10 + [2] * 20 + [1] * 10


def test_the_deterministic_prediction_is_the_mean_of_samples_that_are_always_the_same() -> None:
    def denoise(noisy, time):
        return 5 * noisy

    distribution = build(denoise, num_mean_samples=3)
    torch.manual_seed(0)
    first = distribution.mean_logits
    torch.manual_seed(1)
    torch.testing.assert_close(build(denoise, num_mean_samples=3).mean_logits, first, rtol=0, atol=0)
    noise = torch.randn((3, 1, *SHAPE[1:]), generator=torch.Generator().manual_seed(0)).expand(3, *SHAPE)
    samples = distribution.transform(noise, torch.empty(3, 2, 0))
    torch.testing.assert_close(first.softmax(1), samples.softmax(2).mean(0))
    torch.testing.assert_close(first[0], first[1])  # the noise is that of the place, not of the image in the batch


def test_a_seed_gives_the_same_samples() -> None:
    distribution = build(lambda noisy, time: noisy)
    first = distribution.rsample(2, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(distribution.rsample(2, generator=torch.Generator().manual_seed(4)), first)
    assert (first[0] != first[1]).any()
    assert "mean_logits" not in vars(distribution)


@pytest.mark.parametrize("option", ["num_steps", "num_mean_samples"])
def test_counts_below_one_are_refused(option) -> None:
    with pytest.raises(ValueError, match=f"{option} must be at least 1, got 0"):
        build(lambda noisy, time: noisy, **{option: 0})
