"""SSN's loss against the exact likelihood and against a naive sum."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from nnunet_stochastic.distributions import DiagonalGaussian, LowRankGaussian, PointMass
from nnunet_stochastic.losses import log_mean_exp_loss
from nnunet_stochastic.targets import Target, encode_target


def encode(labels: torch.Tensor, classes: int, **options) -> Target:
    return encode_target(labels[:, None], classes, **options)


def test_of_a_point_mass_is_cross_entropy() -> None:
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    torch.testing.assert_close(
        log_mean_exp_loss(PointMass(logits), encode(target, 3), 4), cross_entropy(logits, target)
    )


def test_ignored_voxels_count_for_nothing() -> None:
    logits, target = torch.randn(1, 3, 6), torch.randint(3, (1, 6))
    target[:, 4:] = 9
    expected = cross_entropy(logits[..., :4], target[:, :4])
    torch.testing.assert_close(log_mean_exp_loss(PointMass(logits), encode(target, 3, ignore_label=9), 2), expected)
    nothing = encode(torch.full((1, 6), 9), 3, ignore_label=9)
    assert log_mean_exp_loss(PointMass(logits), nothing, 2).item() == 0


def test_regions_are_independent_binary_problems() -> None:
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(2, (2, 3, 4, 5)).float()
    expected = 3 * binary_cross_entropy_with_logits(logits, target)
    encoded = encode_target(target, 3, regions=True)
    torch.testing.assert_close(log_mean_exp_loss(PointMass(logits), encoded, 2, regions=True), expected)


def test_naive_sum_of_likelihoods() -> None:
    mean, target = torch.randn(1, 2, 3, dtype=torch.float64), torch.tensor([[0, 1, 1]])
    distribution = DiagonalGaussian(mean, torch.full_like(mean, 0.5))
    torch.manual_seed(0)
    loss = log_mean_exp_loss(distribution, encode(target, 2), 6)
    torch.manual_seed(0)
    probabilities = distribution.rsample(6).softmax(2)[:, 0]
    likelihood = sum(math.prod(p[label, n].item() for n, label in enumerate(target[0])) for p in probabilities) / 6
    assert loss.item() == pytest.approx(-math.log(likelihood) / 3)


def test_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(2, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    factor = torch.randn(2, 2, 4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randint(2, (2, 3), generator=generator)

    def loss(m: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        return log_mean_exp_loss(LowRankGaussian(m, torch.ones_like(m), p), encode(target, 2), 3)

    assert gradcheck(loss, (mean, factor))


def test_needs_a_sample() -> None:
    with pytest.raises(ValueError, match="num_samples"):
        log_mean_exp_loss(PointMass(torch.zeros(1, 2, 3)), encode(torch.zeros(1, 3), 2), 0)
