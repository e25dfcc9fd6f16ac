"""U_c and U_w by hand: the better of two wrong measures is that of each shift."""

import numpy as np
import pytest

from nnunet_stochastic import metrics
from nnunet_stochastic.evaluation.right_and_wrong import right_and_wrong

BLUR, NOISE = {"AU": 0.1, "EU": 0.3, "TU": 0.2}, {"AU": 0.3, "EU": 0.1, "TU": 0.2}


def test_minimum_of_each_shift_then_the_mean():
    assert right_and_wrong("CAL", [BLUR, NOISE]) == pytest.approx((0.2, 0.1))
    delta = metrics.entanglement(*right_and_wrong("CAL", [BLUR, NOISE]), lower_is_better=True)
    assert delta == pytest.approx(-0.409666, abs=1e-6)  # what the authors' code gives; 0 for min(mean AU, mean EU)


@pytest.mark.parametrize(("task", "expected"), [("OODD", (0.25, 0.15)), ("AMB", (0.15, 0.25))])
def test_one_wrong_measure_is_averaged(task, expected):
    assert right_and_wrong(task, [BLUR, {"AU": 0.2, "EU": 0.2, "TU": 0.9}]) == pytest.approx(expected)


def test_replicates_are_those_of_single_numbers():
    drawn = [
        {measure: np.random.default_rng(seed).random(5) for seed, measure in enumerate(BLUR, start)} for start in (0, 7)
    ]
    right, wrong = right_and_wrong("CAL", drawn)
    for replicate in range(5):
        one = [{measure: values[replicate] for measure, values in of_set.items()} for of_set in drawn]
        assert right_and_wrong("CAL", one) == pytest.approx((right[replicate], wrong[replicate]))


def test_a_set_without_one_of_the_measures_is_left_out():
    unknown = {"AU": 0.9, "EU": np.nan, "TU": 0.9}
    assert right_and_wrong("CAL", [BLUR, unknown]) == pytest.approx((0.2, 0.1))
    assert np.isnan(right_and_wrong("CAL", [unknown])).all()
    assert np.isnan(right_and_wrong("CAL", [])).all()
