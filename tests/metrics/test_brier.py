"""Brier score against literal values, scikit-learn, and the identity that joins its two forms."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from nnunet_stochastic.metrics import binary_brier, brier


@pytest.mark.parametrize(
    ("probabilities", "label", "expected"),
    [
        ([1, 0, 0], 0, 0.0),
        ([1, 0, 0], 1, 2.0),
        ([0.5, 0.5, 0], 0, 0.5),
        ([0.7, 0.2, 0.1], 1, 0.49 + 0.64 + 0.01),
    ],
)
def test_literal_values(probabilities, label, expected):
    assert brier(np.array(probabilities, dtype=float)[:, None], np.array([label])) == pytest.approx(expected)


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    probability, target = rng.random((4, 5)), rng.random((4, 5)) < 0.3
    expected = brier_score_loss(target.ravel(), probability.ravel())
    assert binary_brier(probability, target) == pytest.approx(expected)
    both = np.stack([1 - probability, probability])
    assert brier(both, target.astype(int)) == pytest.approx(2 * expected)


def test_all_classes_is_the_sum_of_each_against_the_rest():
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet([1] * 3, size=50).T
    label = rng.integers(0, 3, 50)
    one_hot = label == np.arange(3)[:, None]
    assert brier(probabilities, label) == pytest.approx(np.square(probabilities - one_hot).sum(axis=0).mean())
    each = [binary_brier(probabilities[c], label == c) for c in range(3)]
    assert brier(probabilities, label) == pytest.approx(sum(each))


def test_no_voxels():
    assert np.isnan(brier(np.zeros((2, 0)), np.zeros(0, dtype=int)))


def test_target_must_be_boolean():
    with pytest.raises(ValueError, match="boolean"):
        binary_brier(np.array([0.5]), np.array([1]))
