"""Moments of a logistic normal against quadrature in float64, closed forms and samples."""

from __future__ import annotations

import math

import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from scipy.integrate import quad

from nnunet_stochastic.distributions import logistic_normal_moments

MEANS = torch.tensor([-25.0, -8.0, -3.0, -0.7, 0.0, 0.2, 1.5, 4.0, 12.0], dtype=torch.float64)


def binary_entropy(x: float) -> float:
    """H(sigmoid(x)) in nats, from the logarithms of p and 1 - p."""
    log_p, log_q = -math.log1p(math.exp(-x)), -math.log1p(math.exp(x))
    return -math.exp(log_p) * log_p - math.exp(log_q) * log_q


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_quadrature(mean: float, std: float) -> list[float]:
    """E[p], E[p²], E[H] by SciPy's adaptive rule; around 0 the integrands are steep."""

    def integral(function) -> float:
        def integrand(x: float) -> float:
            return function(x) * math.exp(-(((x - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))

        points = [point for point in (-20, -3, 0, 3, 20) if abs(point - mean) < 12 * std]
        return quad(integrand, mean - 12 * std, mean + 12 * std, points=points, limit=500, epsabs=1e-12)[0]

    return [integral(sigmoid), integral(lambda x: sigmoid(x) ** 2), integral(binary_entropy)]


@pytest.mark.parametrize(
    ("std", "tolerances"),
    [
        (0.1, (4e-8, 4e-8, 4e-8)),
        (1.0, (4e-8, 4e-8, 4e-8)),
        (3.0, (4e-8, 2e-7, 1e-7)),
        (6.0, (1e-4, 3e-4, 3e-4)),
        (10.0, (2e-3, 4.1e-3, 5.5e-3)),
    ],
)
def test_moments_are_the_integrals(std: float, tolerances: tuple[float, ...]) -> None:
    expected = torch.tensor([by_quadrature(mean, std) for mean in MEANS.tolist()], dtype=torch.float64).T
    moments = logistic_normal_moments(MEANS, torch.full_like(MEANS, std**2))
    rounded = logistic_normal_moments(MEANS.float(), torch.full_like(MEANS, std**2).float())
    for moment, single, reference, tolerance in zip(moments, rounded, expected, tolerances, strict=True):
        assert (moment - reference).abs().max() <= tolerance
        assert single.dtype == torch.float32
        assert (single - reference).abs().max() <= tolerance + 4e-7


def test_a_hundred_nodes_are_exact_for_a_standard_deviation_of_ten() -> None:
    moments = logistic_normal_moments(MEANS[1:-1], torch.full_like(MEANS[1:-1], 100), num_nodes=201)
    for mean, *values in zip(MEANS[1:-1].tolist(), *moments, strict=True):
        assert values == pytest.approx(by_quadrature(mean, 10.0), abs=5e-8)


def test_gauss_hermite_agrees() -> None:
    nodes, weights = (torch.from_numpy(array) for array in hermegauss(100))
    x = MEANS[:, None] + 1.5 * nodes
    expected = (torch.sigmoid(x) * weights).sum(1) / weights.sum()
    torch.testing.assert_close(
        logistic_normal_moments(MEANS, torch.full_like(MEANS, 2.25))[0], expected, rtol=0, atol=4e-8
    )


@pytest.mark.parametrize("num_nodes", [31, 32])
def test_without_variance_they_are_the_values_themselves(num_nodes: int) -> None:
    probability, square, entropy = logistic_normal_moments(MEANS, torch.zeros_like(MEANS), num_nodes=num_nodes)
    torch.testing.assert_close(probability, MEANS.sigmoid())
    torch.testing.assert_close(square, MEANS.sigmoid() ** 2)
    torch.testing.assert_close(entropy, torch.tensor([binary_entropy(mean) for mean in MEANS.tolist()]).double())


def test_mirrored_means_exchange_p_and_its_complement() -> None:
    mean, variance = torch.linspace(-9, 9, 50, dtype=torch.float64), torch.linspace(0, 30, 50, dtype=torch.float64)
    probability, square, entropy = logistic_normal_moments(mean, variance)
    mirrored = logistic_normal_moments(-mean, variance)
    torch.testing.assert_close(mirrored[0], 1 - probability)
    torch.testing.assert_close(mirrored[1], 1 - 2 * probability + square)
    torch.testing.assert_close(mirrored[2], entropy)
    torch.testing.assert_close(
        logistic_normal_moments(torch.zeros(3), torch.tensor([0.5, 4.0, 90.0]))[0], torch.full((3,), 0.5)
    )


def test_samples_have_these_moments() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, std, count = torch.tensor([-4.0, -1.0, 0.5, 6.0]), torch.tensor([3.0, 0.5, 2.0, 8.0]), 200_000
    p = torch.sigmoid(mean + std * torch.randn(count, 4, generator=generator)).double()
    functions = (p, p**2, torch.special.entr(p) + torch.special.entr(1 - p))
    for moment, values in zip(logistic_normal_moments(mean, std**2), functions, strict=True):
        assert ((values.mean(0) - moment).abs() < 5 * values.std(0) / count**0.5 + 2e-3).all()


def test_extreme_logits_keep_the_moments_in_their_ranges() -> None:
    mean = torch.tensor([-1e4, -200.0, -60.0, 60.0, 200.0, 1e4]).repeat(3)
    variance = torch.tensor([0.0, 1.0, 300.0]).repeat_interleave(6)
    probability, square, entropy = logistic_normal_moments(mean, variance)
    expected = (mean > 0).float()
    torch.testing.assert_close(probability, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(square, expected, rtol=0, atol=1e-3)
    assert ((probability <= 1) & (square <= 1) & (entropy >= 0) & (entropy < 1e-2)).all()


def test_parts_are_parts_of_the_whole_and_inputs_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    mean, variance = torch.randn(3, 5, 7).transpose(0, 2), 4 * torch.rand(7, 5, 3)
    before = mean.clone(), variance.clone()
    whole = logistic_normal_moments(mean, variance)
    assert torch.equal(mean, before[0])
    assert torch.equal(variance, before[1])
    monkeypatch.setattr("nnunet_stochastic.distributions.logistic_normal._CHUNK", 11)
    for moment, part, again in zip(
        whole, logistic_normal_moments(mean[2:4], variance[2:4]), logistic_normal_moments(mean, variance), strict=True
    ):
        torch.testing.assert_close(moment[2:4], part)
        torch.testing.assert_close(moment, again)


def test_half_precision_is_computed_in_float32() -> None:
    moments = logistic_normal_moments(torch.ones(4, dtype=torch.float16), torch.ones(4, dtype=torch.bfloat16))
    expected = logistic_normal_moments(torch.ones(4), torch.ones(4))
    for moment, reference in zip(moments, expected, strict=True):
        assert torch.equal(moment, reference)


def test_misuse_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(3,\) and \(2,\)"):
        logistic_normal_moments(torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match="num_nodes must be at least 2, got 1"):
        logistic_normal_moments(torch.zeros(3), torch.zeros(3), num_nodes=1)
