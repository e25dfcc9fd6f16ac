"""CRPS against numerical integration, the pairwise form and torchmetrics."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad, trapezoid

from nnunet_stochastic.metrics import crps_gaussian, crps_samples


@pytest.mark.parametrize(
    ("samples", "observation", "expected"),
    [
        ([2.0], 5.0, 3.0),  # one sample: the absolute error
        ([1.0, 3.0], 2.0, 1 - 0.5),  # ½ E|X - X'| = ½ (0 + 2 + 2 + 0)/4
        ([1.0, 3.0], 7.0, 5 - 0.5),
        ([0.0, 1.0, 5.0], 1.0, 5 / 3 - 20 / 18),
        ([4.0, 4.0], 4.0, 0.0),
    ],
)
def test_literal_values(samples, observation, expected):
    assert crps_samples(np.array(samples), observation) == pytest.approx(expected)


def test_samples_against_pairs_and_the_integral():
    samples = np.random.default_rng(0).normal(10, 3, 16)
    pairs = np.abs(samples[:, None] - samples).mean()
    score = crps_samples(samples, 12.5)
    assert score == pytest.approx(np.abs(samples - 12.5).mean() - pairs / 2)
    steps = np.linspace(-20, 40, 600_001)
    below = np.searchsorted(np.sort(samples), steps, side="right") / 16
    assert score == pytest.approx(trapezoid(np.square(below - (steps >= 12.5)), steps), abs=1e-3)
    assert crps_samples(samples + 100, 112.5) == pytest.approx(score)
    assert crps_samples(samples / 1000, 0.0125) == pytest.approx(score / 1000)


def test_samples_against_torchmetrics():
    torch = pytest.importorskip("torch")
    regression = pytest.importorskip("torchmetrics.regression")
    samples, observed = np.random.default_rng(1).normal(size=(5, 20)), np.linspace(-1, 1, 5)
    expected = regression.ContinuousRankedProbabilityScore()(torch.as_tensor(samples), torch.as_tensor(observed))
    scores = [crps_samples(*pair) for pair in zip(samples, observed, strict=True)]
    assert np.mean(scores) == pytest.approx(float(expected))


@pytest.mark.parametrize("point", [10.0, 11.3, 4.0, 30.0])
@pytest.mark.parametrize("half_width", [3.0, 1.5, np.inf])
def test_gaussian_against_the_integral(point, half_width):
    normal = stats.norm(10, 2)
    low, high = 10 - min(half_width, 20) * 2, 10 + min(half_width, 20) * 2
    kink = float(np.clip(point, low, high))
    expected = quad(lambda y: normal.cdf(y) ** 2, low, kink)[0] + quad(lambda y: normal.sf(y) ** 2, kink, high)[0]
    assert crps_gaussian(point, 10.0, 2.0, half_width=half_width) == pytest.approx(expected, rel=1e-8)


def test_gaussian_is_the_limit_of_many_samples():
    samples = stats.norm(10, 2).ppf((np.arange(4000) + 0.5) / 4000)
    assert crps_gaussian(11.0, 10.0, 2.0, half_width=np.inf) == pytest.approx(crps_samples(samples, 11.0), rel=1e-3)
    assert crps_gaussian(10.0, 10.0, 2.0, half_width=np.inf) == pytest.approx(2 * (np.sqrt(2) - 1) / np.sqrt(np.pi))


def test_the_cut_bounds_the_score_of_far_points_but_not_of_a_point_mass():
    assert crps_gaussian(16.0, 10.0, 2.0) == crps_gaussian(1e6, 10.0, 2.0) > crps_gaussian(15.0, 10.0, 2.0)
    assert crps_gaussian(13.0, 10.0, 0.0) == 3


def test_nan_and_bad_input():
    assert np.isnan(crps_samples(np.array([1.0, np.nan]), 1.0))
    assert np.isnan(crps_samples(np.array([1.0, 2.0]), np.nan))
    assert np.isnan([crps_gaussian(np.nan, 1.0, 1.0), crps_gaussian(1.0, np.nan, 0.0)]).all()
    with pytest.raises(ValueError, match="at least one"):
        crps_samples(np.zeros(0), 1.0)
    with pytest.raises(ValueError, match="negative"):
        crps_gaussian(1.0, 1.0, -1.0)
    with pytest.raises(ValueError, match="half_width"):
        crps_gaussian(1.0, 1.0, 1.0, half_width=0)
