"""AUROC against literal values, and its bootstrap against scikit-learn with sample weights."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from nnunet_stochastic.metrics import auroc, auroc_bootstrap


@pytest.mark.parametrize(
    ("negative", "positive", "expected"),
    [
        ([1.0, 2.0], [3.0, 4.0], 1.0),
        ([3.0, 4.0], [1.0, 2.0], 0.0),
        ([1.0, 3.0], [2.0, 4.0], 0.75),
        ([1.0, 1.0], [1.0], 0.5),
        ([0.0, 1.0, 1.0], [1.0, 2.0], 5 / 6),  # 1 wins once and ties twice, 2 wins three times
    ],
)
def test_literal_values(negative, positive, expected):
    negative, positive = np.array(negative), np.array(positive)
    assert auroc(negative, positive) == pytest.approx(expected)
    once = [np.ones((1, len(scores)), dtype=int) for scores in (negative, positive)]
    replicates = auroc_bootstrap(negative, positive, negative_weights=once[0], positive_weights=once[1])
    np.testing.assert_allclose(replicates, [expected])


def test_bootstrap_against_scikit_learn():
    rng = np.random.default_rng(0)
    negative, positive = rng.integers(0, 12, 40) / 8, rng.integers(3, 15, 25) / 8  # many ties
    negative_weights, positive_weights = (rng.multinomial(n, np.full(n, 1 / n), size=20) for n in (40, 25))
    replicates = auroc_bootstrap(
        negative, positive, negative_weights=negative_weights, positive_weights=positive_weights
    )
    scores, out_of_distribution = np.concatenate([negative, positive]), np.arange(65) >= 40
    for replicate, weights in zip(replicates, np.hstack([negative_weights, positive_weights]), strict=True):
        expected = roc_auc_score(out_of_distribution, scores, sample_weight=weights)
        assert replicate == pytest.approx(expected, abs=1e-14)
    assert replicates.std() > 0.01


def test_swapped_sides_and_increasing_transforms():
    rng = np.random.default_rng(1)
    negative, positive = rng.normal(size=30), rng.normal(1, size=20)
    score = auroc(negative, positive)
    assert auroc(positive, negative) == pytest.approx(1 - score)
    assert auroc(np.exp(negative), np.exp(positive)) == pytest.approx(score)


def test_empty_sides_and_nan():
    scores, nothing = np.array([1.0, 2.0]), np.zeros(0)
    assert np.isnan(auroc(scores, nothing))
    assert np.isnan(auroc(nothing, scores))
    assert np.isnan(auroc(scores, np.array([1.0, np.nan])))
    weights = np.array([[1, 1], [0, 0], [0, 2]])
    replicates = auroc_bootstrap(scores, scores, negative_weights=weights, positive_weights=weights[::-1])
    np.testing.assert_array_equal(replicates, [0.75, np.nan, 0.25])
    with_nan = auroc_bootstrap(scores, np.array([1.0, np.nan]), negative_weights=weights, positive_weights=weights)
    assert np.isnan(with_nan).all()


@pytest.mark.parametrize(
    ("negative_weights", "positive_weights", "message"),
    [
        (np.ones((3, 4), dtype=int), np.ones((3, 2), dtype=int), r"negative_weights must be \(B, 2\)"),
        (np.ones((3, 2)), np.ones((3, 2), dtype=int), "integers"),
        (np.ones((3, 2), dtype=int), np.full((3, 2), -1), "integers >= 0"),
        (np.ones((3, 2), dtype=int), np.ones((4, 2), dtype=int), "same number of replicates"),
    ],
)
def test_bad_input(negative_weights, positive_weights, message):
    scores = np.array([1.0, 2.0])
    with pytest.raises(ValueError, match=message):
        auroc_bootstrap(scores, scores, negative_weights=negative_weights, positive_weights=positive_weights)
