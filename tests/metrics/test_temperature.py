"""The temperature against direct minimisation over all voxels, its equation, and that the data may be cut anywhere."""

import functools
import operator

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from nnunet_stochastic.metrics import TemperatureStatistics, binary_nll, nll, tempered


def _predictions(num_classes, sharpness, num_voxels=20_000):
    """Labels drawn from a softmax, and that softmax with its logits multiplied."""
    rng = np.random.default_rng(0)
    logits = 4 * rng.normal(size=(num_classes, num_voxels))
    drawn = softmax(logits, axis=0).cumsum(axis=0) < rng.random(num_voxels)
    return softmax(sharpness * logits, axis=0), np.minimum(drawn.sum(axis=0), num_classes - 1)


def _direct(score):
    bounds = np.log([0.1, 10])
    return np.exp(minimize_scalar(score, bounds=bounds, method="bounded", options={"xatol": 1e-9}).x)


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_against_direct_minimisation(num_classes, sharpness):
    probabilities, label = _predictions(num_classes, sharpness)
    temperature = TemperatureStatistics.of(probabilities.astype(np.float32), label).temperature()
    expected = _direct(lambda log_t: nll(tempered(probabilities, np.exp(log_t)), label))
    assert temperature == pytest.approx(expected, rel=3e-4)
    assert temperature == pytest.approx(sharpness, rel=0.05)


def test_regions_against_direct_minimisation():
    rng = np.random.default_rng(1)
    probabilities = rng.random((3, 40, 50))
    target = rng.random((3, 40, 50)) < tempered(probabilities, 1.7, regions=True)
    temperature = TemperatureStatistics.of(probabilities, target, regions=True).temperature()
    expected = _direct(lambda log_t: binary_nll(tempered(probabilities, np.exp(log_t), regions=True), target))
    assert temperature == pytest.approx(expected, rel=3e-4)
    assert temperature == pytest.approx(1.7, rel=0.1)


def test_two_classes_are_one_region():
    probabilities, label = _predictions(2, 2.0, 500)
    as_classes = TemperatureStatistics.of(probabilities, label)
    as_region = TemperatureStatistics.of(probabilities[1:], (label == 1)[np.newaxis], regions=True)
    np.testing.assert_allclose(as_region.gradient, as_classes.gradient, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(
        tempered(probabilities[1:], 1.5, regions=True)[0], tempered(probabilities, 1.5)[1], rtol=1e-12
    )


def test_tempered_by_hand():
    probabilities = np.array([[0.2, 0.5], [0.8, 0.5]])
    np.testing.assert_allclose(tempered(probabilities, 0.5), [[0.04 / 0.68, 0.5], [0.64 / 0.68, 0.5]])
    np.testing.assert_allclose(tempered(probabilities, 2.0), [[1 / 3, 0.5], [2 / 3, 0.5]])
    np.testing.assert_allclose(tempered(probabilities, 1.0), probabilities)
    np.testing.assert_allclose(tempered(probabilities, 0.5, regions=True)[0], [0.04 / 0.68, 0.5])


def test_tempered_keeps_type_shape_order_and_sum():
    probabilities = np.random.default_rng(2).dirichlet([0.3] * 4, size=(3, 5)).transpose(2, 0, 1).astype(np.float32)
    softer = tempered(probabilities, 3.0)
    assert softer.dtype == np.float32
    assert softer.shape == probabilities.shape
    np.testing.assert_allclose(softer.sum(axis=0), 1, rtol=1e-6)
    np.testing.assert_array_equal(softer.argmax(axis=0), probabilities.argmax(axis=0))
    assert softer.max() < probabilities.max()
    np.testing.assert_allclose(tempered(softer, 1 / 3), probabilities, atol=2e-6)


def test_sums_over_parts_raters_and_chunks(monkeypatch):
    probabilities, label = _predictions(3, 1.5, 900)
    raters = np.stack([label, np.roll(label, 1), label])
    whole = TemperatureStatistics.of(probabilities.reshape(3, 30, 30), raters.reshape(3, 30, 30))
    monkeypatch.setattr("nnunet_stochastic.metrics.temperature._CHUNK", 100)
    by_rater = [TemperatureStatistics.of(probabilities, rater) for rater in raters]
    by_part = [
        TemperatureStatistics.of(part, annotated)
        for part, annotated in zip(np.split(probabilities, 9, axis=1), np.split(raters, 9, axis=1), strict=True)
    ]
    for parts in (by_rater, by_part):
        pooled = functools.reduce(operator.add, parts)
        np.testing.assert_allclose(pooled.gradient, whole.gradient, rtol=1e-5)
        np.testing.assert_allclose(pooled.curvature, whole.curvature, rtol=1e-5)
        assert pooled.temperature() == pytest.approx(whole.temperature(), rel=1e-6)


def test_ends_of_the_grid():
    probabilities = np.array([[0.3, 0.4], [0.7, 0.6]])
    assert TemperatureStatistics.of(probabilities, np.array([1, 1])).temperature() == pytest.approx(0.1)
    assert TemperatureStatistics.of(probabilities, np.array([0, 0])).temperature() == pytest.approx(10)


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_uniform_probabilities_and_no_voxels_are_refused(num_classes):
    uniform = np.full((num_classes, 5), 1 / num_classes, dtype=np.float32)
    for statistics in (
        TemperatureStatistics.of(uniform, np.zeros(5, dtype=int)),
        TemperatureStatistics.of(uniform[:, :0], np.zeros(0, dtype=int)),
    ):
        with pytest.raises(ValueError, match="not uniform"):
            statistics.temperature()


def test_bad_input():
    probabilities = np.array([[0.3, 0.4], [0.7, 0.6]])
    with pytest.raises(ValueError, match="label must be in"):
        TemperatureStatistics.of(probabilities, np.array([[0, 1], [0, 2]]))
    with pytest.raises(ValueError, match="boolean"):
        TemperatureStatistics.of(probabilities, np.array([[0, 1], [0, 1]]), regions=True)
    with pytest.raises(ValueError, match="temperature must be positive"):
        tempered(probabilities, 0.0)
    with pytest.raises(ValueError, match="finite"):
        tempered(probabilities * np.nan, 1.0)
