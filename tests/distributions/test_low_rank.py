"""LowRank against torch's own distribution of the same name."""

from __future__ import annotations

import torch
from torch.distributions import LowRankMultivariateNormal

from nnunet_stochastic.distributions import LowRankGaussian


def test_same_law_as_torch() -> None:
    generator = torch.Generator().manual_seed(2)
    mean = torch.randn(1, 2, 3, 2, generator=generator, dtype=torch.float64)
    variance = 0.1 + torch.rand(1, 2, 3, 2, generator=generator, dtype=torch.float64)
    factor = torch.randn(1, 2, 3, 3, 2, generator=generator, dtype=torch.float64)
    oracle = LowRankMultivariateNormal(mean.flatten(), factor[0].movedim(1, -1).reshape(-1, 3), variance.flatten())
    samples = LowRankGaussian(mean, variance, factor).rsample(50_000, generator=generator).flatten(1)
    expected = oracle.covariance_matrix
    error = ((expected.diagonal()[:, None] * expected.diagonal() + expected**2) / len(samples)).sqrt()
    assert ((samples.T.cov() - expected).abs() < 5.5 * error).all()
    # -2 log p(η) is, up to constants, the squared Mahalanobis distance: chi-squared with as many degrees as logits.
    distance = -2 * (oracle.log_prob(samples) - oracle.log_prob(oracle.mean))
    degrees = samples.shape[1]
    assert abs(distance.mean() - degrees) < 5.5 * (2 * degrees / len(samples)) ** 0.5
    assert abs(distance.var() / (2 * degrees) - 1) < 0.1
