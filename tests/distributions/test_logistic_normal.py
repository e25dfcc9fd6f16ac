"""Moments of a logistic normal against integrals in float64, closed forms and samples."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from nnunet_stochastic.distributions import logistic_normal, logistic_normal_moments

MEANS = torch.cat([torch.linspace(-60, 60, 49), torch.linspace(-12, 12, 97)]).double()
#: The rules change at 1.25, at each |mean| above 5.5 somewhere.
STDS = (0.0, 0.01, 0.3, 0.8, 1.0, 1.2499, 1.2501, 1.6, 2.0, 2.7, 4.0, 6.0, 10.0, 20.0)


def binary_entropy(x: Tensor) -> Tensor:
    """H(sigmoid(x)) in nats, from the logarithms of p and 1 - p."""
    log_p, log_q = torch.nn.functional.logsigmoid(x), torch.nn.functional.logsigmoid(-x)
    return -log_p.exp() * log_p - log_q.exp() * log_q


def integrals(mean: Tensor, std: float, num_nodes: int = 8001) -> Tensor:
    """E[p], E[p²], E[H], (3, N), by the trapezoid rule in float64; its nodes are at most 0.05 apart in the logit."""
    z = torch.linspace(-9, 9, num_nodes, dtype=torch.float64)
    weights = torch.softmax(-z.square() / 2, 0)
    x = mean[:, None] + std * z
    return torch.stack([f @ weights for f in (x.sigmoid(), x.sigmoid().square(), binary_entropy(x))])


@pytest.mark.parametrize("std", STDS)
def test_moments_are_the_integrals(std: float) -> None:
    expected = integrals(MEANS, std)
    for mean in (MEANS, MEANS.float()):
        moments = logistic_normal_moments(mean, torch.full_like(mean, std))
        for name, moment, reference in zip(("p", "p²", "H"), moments, expected, strict=True):
            assert moment.dtype == mean.dtype
            assert (moment - reference).abs().max() <= 2e-5, name


@pytest.mark.parametrize(("mean", "std"), [(0.7, 0.5), (-3.0, 3.0), (-8.0, 10.0), (25.0, 20.0)])
def test_an_adaptive_rule_agrees(mean: float, std: float) -> None:
    """An oracle of another kind, for this module's own and for the function."""

    def integral(function) -> float:
        def integrand(x: float) -> float:
            value = float(function(torch.tensor(x, dtype=torch.float64)))
            return value * math.exp(-(((x - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))

        points = [point for point in (-20, -3, 0, 3, 20) if abs(point - mean) < 12 * std]
        return quad(integrand, mean - 12 * std, mean + 12 * std, points=points, limit=200, epsabs=1e-9)[0]

    adaptive = [integral(f) for f in (torch.sigmoid, lambda x: torch.sigmoid(x) ** 2, binary_entropy)]
    assert integrals(torch.tensor([mean]).double(), std)[:, 0].tolist() == pytest.approx(adaptive, abs=1e-8)
    moments = logistic_normal_moments(torch.tensor([mean]), torch.tensor([std]))
    assert [float(moment) for moment in moments] == pytest.approx(adaptive, abs=2e-5)


def test_rare_classes_keep_their_digits() -> None:
    """Far from 0 p is e^x but for e^2x: E[p] is that of a log-normal, however small."""
    mean, std = torch.tensor([-12.0, -30.0, -50.0]), torch.tensor([0.5, 2.0, 4.0])
    expected = torch.exp(mean + std**2 / 2)
    probability, square, entropy = logistic_normal_moments(mean, std)
    torch.testing.assert_close(probability, expected, rtol=2e-4, atol=0)
    torch.testing.assert_close(square, torch.exp(2 * mean + 2 * std**2), rtol=2e-4, atol=0)
    torch.testing.assert_close(entropy, (1 - mean - std**2) * expected, rtol=2e-4, atol=0)


def test_without_variance_they_are_the_values_themselves() -> None:
    probability, square, entropy = logistic_normal_moments(MEANS, torch.zeros_like(MEANS))
    torch.testing.assert_close(probability, MEANS.sigmoid(), atol=1e-6, rtol=0)
    torch.testing.assert_close(square, MEANS.sigmoid() ** 2, atol=1e-6, rtol=0)
    torch.testing.assert_close(entropy, binary_entropy(MEANS), atol=1e-6, rtol=0)


def test_mirrored_means_exchange_p_and_its_complement() -> None:
    mean, std = torch.linspace(-9, 9, 50, dtype=torch.float64), torch.linspace(0, 8, 50, dtype=torch.float64)
    probability, square, entropy = logistic_normal_moments(mean, std)
    mirrored = logistic_normal_moments(-mean, std)
    torch.testing.assert_close(mirrored[0], 1 - probability)
    torch.testing.assert_close(mirrored[1], 1 - 2 * probability + square)
    torch.testing.assert_close(mirrored[2], entropy)
    torch.testing.assert_close(
        logistic_normal_moments(torch.zeros(3), torch.tensor([0.7, 2.0, 9.5]))[0], torch.full((3,), 0.5)
    )


def test_samples_have_these_moments() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, std, count = torch.tensor([-4.0, -1.0, 0.5, 6.0]), torch.tensor([3.0, 0.5, 2.0, 8.0]), 200_000
    p = torch.sigmoid(mean + std * torch.randn(count, 4, generator=generator)).double()
    functions = (p, p**2, torch.special.entr(p) + torch.special.entr(1 - p))
    for moment, values in zip(logistic_normal_moments(mean, std), functions, strict=True):
        assert ((values.mean(0) - moment).abs() < 5 * values.std(0) / count**0.5 + 2e-5).all()


def test_moments_are_those_of_a_probability_whatever_the_logits() -> None:
    mean = torch.cat([MEANS.float(), torch.tensor([-1e4, -200.0, 200.0, 1e4])])
    for std in (*STDS, 50.0, 200.0, 1000.0):
        probability, square, entropy = logistic_normal_moments(mean, torch.full_like(mean, std))
        assert ((probability >= 0) & (probability <= 1)).all()
        assert (square <= probability).all()
        assert (square >= probability.square() - 2e-7).all()
        entropy_of_mean = torch.special.entr(probability) + torch.special.entr(1 - probability)
        assert ((entropy >= 0) & (entropy <= entropy_of_mean + 1e-6)).all()
    # Between 0 and 1 there is nothing left: p is 1 with the probability that the logit is positive.
    torch.testing.assert_close(probability, torch.special.ndtr(mean / 1000), atol=1e-5, rtol=0)
    assert entropy.max() < 2e-3


def test_parts_are_parts_of_the_whole_and_inputs_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    mean, std = 4 * torch.randn(3, 5, 7).transpose(0, 2), 3 * torch.rand(7, 5, 3)
    before = mean.clone(), std.clone()
    whole = logistic_normal_moments(mean, std)
    assert torch.equal(mean, before[0])
    assert torch.equal(std, before[1])
    monkeypatch.setattr(logistic_normal, "_CHUNK", 11)
    for moment, part, again in zip(
        whole, logistic_normal_moments(mean[2:4], std[2:4]), logistic_normal_moments(mean, std), strict=True
    ):
        torch.testing.assert_close(moment[2:4], part)
        torch.testing.assert_close(moment, again)


def test_a_gpu_gets_the_same_moments_without_waiting_for_the_data() -> None:
    mean, std = 6 * torch.randn(500), 4 * torch.rand(500)
    selected, everywhere = (torch.full((3, 500), -1.0) for _ in range(2))
    logistic_normal._fill(list(selected), mean, std, select=True)
    logistic_normal._fill(list(everywhere), mean, std, select=False)
    torch.testing.assert_close(selected, everywhere)
    # Fake tensors have no values: a shape that depends on them is an error.
    with FakeTensorMode():
        moments = logistic_normal_moments(torch.empty(2, 3, device="cuda"), torch.empty(2, 3, device="cuda"))
    assert all(moment.shape == (2, 3) and moment.device.type == "cuda" for moment in moments)


def test_nothing_is_no_error() -> None:
    assert all(moment.shape == (0, 4) for moment in logistic_normal_moments(torch.zeros(0, 4), torch.zeros(0, 4)))


def test_half_precision_is_computed_in_float32() -> None:
    moments = logistic_normal_moments(torch.ones(4, dtype=torch.float16), torch.ones(4, dtype=torch.bfloat16))
    expected = logistic_normal_moments(torch.ones(4), torch.ones(4))
    for moment, reference in zip(moments, expected, strict=True):
        assert torch.equal(moment, reference)


def test_misuse_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(3,\) and \(2,\)"):
        logistic_normal_moments(torch.zeros(3), torch.zeros(2))
