"""Numbers of replicates from weights: each equals the number of the cases that are written out as often as drawn."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from nnunet_stochastic import metrics

NUM_CASES = 9


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def weights(rng):
    """Replicates, among them one of two cases, one of a single case and one of none."""
    drawn = rng.multinomial(NUM_CASES, [1 / NUM_CASES] * NUM_CASES, size=40)
    drawn[0], drawn[1], drawn[2] = 0, 0, 0
    drawn[0, [2, 5]] = 4, 5
    drawn[1, 3] = 7
    return drawn


def of_copies(number, weights, *values):
    """The number of each replicate, of the cases themselves."""
    found = []
    for drawn in weights:
        copies = [np.repeat(each, drawn, axis=0) for each in values]
        found.append(number(*copies))
    return np.array(found)


@pytest.mark.parametrize("ties", [False, True])
def test_areas_under_risk_coverage_curves(rng, weights, ties):
    risk, confidence = rng.random(NUM_CASES), rng.random(NUM_CASES)
    if ties:
        risk, confidence = np.round(risk, 1), rng.integers(0, 3, NUM_CASES).astype(float)
    risk[4] = np.nan
    found = metrics.risk_coverage_bootstrap(risk, confidence, weights)
    for values, number in zip(found, (metrics.aurc, metrics.excess_aurc, metrics.augrc), strict=True):
        expected = of_copies(number, weights, risk, confidence)
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12)
        assert np.isfinite(expected).sum() >= 38
    ones = metrics.risk_coverage_bootstrap(risk, confidence, np.ones((1, NUM_CASES), int))
    assert ones.aurc[0] == pytest.approx(metrics.aurc(risk, confidence))
    nothing = metrics.risk_coverage_bootstrap(np.full(NUM_CASES, np.nan), confidence, weights)
    assert all(np.isnan(values).all() for values in nothing)


def test_failure_auroc(rng, weights):
    dice, uncertainty = np.linspace(0.5, 0.95, NUM_CASES), rng.integers(0, 4, NUM_CASES).astype(float)
    dice[6] = np.nan
    found = metrics.failure_auroc_bootstrap(dice, uncertainty, weights)
    expected = of_copies(metrics.failure_auroc, weights, dice, uncertainty)
    np.testing.assert_allclose(found, expected)
    assert np.isnan(found[1])  # of one case
    assert 30 < np.isfinite(found).sum() < 40


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlation(rng, weights, ties):
    one = rng.random(NUM_CASES)
    other = one + rng.normal(0, 0.5, NUM_CASES)
    if ties:
        one, other = np.round(2 * one), np.round(2 * other)
    found = metrics.rank_correlation_bootstrap(one, other, weights)
    expected = of_copies(metrics.rank_correlation, weights, one, other)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert np.isnan(found[1:3]).all()
    assert metrics.rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert metrics.rank_correlation(np.arange(3.0), np.arange(3.0) ** 3) == pytest.approx(1)
    assert np.isnan(metrics.rank_correlation(np.ones(3), np.arange(3.0)))
    with pytest.raises(ValueError, match="NaN"):
        metrics.rank_correlation(np.array([np.nan, 1]), np.arange(2.0))


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_calibration_errors(rng, weights, norm):
    count = rng.integers(0, 6, (NUM_CASES, 5)) * rng.integers(0, 2, (NUM_CASES, 5))
    bins = np.stack([count, count * rng.random(count.shape), rng.binomial(count, 0.6)], axis=1).astype(float)
    found = metrics.calibration_errors_bootstrap(bins, weights, norm=norm)

    def pooled(copies):
        count, confidence, correct = copies.sum(axis=0)
        return metrics.ReliabilityBins(count.astype(int), confidence, correct.astype(int))

    def expected_error(copies):
        return metrics.expected_calibration_error(pooled(copies), norm=norm)

    numbers = (
        lambda copies: metrics.average_calibration_error(pooled(copies)),
        expected_error,
        lambda copies: metrics.maximum_calibration_error(pooled(copies)),
    )
    for values, number in zip(found, numbers, strict=True):
        np.testing.assert_allclose(values, of_copies(number, weights, bins), rtol=0, atol=1e-12)
    assert np.isnan(found.maximum[2])


def test_means_and_medians(rng, weights):
    values = rng.normal(size=NUM_CASES)
    values[[1, 7]] = np.nan, np.inf
    known = values[np.isfinite(values)]
    of_known = weights[:, np.isfinite(values)]
    for found, number in (
        (metrics.weighted_mean(values, weights), lambda copies: copies.mean() if copies.size else np.nan),
        (metrics.weighted_median(values, weights), lambda copies: np.median(copies) if copies.size else np.nan),
    ):
        np.testing.assert_allclose(found, of_copies(number, of_known, known))
    assert np.isnan(metrics.weighted_median(np.full(NUM_CASES, np.nan), weights)).all()


def test_interval_of_replicates():
    replicates = np.concatenate([np.arange(101.0), [np.nan, np.nan]])
    assert metrics.percentile_interval(replicates) == pytest.approx((2.5, 97.5))
    for without in (np.full(9, 0.1) + 1e-17, np.full(9, np.nan), np.zeros(0), np.array([0.3])):
        assert np.isnan(metrics.percentile_interval(without)).all()
