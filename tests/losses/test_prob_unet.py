"""The divergence of two Gaussians against torch's, and the weighted sum."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from nnunet_stochastic.losses import cross_entropy_loss, gaussian_kl, prob_unet_loss
from nnunet_stochastic.targets import encode_target


def gaussians() -> list[torch.Tensor]:
    return [torch.randn(4, 6), 0.1 + torch.rand(4, 6), torch.randn(4, 6), 0.1 + torch.rand(4, 6)]


def test_divergence_is_torchs() -> None:
    mean, std, other_mean, other_std = gaussians()
    expected = kl_divergence(Independent(Normal(mean, std), 1), Independent(Normal(other_mean, other_std), 1))
    torch.testing.assert_close(gaussian_kl(mean, std, other_mean, other_std), expected)
    torch.testing.assert_close(gaussian_kl(mean, std, mean, std), torch.zeros(4))


def test_loss_is_cross_entropy_and_beta_times_the_mean_divergence() -> None:
    names = ("posterior_mean", "posterior_std", "prior_mean", "prior_std")
    outputs = dict(zip(names, gaussians(), strict=True)) | {"logits": torch.randn(4, 2, 5)}
    target = encode_target(torch.randint(2, (4, 1, 5)), 2)
    reconstruction = cross_entropy_loss(outputs["logits"], target)
    torch.testing.assert_close(prob_unet_loss(outputs, target, beta=0), reconstruction)
    divergence = gaussian_kl(*(outputs[name] for name in names)).mean()
    torch.testing.assert_close(prob_unet_loss(outputs, target, beta=0.3), reconstruction + 0.3 * divergence)
    with pytest.raises(ValueError, match="beta must be at least 0, got -1"):
        prob_unet_loss(outputs, target, beta=-1)
