"""Temperature and prior precision: predictive means against brute force and quadrature, and what is chosen."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit

from nnunet_stochastic.fitting import laplace_choice
from nnunet_stochastic.fitting.laplace_choice import (
    PredictiveMean,
    choose_by_marginal_likelihood,
    choose_by_nll,
    log_evidence,
)
from nnunet_stochastic.fitting.validation_points import ValidationPoints
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.posteriors.last_layer_curvature import FullCurvature

INPUTS, VOXELS = 4, 50


def make(num_logits, *, regions=False, std=False, seed=0):
    """Outcome space, points and spectrum of a random last layer."""
    space = OutcomeSpace(num_logits, regions=regions)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(VOXELS, INPUTS, generator=generator)
    inputs[:, -1] = 1
    weights = torch.randn(num_logits, INPUTS, generator=generator)
    logits = inputs @ weights.T
    p = logits.sigmoid() if regions else logits.softmax(1)
    curvature = FullCurvature(num_logits, INPUTS)
    curvature.add(inputs, p * (1 - p) if regions else p.diag_embed() - p[:, :, None] * p[:, None], torch.ones(VOXELS))
    fields = space.log_ratios(logits.T)
    if std:
        free = space.num_log_ratios
        size = free if space.scalar else free * (free + 1) // 2
        fields = torch.cat([fields, 0.2 + torch.rand(size, VOXELS, generator=generator)])
    labels = torch.randint(2 if regions else num_logits, (VOXELS, num_logits), generator=generator)
    targets = labels.float() if regions else torch.eye(num_logits)[labels[:, 0]]
    points = ValidationPoints(inputs, fields, targets, torch.full((VOXELS,), 1 / VOXELS))
    return space, points, curvature, weights


def brute_force(space, points, curvature, weights, temperature, precision, *, num_draws=40_000):
    """E[p], (C, n), by weights drawn from the dense Gaussian, and noise of each voxel."""
    rng = np.random.default_rng(0)
    size = weights.numel()
    covariance = np.linalg.inv(temperature * curvature.matrix.numpy() + precision * np.eye(size))
    draws = rng.multivariate_normal(weights.flatten().double().numpy(), covariance, size=num_draws)
    logits = np.einsum("ecf,nf->ecn", draws.reshape(num_draws, *weights.shape), points.inputs.double().numpy())
    free = space.num_log_ratios
    x = logits if space.regions else logits[:, 1:] - logits[:, :1]
    factors = points.fields[free:].double().numpy()
    if len(factors):
        z = rng.standard_normal((num_draws, free, VOXELS))
        if space.scalar:
            x = x + factors * z
        else:
            x = np.stack([x[:, 0] + factors[0] * z[:, 0], x[:, 1] + factors[1] * z[:, 0] + factors[2] * z[:, 1]], 1)
    if space.regions:
        return (1 / (1 + np.exp(-x))).mean(0)
    exponentials = np.exp(np.concatenate([np.zeros_like(x[:, :1]), x], 1))
    return (exponentials / exponentials.sum(1, keepdims=True)).mean(0)


@pytest.mark.parametrize(("num_logits", "regions"), [(2, False), (2, True), (3, False)])
@pytest.mark.parametrize("std", [False, True])
def test_predictive_mean_is_that_of_weights_drawn_from_the_dense_gaussian(monkeypatch, num_logits, regions, std):
    space, points, curvature, weights = make(num_logits, regions=regions, std=std)
    monkeypatch.setattr(laplace_choice, "_NUM_DRAWS", 20_000)
    mean = PredictiveMean(space, points, curvature.spectrum())
    found = space.all_probabilities(mean._probabilities(0.3, 0.5)).numpy()
    expected = brute_force(space, points, curvature, weights, 0.3, 0.5)
    assert np.abs(expected - space.all_probabilities(mean._probabilities(1.0, None)).numpy()).max() > 0.03
    np.testing.assert_allclose(found, expected, atol=0.012)
    targets = points.targets.numpy().T
    nll = -(targets * np.log(expected) + ((1 - targets) * np.log(1 - expected) if regions else 0)).sum(0).mean()
    assert mean.nll(0.3, 0.5) == pytest.approx(nll, abs=0.01)


def test_without_uncertainty_it_is_the_cross_entropy():
    space, points, curvature, _ = make(3)
    logits = torch.cat([torch.zeros(1, VOXELS), points.fields]).T
    expected = torch.nn.functional.cross_entropy(logits, points.targets.argmax(1)).item()
    mean = PredictiveMean(space, points, curvature.spectrum())
    assert mean.nll_of_trained_weights() == pytest.approx(expected, rel=1e-6)
    assert mean.nll(1.0, 1e8) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("num_logits", [2, 3])
def test_the_choice_is_that_with_which_true_weights_deviate(num_logits):
    """The weights that labels are drawn with are of the posterior N(W*, (τ G + δ I)^(-1)) with τ = 0.01."""
    generator = torch.Generator().manual_seed(0)
    space, size, voxels = OutcomeSpace(num_logits), (num_logits, 60), 20_000
    inputs = torch.randn(voxels, size[1], generator=generator)
    trained = 0.3 * torch.randn(size, generator=generator)
    curvature = FullCurvature(*size)
    p = (inputs @ trained.T).softmax(1)
    curvature.add(inputs, p.diag_embed() - p[:, :, None] * p[:, None], torch.ones(voxels))
    spectrum = curvature.spectrum()
    numbers = torch.randn(size, generator=generator, dtype=torch.float64)
    deviation = laplace_choice.draw_weights(spectrum, numbers, temperature=0.01, prior_precision=1e-3, regions=False)
    fields = space.log_ratios((inputs @ trained.T).T)
    true = (inputs @ (trained + deviation.float()).T).softmax(1)
    targets = torch.eye(num_logits)[torch.multinomial(true, 1, generator=generator)[:, 0]]
    mean = PredictiveMean(space, ValidationPoints(inputs, fields, targets, torch.full((voxels,), 1 / voxels)), spectrum)
    choice = choose_by_nll(mean)
    # τ G and δ I are much alike here, so it is their sum that can be known: how much a logit varies.
    contrast = torch.tensor([[-1.0, 1.0, 0.0][:num_logits]])
    variances = [
        float(spectrum.covariance_of(contrast, *values)[0].trace())
        for values in ((0.01, 1e-3), (choice.temperature, choice.prior_precision))
    ]
    assert 0.6 < variances[1] / variances[0] < 1.6
    assert not choice.at_edge
    least = mean.nll(choice.temperature, choice.prior_precision)
    assert least < mean.nll_of_trained_weights() - 0.01
    for exponent in (-0.25, 0.25):
        assert least <= mean.nll(choice.temperature * 10**exponent, choice.prior_precision) * (1 + 1e-5)
        assert least <= mean.nll(choice.temperature, choice.prior_precision * 10**exponent) * (1 + 1e-5)


@pytest.mark.parametrize("disagreement", [0.05, 0.2, 0.35])
def test_raters_who_disagree_are_taken_for_uncertain_weights(disagreement):
    """A network of one logit m, certain of a label that each rater denies with probability q: E[σ(m + √v z)] = 1 - q.

    By the label itself its certainty is right, σ(m), and no spread of the weights is best: whoever trains on labels and
    fits against raters has an epistemic uncertainty that is theirs.
    """
    logit, voxels = 4.0, 100
    space = OutcomeSpace(2)
    inputs, fields = torch.ones(voxels, 1), torch.full((1, voxels), logit)
    certain = 1 / (1 + math.exp(-logit))
    curvature = FullCurvature(2, 1)
    half = certain * (1 - certain) * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    curvature.add(inputs, half.expand(voxels, 2, 2), torch.ones(voxels))
    spectrum = curvature.spectrum()

    def chosen_variance(share):
        targets = torch.tensor([1 - share, share]).expand(voxels, 2)
        points = ValidationPoints(inputs, fields, targets, torch.full((voxels,), 1 / voxels))
        choice = choose_by_nll(PredictiveMean(space, points, spectrum))
        return 2 / (2 * choice.temperature * voxels * certain * (1 - certain) + choice.prior_precision)

    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = weights / weights.sum()
    expected = brentq(lambda v: (weights * expit(logit + math.sqrt(v) * nodes)).sum() - (1 - disagreement), 1e-9, 1e4)
    # Steps are a quarter of a decade.
    assert abs(math.log10(chosen_variance(1 - disagreement) / expected)) < 0.13
    assert chosen_variance(certain) < 1e-3


def test_where_no_uncertainty_is_best_the_choice_is_said_to_be_at_the_edge():
    space, points, curvature, _ = make(2)
    certain = (points.fields[0] > 0).long()
    sure = ValidationPoints(points.inputs, points.fields, torch.eye(2)[certain], points.weights)
    choice = choose_by_nll(PredictiveMean(space, sure, curvature.spectrum()))
    assert choice.at_edge
    assert choice.prior_precision == 1e8


def test_log_evidence_is_that_of_the_dense_gaussian():
    """Laplace's ln ∫ exp(-½ (W - W*)ᵀ τ G (W - W*)) N(W; 0, 1/δ) dW at W*, apart from what has no δ."""
    _, _, curvature, weights = make(2)
    squared, size = float(weights.double().square().sum()), weights.numel()
    identity = torch.eye(size, dtype=torch.float64)
    values = [
        -0.5 * precision * squared
        + 0.5 * size * math.log(precision)
        - 0.5 * float((0.3 * curvature.matrix + precision * identity).logdet())
        for precision in (0.1, 2.0)
    ]
    found = [log_evidence(curvature.spectrum(), squared, 0.3, precision) for precision in (0.1, 2.0)]
    assert found == pytest.approx(values)


def test_marginal_likelihood_chooses_the_fixed_point_of_mackay():
    """δ |W*|² = Σ τ λ / (τ λ + δ), the number of weights that the data determine."""
    _, _, curvature, weights = make(3)
    spectrum, squared = curvature.spectrum(), float(weights.double().square().sum())
    choice = choose_by_marginal_likelihood(spectrum, squared, 0.3)
    scaled = 0.3 * spectrum.eigenvalues
    determined = float((scaled / (scaled + choice.prior_precision)).sum())
    assert choice.prior_precision * squared == pytest.approx(determined, rel=1e-3)
    assert not choice.at_edge
    assert choice.temperature == 0.3
