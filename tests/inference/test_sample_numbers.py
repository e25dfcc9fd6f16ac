"""How many samples an interval needs, against literal numbers and drawn samples."""

import numpy as np
import pytest

from nnunet_stochastic.inference.sample_numbers import (
    least_number_for_interval,
    least_number_for_mode,
    sample_intervals,
)


@pytest.mark.parametrize(("mode", "number"), [(0.01, 299), (0.05, 59), (0.1, 29), (0.17, 17), (0.2, 14), (0.5, 5)])
def test_samples_that_do_not_miss_a_mode(mode, number):
    assert least_number_for_mode(mode) == number
    assert (1 - mode) ** number < 0.05 <= (1 - mode) ** (number - 1)


def test_a_mode_is_missed_with_less_and_not_with_just_as_much():
    assert least_number_for_mode(0.5, missed_with=0.25) == 3


@pytest.mark.parametrize(("level", "number"), [(0.5, 3), (0.8, 9), (0.9, 19), (0.95, 39), (0.99, 199)])
def test_samples_of_an_interval(level, number):
    assert least_number_for_interval(level) == number


def test_entry_of_ten_samples():
    """Ten samples miss an outcome of 17 % with 0.83^10 = 16 %."""
    assert sample_intervals(10) == {
        "num_samples": 10,
        "level": 0.9,
        "covers": 0.7364,
        "least_num_samples": 19,
        "missed_with": 0.05,
        "missed_mode": 0.2589,
        "num_samples_of_mode": {"0.01": 299, "0.05": 59, "0.1": 29, "0.2": 14},
    }
    assert sample_intervals(1)["covers"] == 0
    assert sample_intervals(1)["missed_mode"] == 0.95


@pytest.mark.parametrize("number", [2, 10, 40])
def test_coverage_is_that_of_drawn_percentiles(number):
    drawn = np.random.default_rng(0).random((20_000, number + 1))
    low, high = np.percentile(drawn[:, 1:], [5, 95], axis=1)
    covered = np.mean((low <= drawn[:, 0]) & (drawn[:, 0] <= high))
    assert covered == pytest.approx(sample_intervals(number)["covers"], abs=0.012)
