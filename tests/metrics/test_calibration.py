"""Calibration errors against hand-counted bins, scikit-learn's calibration curve, and pooling over cases."""

import functools
import operator

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from nnunet_stochastic.metrics import (
    average_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
    predicted_class_confidence,
    predicted_event_confidence,
    reliability_bins,
    reliability_curve,
)


def test_counted_by_hand():
    confidence = np.array([0.1, 0.3, 0.4, 0.9, 0.9, 1.0])
    correct = np.array([False, True, False, True, True, False])
    bins = reliability_bins(confidence, correct, num_bins=4)
    np.testing.assert_array_equal(bins.count, [1, 2, 0, 3])
    np.testing.assert_allclose(bins.confidence_sum, [0.1, 0.7, 0.0, 2.8])
    np.testing.assert_array_equal(bins.correct_sum, [0, 1, 0, 2])
    assert expected_calibration_error(bins) == pytest.approx((0.1 + 0.3 + 0.8) / 6)
    assert maximum_calibration_error(bins) == pytest.approx(0.8 / 3)
    assert average_calibration_error(bins) == pytest.approx((0.1 + 0.3 / 2 + 0.8 / 3) / 3)


def test_bins_are_closed_on_the_right_and_zero_is_in_the_first():
    bins = reliability_bins(np.array([0.0, 0.25, 0.5, 0.75, 1.0]), np.zeros(5, dtype=bool), num_bins=4)
    np.testing.assert_array_equal(bins.count, [2, 1, 1, 1])


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    confidence = rng.random(1000)
    correct = rng.random(1000) < confidence**2
    curve = reliability_curve(reliability_bins(confidence, correct))
    accuracy, mean_confidence = calibration_curve(correct, confidence, n_bins=15, strategy="uniform")
    np.testing.assert_allclose(curve.accuracy, accuracy)
    np.testing.assert_allclose(curve.confidence, mean_confidence)
    bins = reliability_bins(confidence, correct)
    gap = np.abs(accuracy - mean_confidence)
    assert expected_calibration_error(bins) == pytest.approx(np.average(gap, weights=curve.count))
    assert maximum_calibration_error(bins) == pytest.approx(gap.max())
    assert average_calibration_error(bins) == pytest.approx(gap.mean())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_foreground_probability_against_torchmetrics(dtype):
    torch = pytest.importorskip("torch")
    classification = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(3)
    probability = rng.beta(0.3, 0.8, 3000).astype(dtype)
    # What saturated networks give, and values on edges of bins: 1 has a bin of its own there.
    probability[:60], probability[60:90], probability[90:120] = 1, 0, np.arange(30, dtype=dtype) / 50
    target = rng.random(3000) < probability**1.5
    target[:20] = False
    bins = reliability_bins(probability, target, num_bins=50, closed="left")
    assert bins.count[50] == np.sum(probability == 1)
    given = torch.from_numpy(probability), torch.from_numpy(target).long()
    for norm, found in (
        ("l1", expected_calibration_error(bins)),
        ("l2", expected_calibration_error(bins, norm="l2")),
        ("max", maximum_calibration_error(bins)),
    ):
        oracle = classification.binary_calibration_error(*given, n_bins=50, norm=norm)
        assert found == pytest.approx(float(oracle), abs=1e-6), norm


def test_l2_by_hand():
    confidence, correct = np.array([0.25, 0.25, 1.0, 1.0, 1.0]), np.array([True, False, True, True, False])
    bins = reliability_bins(confidence, correct, num_bins=2, closed="left")
    np.testing.assert_array_equal(bins.count, [2, 0, 3])
    expected = np.sqrt((2 * 0.25**2 + 3 * (1 / 3) ** 2) / 5)
    assert expected_calibration_error(bins, norm="l2") == pytest.approx(expected)
    assert expected_calibration_error(bins) == pytest.approx((2 * 0.25 + 3 / 3) / 5)


def test_sums_over_parts_are_those_of_the_whole():
    rng = np.random.default_rng(1)
    confidence = rng.random(900).astype(np.float32)
    correct = rng.random(900) < confidence
    whole = reliability_bins(confidence, correct)
    parts = [reliability_bins(*part) for part in zip(np.split(confidence, 9), np.split(correct, 9), strict=True)]
    pooled = functools.reduce(operator.add, parts)
    np.testing.assert_array_equal(pooled.count, whole.count)
    np.testing.assert_array_equal(pooled.correct_sum, whole.correct_sum)
    assert expected_calibration_error(pooled) == pytest.approx(expected_calibration_error(whole), rel=1e-12)
    # The mean over parts is another number: pooling is not averaging.
    assert np.mean([expected_calibration_error(part) for part in parts]) > 2 * expected_calibration_error(pooled)


def test_long_arrays_are_binned_in_chunks(monkeypatch):
    rng = np.random.default_rng(2)
    confidence, correct = rng.random((7, 11)), rng.random((7, 11)) < 0.5
    whole = reliability_bins(confidence, correct)
    monkeypatch.setattr("nnunet_stochastic.metrics.calibration._CHUNK", 10)
    chunked = reliability_bins(confidence, correct)
    np.testing.assert_array_equal(chunked.count, whole.count)
    np.testing.assert_array_equal(chunked.correct_sum, whole.correct_sum)
    np.testing.assert_allclose(chunked.confidence_sum, whole.confidence_sum)


def test_average_error_does_not_depend_on_how_full_a_bin_is():
    confidence = np.array([0.95, 0.95, 0.35, 0.35])
    correct = np.array([True, True, True, False])
    errors = []
    for background in (1, 10_000):
        parts = (
            np.repeat(confidence, [background, background, 1, 1]),
            np.repeat(correct, [background, background, 1, 1]),
        )
        bins = reliability_bins(*parts, num_bins=20)
        errors.append((average_calibration_error(bins), expected_calibration_error(bins)))
    (few, few_expected), (many, many_expected) = errors
    assert few == pytest.approx(many) == pytest.approx((0.05 + 0.15) / 2)
    assert few_expected == pytest.approx(0.1)
    assert many_expected == pytest.approx(0.05, rel=1e-3)


def test_perfectly_calibrated_and_perfectly_wrong():
    confident = np.full(100, 0.8)
    right = np.arange(100) < 80
    assert expected_calibration_error(reliability_bins(confident, right)) == pytest.approx(0)
    certain, wrong = np.ones(100), np.zeros(100, dtype=bool)
    assert expected_calibration_error(reliability_bins(certain, wrong)) == 1
    assert maximum_calibration_error(reliability_bins(certain, wrong)) == 1


def test_predicted_class_and_predicted_event():
    probabilities = np.array([[0.6, 0.2, 0.1], [0.3, 0.3, 0.8], [0.1, 0.5, 0.1]])
    confidence, correct = predicted_class_confidence(probabilities, np.array([0, 1, 1]))
    np.testing.assert_array_equal(confidence, [0.6, 0.5, 0.8])
    np.testing.assert_array_equal(correct, [True, False, True])
    confidence, correct = predicted_event_confidence(np.array([0.9, 0.2, 0.5]), np.array([False, False, True]))
    np.testing.assert_allclose(confidence, [0.9, 0.8, 0.5])
    np.testing.assert_array_equal(correct, [False, True, False])  # nnU-Net predicts a region where p > 0.5


def test_no_voxels():
    bins = reliability_bins(np.zeros(0), np.zeros(0, dtype=bool))
    assert np.isnan(expected_calibration_error(bins))
    assert np.isnan(maximum_calibration_error(bins))
    assert np.isnan(average_calibration_error(bins))


def test_bad_input():
    correct = np.array([True])
    with pytest.raises(ValueError, match="num_bins"):
        reliability_bins(np.array([0.5]), correct, num_bins=0)
    with pytest.raises(ValueError, match="finite"):
        reliability_bins(np.array([np.nan]), correct)
    with pytest.raises(ValueError, match="same num_bins"):
        reliability_bins(np.array([0.5]), correct) + reliability_bins(np.array([0.5]), correct, num_bins=3)
