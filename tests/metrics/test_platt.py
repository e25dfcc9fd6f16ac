"""Platt scaling against the fit on raw values, known parameters, and its behaviour at the edges."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from nnunet_stochastic.metrics import (
    PlattScaling,
    UncertaintyHistogram,
    average_calibration_error,
    reliability_bins,
)


def _raw_fit(uncertainty, correct):
    """(a, b) on every single voxel, by a general minimiser of the cross-entropy with Platt's targets."""
    score, spread = -uncertainty.astype(np.float64), uncertainty.std()
    num_correct, num_wrong = correct.sum(), (~correct).sum()
    target = np.where(correct, (num_correct + 1) / (num_correct + 2), 1 / (num_wrong + 2))

    def cross_entropy(parameters):
        exponent = parameters[0] * score / spread + parameters[1]
        residual = target - expit(-exponent)
        value = np.mean(np.logaddexp(0, exponent) - (1 - target) * exponent)
        return value, np.array([np.mean(residual * score / spread), np.mean(residual)])

    a, b = minimize(cross_entropy, [0, 0], jac=True, method="BFGS", options={"gtol": 1e-9}).x
    return a / spread, b


@pytest.mark.parametrize("scale", [1e-6, 0.05, 0.69])
def test_against_the_fit_on_raw_values(scale):
    rng = np.random.default_rng(0)
    uncertainty = (rng.beta(0.1, 2, 30_000) * scale).astype(np.float32)
    correct = rng.random(uncertainty.size) < expit(3 - 4 * uncertainty / scale)
    platt = PlattScaling.fit(UncertaintyHistogram.of(uncertainty, correct))
    a, b = _raw_fit(uncertainty, correct)
    assert platt.a == pytest.approx(a, rel=2e-4)
    assert platt.b == pytest.approx(b, rel=2e-4)


def test_known_parameters_are_found_and_the_confidence_is_calibrated():
    rng = np.random.default_rng(1)
    uncertainty = rng.uniform(0, 0.69, 400_000)
    truth = PlattScaling(a=-6.0, b=-2.5)
    correct = rng.random(uncertainty.size) < truth.confidence(uncertainty)
    platt = PlattScaling.fit(UncertaintyHistogram.of(uncertainty, correct))
    assert (platt.a, platt.b) == pytest.approx((-6, -2.5), rel=0.02)
    error = average_calibration_error(reliability_bins(platt.confidence(uncertainty), correct, num_bins=20))
    assert error < 0.01


def test_confidence_is_platts_sigmoid():
    uncertainty = np.array([[0.0, 0.1], [0.5, 2.0]], dtype=np.float32)
    confidence = PlattScaling(a=-3.0, b=-1.0).confidence(uncertainty)
    assert confidence.dtype == np.float32
    np.testing.assert_allclose(confidence, 1 / (1 + np.exp(3 * uncertainty - 1)), rtol=1e-6)
    assert (np.diff(confidence.ravel()) < 0).all()


def test_raters_and_repeats_count():
    rng = np.random.default_rng(2)
    uncertainty = rng.random(2000)
    raters = rng.random((3, 2000)) < 1 - uncertainty / 2
    together = PlattScaling.fit(UncertaintyHistogram.of(uncertainty, raters))
    repeated = PlattScaling.fit(UncertaintyHistogram.of(np.tile(uncertainty, 3), raters.ravel()))
    assert (together.a, together.b) == pytest.approx((repeated.a, repeated.b), rel=1e-8)


@pytest.mark.parametrize("repeats", [1, 10**8])
def test_separable_data_stay_finite(repeats):
    uncertainty = np.linspace(0, 1, 1001)
    histogram = UncertaintyHistogram.of(uncertainty, uncertainty < 0.5)
    histogram = replace(
        histogram,
        count=histogram.count * repeats,
        correct_count=histogram.correct_count * repeats,
        uncertainty_sum=histogram.uncertainty_sum * repeats,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        platt = PlattScaling.fit(histogram)
    assert np.isfinite([platt.a, platt.b]).all()
    assert platt.b / platt.a == pytest.approx(0.5, abs=0.01)  # where the confidence is ½
    np.testing.assert_allclose(platt.confidence(np.array([0.0, 1.0])), [1, 0], atol=1e-3)


@pytest.mark.parametrize("seed", [*range(20), 169, 379])  # of the last two a line search fails: steps are rounding
def test_counts_that_hardly_overlap_are_fitted_without_a_warning(seed):
    """At the optimum the residuals of target and confidence, and their product with u, sum to 0."""
    rng = np.random.default_rng(seed)
    bins = np.unique(rng.integers(0, 65, rng.integers(2, 40)) / 64)
    count = np.ceil(10 ** rng.uniform(0, rng.uniform(0, 8), len(bins))).astype(int)
    correct = rng.binomial(count, expit(-(bins - rng.uniform(0, 1)) * 10 ** rng.uniform(0, 3)))
    if len(bins) < 2:
        return
    one = UncertaintyHistogram.of(bins, np.ones(len(bins), dtype=bool))
    filled = np.flatnonzero(one.count)
    histogram = replace(
        one,
        count=np.zeros_like(one.count),
        correct_count=np.zeros_like(one.count),
        uncertainty_sum=np.zeros_like(one.uncertainty_sum),
    )
    mean = one.uncertainty_sum[filled] / one.count[filled]
    place = np.array([np.argmin(np.abs(mean - value)) for value in bins])
    np.add.at(histogram.count, filled[place], count)
    np.add.at(histogram.correct_count, filled[place], correct)
    np.add.at(histogram.uncertainty_sum, filled[place], count * bins)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        platt = PlattScaling.fit(histogram)
    wrong = count - correct
    target = (correct * (correct.sum() + 1) / (correct.sum() + 2) + wrong / (wrong.sum() + 2)) / count.sum()
    uncertainty = (histogram.uncertainty_sum[filled] / histogram.count[filled])[place]
    residual = target - count / count.sum() * platt.confidence(uncertainty)
    assert residual.sum() == pytest.approx(0, abs=1e-8)
    assert residual @ uncertainty == pytest.approx(0, abs=1e-8)


def test_all_correct_is_platts_target_everywhere():
    uncertainty = np.linspace(0, 1, 98)
    platt = PlattScaling.fit(UncertaintyHistogram.of(uncertainty, np.ones(98, dtype=bool)))
    np.testing.assert_allclose(platt.confidence(uncertainty), 99 / 100)


def test_constant_and_empty_uncertainties_are_refused():
    correct = np.array([True, False, True])
    with pytest.raises(ValueError, match="got 0 in all voxels"):
        PlattScaling.fit(UncertaintyHistogram.of(np.zeros(3), correct))
    with pytest.raises(ValueError, match=r"got 0\.25 in all voxels"):
        PlattScaling.fit(UncertaintyHistogram.of(np.full(3, 0.25), correct))
    with pytest.raises(ValueError, match="holds none"):
        PlattScaling.fit(UncertaintyHistogram.empty())
