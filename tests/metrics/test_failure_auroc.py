"""Failure-AUROC against literal tables."""

import numpy as np
import pytest

from nnunet_stochastic.metrics import failure_auroc


@pytest.mark.parametrize(
    ("dice", "uncertainty", "threshold", "expected"),
    [
        ([0.9, 0.8, 0.6, 0.2], [1, 2, 3, 4], 0.7, 1.0),
        ([0.9, 0.8, 0.6, 0.2], [4, 3, 2, 1], 0.7, 0.0),
        ([0.9, 0.8, 0.6, 0.2], [1, 3, 2, 4], 0.7, 0.75),
        ([0.9, 0.8, 0.6, 0.2], [1, 3, 2, 4], 0.5, 1.0),
        ([0.9, 0.8, 0.6, 0.2], [5, 5, 5, 5], 0.7, 0.5),
        ([0.7, 0.7, 0.69], [1, 2, 1.5], 0.7, 0.5),  # a Dice of the threshold is none
        ([0.9, np.nan, 0.1], [1, np.nan, 2], 0.7, 1.0),
        ([0.9, 0.8], [1, 2], 0.7, np.nan),
        ([0.1, 0.2], [1, 2], 0.7, np.nan),
        ([], [], 0.7, np.nan),
    ],
)
def test_literal_table(dice, uncertainty, threshold, expected):
    found = failure_auroc(np.array(dice), np.array(uncertainty), threshold=threshold)
    assert found == pytest.approx(expected, nan_ok=True)


def test_the_default_threshold():
    dice, uncertainty = np.array([0.75, 0.65, 0.72, 0.3]), np.array([1, 2, 3, 4])
    assert failure_auroc(dice, uncertainty) == failure_auroc(dice, uncertainty, threshold=0.7) == 0.75


def test_bad_input():
    with pytest.raises(ValueError, match="same length"):
        failure_auroc(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="NaN for 1 of 2 cases"):
        failure_auroc(np.zeros(2), np.array([1, np.nan]))
    for threshold in (0, 1.1, np.nan):
        with pytest.raises(ValueError, match="threshold must be in"):
            failure_auroc(np.zeros(2), np.zeros(2), threshold=threshold)
