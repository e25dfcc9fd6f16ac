"""NCC against a value by hand, NumPy's correlation, its invariances and its empty cases."""

import numpy as np
import pytest

from nnunet_stochastic.metrics import normalized_cross_correlation


def test_by_hand():
    # Centred: (-1, 0, 1) and (-1, 1, 0); products sum to 1, both sample variances are 1, N = 3.
    assert normalized_cross_correlation(np.array([1.0, 2.0, 3.0]), np.array([0, 2, 1])) == pytest.approx(1 / 3)


def test_is_pearsons_correlation_with_the_divisor_n():
    a, b = np.random.default_rng(0).random((2, 4, 5, 6))
    expected = np.corrcoef(a.ravel(), b.ravel())[0, 1] * 119 / 120
    assert normalized_cross_correlation(a, b) == pytest.approx(expected)


def test_invariances():
    a, b = np.random.default_rng(1).random((2, 30))
    score = normalized_cross_correlation(a, b)
    assert abs(score) > 0.01
    assert normalized_cross_correlation(b, a) == pytest.approx(score)
    assert normalized_cross_correlation(3 * a + 2, 1e-9 * b) == pytest.approx(score)
    assert normalized_cross_correlation(-a, b) == pytest.approx(-score)
    order = np.random.default_rng(2).permutation(30)
    assert normalized_cross_correlation(a[order], b[order]) == pytest.approx(score)
    assert normalized_cross_correlation(a, a) == pytest.approx(29 / 30)


def test_long_maps_are_summed_in_chunks(monkeypatch):
    a, b = np.random.default_rng(3).random((2, 7, 11), dtype=np.float32)
    whole = normalized_cross_correlation(a, b)
    monkeypatch.setattr("nnunet_stochastic.metrics.ncc._CHUNK", 10)
    assert normalized_cross_correlation(a, b) == pytest.approx(whole, rel=1e-12)


def test_constant_and_empty_maps():
    # 0.1 has no exact float32, and the mean of many of them differs from each.
    constant, other = np.full(1000, 0.1, dtype=np.float32), np.random.default_rng(4).random(1000)
    assert normalized_cross_correlation(constant, other) == 0
    assert normalized_cross_correlation(other, constant) == 0
    assert np.isnan(normalized_cross_correlation(np.zeros(0), np.zeros(0)))


def test_bad_input():
    with pytest.raises(ValueError, match="same shape"):
        normalized_cross_correlation(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="second map must be finite"):
        normalized_cross_correlation(np.arange(2), np.array([0, np.nan]))
