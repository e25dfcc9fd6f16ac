"""Logits that are a function of a latent: with a linear decoder they are Gaussian, of known mean and covariance."""

from __future__ import annotations

import pytest
import torch

from nnunet_stochastic.distributions import LatentLogits

SHAPE = (2, 3, 4, 2)
WEIGHT = torch.randn(3 * 4 * 2, 5, generator=torch.Generator().manual_seed(0))
MEAN = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))
STD = 0.2 + torch.rand(2, 5, generator=torch.Generator().manual_seed(2))


def decode(latent: torch.Tensor) -> torch.Tensor:
    return (latent @ WEIGHT.T).view(SHAPE)


def build() -> LatentLogits:
    return LatentLogits(MEAN, STD, decode, SHAPE)


def test_samples_of_a_linear_decoder_have_its_covariance() -> None:
    count = 4000
    samples = build().rsample(count, generator=torch.Generator().manual_seed(0))
    assert samples.shape == (count, *SHAPE)
    for image in range(2):
        flat = samples[:, image].flatten(1)
        covariance = WEIGHT @ torch.diag(STD[image].square()) @ WEIGHT.T
        variance = covariance.diagonal()
        assert ((flat.mean(0) - WEIGHT @ MEAN[image]).abs() < 5.5 * (variance / count).sqrt()).all()
        error = ((variance[:, None] * variance + covariance**2) / count).sqrt()
        assert ((flat.T.cov() - covariance).abs() < 5.5 * error).all()


def test_the_deterministic_prediction_is_that_of_the_mean_latent_and_lazy() -> None:
    calls = []

    def counting(latent: torch.Tensor) -> torch.Tensor:
        calls.append(latent)
        return decode(latent)

    distribution = LatentLogits(MEAN, STD, counting, SHAPE)
    distribution.rsample(3)
    assert len(calls) == 3
    torch.testing.assert_close(distribution.mean_logits, decode(MEAN))
    assert distribution.mean_logits is distribution.mean_logits
    assert len(calls) == 4


def test_a_sample_is_a_function_of_the_noise_of_the_image_alone() -> None:
    noise = torch.randn(2, 2, 5)
    first = build().transform(torch.empty(2, 2, 0, 4, 2), noise)
    torch.testing.assert_close(first[1], decode(MEAN + STD * noise[1]))
    assert build().noise_channels == 0


def test_latents_of_another_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must both have shape \(2, M\), got \(1, 5\)"):
        LatentLogits(MEAN[:1], STD[:1], decode, SHAPE)
