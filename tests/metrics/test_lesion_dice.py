"""Lesion-wise Dice against a literal table, and its bad input."""

import numpy as np
import pytest

from nnunet_stochastic.metrics import lesion_dice


@pytest.mark.parametrize(
    ("iou", "num_found", "num_reference", "expected"),
    [
        ([1.0], 1, 1, 1.0),
        ([1 / 3], 1, 1, 0.5),
        ([1.0], 2, 1, 0.5),  # a false positive
        ([1.0], 1, 3, 1 / 3),  # two false negatives
        ([1.0, 1 / 3], 3, 4, 1.5 / 5),
        ([], 2, 0, 0.0),
        ([], 0, 3, 0.0),
        ([], 2, 3, 0.0),
    ],
)
def test_literal_table(iou, num_found, num_reference, expected):
    found = lesion_dice(np.array(iou), num_found=num_found, num_reference=num_reference)
    assert found == pytest.approx(expected)


def test_no_lesions():
    assert np.isnan(lesion_dice(np.zeros(0), num_found=0, num_reference=0))


def test_bad_input():
    with pytest.raises(ValueError, match="at most 1 found and 2 reference"):
        lesion_dice(np.ones(2), num_found=1, num_reference=2)
    for iou in (0.0, 1.1, np.nan):
        with pytest.raises(ValueError, match="finite and in"):
            lesion_dice(np.array([iou]), num_found=1, num_reference=1)
