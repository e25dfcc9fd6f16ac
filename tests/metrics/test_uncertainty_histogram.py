"""The histogram against counts by hand and NumPy's quantiles, and that how the data are cut does not matter."""

import functools
import operator

import numpy as np
import pytest

from nnunet_stochastic.metrics import UncertaintyHistogram, mean_above


@pytest.fixture
def uncertainty():
    """Four decades of uncertainties, a third of them zero."""
    rng = np.random.default_rng(0)
    return np.where(rng.random((20, 30, 5)) < 1 / 3, 0, 10 ** rng.uniform(-4, 0, (20, 30, 5))).astype(np.float32)


def test_counted_by_hand():
    uncertainty = np.array([0.0, 1e-13, 0.5, 0.5001, 50.0, 1e3])
    histogram = UncertaintyHistogram.of(uncertainty, np.array([True, True, False, True, False, True]))
    filled = histogram.count > 0
    np.testing.assert_array_equal(histogram.count[filled], [2, 2, 1, 1])
    np.testing.assert_array_equal(histogram.correct_count[filled], [2, 1, 0, 1])
    np.testing.assert_allclose(histogram.uncertainty_sum[filled], [1e-13, 1.0001, 50, 1000])
    assert histogram.count[0] == 2
    assert histogram.count[-1] == 1


def test_bins_hold_values_within_one_percent():
    uncertainty = 10 ** np.random.default_rng(1).uniform(-12, 2, 20_000)
    histogram = UncertaintyHistogram.of(uncertainty, np.ones(20_000, dtype=bool))
    bins = [UncertaintyHistogram.of(value[None], np.array([True])).count.argmax() for value in uncertainty[:200]]
    means = histogram.uncertainty_sum[bins] / histogram.count[bins]
    np.testing.assert_allclose(means, uncertainty[:200], rtol=0.0091)
    assert (np.diff(np.array(bins)[np.argsort(uncertainty[:200])]) >= 0).all()


def test_sums_over_parts_and_raters_are_those_of_the_whole(uncertainty, monkeypatch):
    correct = np.random.default_rng(2).random((3, *uncertainty.shape)) < 0.7
    whole = UncertaintyHistogram.of(uncertainty, correct)
    assert whole.count.sum() == 3 * uncertainty.size
    by_rater = [UncertaintyHistogram.of(uncertainty, rater) for rater in correct]
    by_slice = [UncertaintyHistogram.of(uncertainty[i], correct[:, i]) for i in range(20)]
    monkeypatch.setattr("nnunet_stochastic.metrics.uncertainty_histogram._CHUNK", 7)
    for parts in (by_rater, by_slice, [UncertaintyHistogram.of(uncertainty, correct)]):
        pooled = functools.reduce(operator.add, parts, UncertaintyHistogram.empty())
        np.testing.assert_array_equal(pooled.count, whole.count)
        np.testing.assert_array_equal(pooled.correct_count, whole.correct_count)
        np.testing.assert_allclose(pooled.uncertainty_sum, whole.uncertainty_sum, rtol=1e-12)


@pytest.mark.parametrize("q", [0.34, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_against_numpy(uncertainty, q):
    histogram = UncertaintyHistogram.of(uncertainty, np.ones(uncertainty.shape, dtype=bool))
    assert histogram.quantile(q) == pytest.approx(np.quantile(uncertainty, q), rel=0.0091)


def test_quantiles_in_the_zeros_are_zero(uncertainty):
    histogram = UncertaintyHistogram.of(uncertainty, np.ones(uncertainty.shape, dtype=bool))
    assert histogram.quantile(0.0) == histogram.quantile(0.3) == 0
    positive = UncertaintyHistogram.of(np.array([0.2, 0.4]), np.array([True, True]))
    assert positive.quantile(0.0) == pytest.approx(0.2, rel=0.01)


@pytest.mark.parametrize(
    "values",
    [
        [0.3] * 7,
        [np.log(2)] * 1000 + [0.1],
        [0.0] * 5 + [0.3] * 90 + [0.3001, 0.7],
        [0.25, 0.25, 0.5, 0.5, 0.5, 1.0],
        [0.2, 0.4],
        [0.2, 0.2005, 0.4],
        [0.0, 0.0, 0.0],
        [0.37],
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_distinct_values_against_numpy(values, dtype):
    values = np.array(values, dtype=dtype)
    histogram = UncertaintyHistogram.of(values, np.ones(len(values), dtype=bool))
    for q in (0.0, 0.01, 0.3, 0.5, 0.77, 0.9, 0.99, 1.0):
        expected = float(np.quantile(values.astype(np.float64), q))
        assert histogram.quantile(q) == pytest.approx(expected, rel=0.0091)
        assert histogram.quantile(q) <= expected + 1e-12
    assert histogram.quantile(0.0) == values.min()
    assert histogram.quantile(1.0) == values.max()


def test_a_threshold_inside_a_plateau_is_not_above_it():
    plateau = np.full((4, 5, 6), 0.3, dtype=np.float32)
    plateau[0, 0, 0] = 0.05
    histogram = UncertaintyHistogram.of(plateau, np.ones(plateau.shape, dtype=bool))
    assert histogram.quantile(0.9) == plateau.max()
    # The score of every image was 0: no voxel lay above a threshold inside the bin.
    assert mean_above(plateau, histogram.quantile(0.9)) == pytest.approx(0.3)


def test_pooled_quantiles_are_those_of_all_voxels(uncertainty):
    parts = [UncertaintyHistogram.of(part, np.ones(part.shape, dtype=bool)) for part in uncertainty]
    pooled = functools.reduce(operator.add, parts, UncertaintyHistogram.empty())
    whole = UncertaintyHistogram.of(uncertainty, np.ones(uncertainty.shape, dtype=bool))
    assert [pooled.quantile(q) for q in (0, 0.4, 0.9, 1)] == [whole.quantile(q) for q in (0, 0.4, 0.9, 1)]
    assert whole.quantile(1.0) == uncertainty.max()


def test_constant_and_empty():
    correct = np.array([True, False])
    assert UncertaintyHistogram.of(np.array([0.3, 0.3]), correct).is_constant
    assert UncertaintyHistogram.of(np.array([0.0, 0.0]), correct).is_constant
    assert not UncertaintyHistogram.of(np.array([0.0, 0.3]), correct).is_constant
    nothing = UncertaintyHistogram.of(np.zeros((0, 2)), np.zeros((0, 2), dtype=bool))
    assert nothing.is_constant
    assert nothing.count.sum() == 0
    assert np.isnan(nothing.quantile(0.5))


@pytest.mark.parametrize(
    ("uncertainty", "correct", "message"),
    [
        ([0.1, 0.2], [1, 0], "boolean"),
        ([0.1, 0.2], [True], r"\(\*S\) or \(A, \*S\)"),
        ([0.1, -0.2], [True, False], "not negative"),
        ([0.1, np.nan], [True, False], "finite"),
        ([0.1, np.inf], [True, False], "finite"),
    ],
)
def test_bad_input(uncertainty, correct, message):
    with pytest.raises(ValueError, match=message):
        UncertaintyHistogram.of(np.array(uncertainty), np.array(correct))
    with pytest.raises(ValueError, match=r"q must be in \[0, 1\]"):
        UncertaintyHistogram.empty().quantile(1.5)
