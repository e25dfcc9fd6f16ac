"""NLL against literal values, scikit-learn's log loss, and its floor."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from nnunet_stochastic.metrics import binary_nll, nll


@pytest.mark.parametrize(
    ("probability_of_label", "expected"),
    [(1.0, 0.0), (0.5, 0.6931471805599453), (0.25, 1.3862943611198906), (0.0, 18.420680743952367)],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_literal_values(probability_of_label, expected, dtype):
    probabilities = np.array([[1 - probability_of_label], [probability_of_label]], dtype=dtype)
    assert nll(probabilities, np.array([1])) == pytest.approx(expected, abs=1e-12)
    assert binary_nll(probabilities[1], np.array([True])) == pytest.approx(expected, abs=1e-12)
    assert binary_nll(probabilities[0], np.array([False])) == pytest.approx(expected, abs=1e-12)


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([0.5] * 4, size=(3, 5)).transpose(2, 0, 1)
    label = rng.integers(0, 4, (3, 5))
    expected = log_loss(label.ravel(), probabilities.reshape(4, -1).T, labels=range(4))
    assert nll(probabilities, label) == pytest.approx(expected)
    expected = log_loss(label.ravel() == 2, probabilities[2].ravel())
    assert binary_nll(probabilities[2], label == 2) == pytest.approx(expected)


def test_regions_are_the_mean_of_each():
    rng = np.random.default_rng(1)
    probabilities, target = rng.random((3, 4, 4)), rng.random((3, 4, 4)) < 0.5
    each = [binary_nll(p, t) for p, t in zip(probabilities, target, strict=True)]
    assert binary_nll(probabilities, target) == pytest.approx(np.mean(each))


def test_no_voxels():
    assert np.isnan(nll(np.zeros((2, 0)), np.zeros(0, dtype=int)))
    assert np.isnan(binary_nll(np.zeros(0), np.zeros(0, dtype=bool)))


@pytest.mark.parametrize(
    ("probabilities", "label", "message"),
    [
        ([[0.5, np.nan], [0.5, 0.5]], [0, 1], "finite"),
        ([[0.5, 1.5], [0.5, -0.5]], [0, 1], r"in \[0, 1\]"),
        ([[0.5, 0.5], [0.5, 0.5]], [0, 2], "label must be in"),
        ([[0.5, 0.5], [0.5, 0.5]], [0.0, 1.0], "integers"),
        ([[0.5, 0.5], [0.5, 0.5]], [0], "agree"),
    ],
)
def test_bad_input(probabilities, label, message):
    with pytest.raises(ValueError, match=message):
        nll(np.array(probabilities), np.array(label))
