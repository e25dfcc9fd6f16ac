"""U_c and U_w by hand: the better of two wrong measures is that of each shift."""

import numpy as np
import pytest

from nnunet_stochastic import metrics
from nnunet_stochastic.evaluation.right_and_wrong import right_and_wrong
from nnunet_stochastic.evaluation.tasks import CALIBRATION_ERROR, FAILURE_DETECTION, find_task

BLUR, NOISE = {"AU": 0.1, "EU": 0.3, "TU": 0.2}, {"AU": 0.3, "EU": 0.1, "TU": 0.2}


def test_minimum_of_each_shift_then_the_mean():
    assert right_and_wrong(CALIBRATION_ERROR, [BLUR, NOISE]) == pytest.approx((0.2, 0.1))
    delta = metrics.entanglement(*right_and_wrong(CALIBRATION_ERROR, [BLUR, NOISE]), lower_is_better=True)
    assert delta == pytest.approx(-0.409666, abs=1e-6)  # what the authors' code gives; 0 for min(mean AU, mean EU)


@pytest.mark.parametrize(("task", "expected"), [("OODD", (0.25, 0.15)), ("AMB", (0.15, 0.25))])
def test_one_wrong_measure_is_averaged(task, expected):
    assert right_and_wrong(find_task(task), [BLUR, {"AU": 0.2, "EU": 0.2, "TU": 0.9}]) == pytest.approx(expected)


def test_replicates_are_those_of_single_numbers():
    drawn = [
        {measure: np.random.default_rng(seed).random(5) for seed, measure in enumerate(BLUR, start)} for start in (0, 7)
    ]
    right, wrong = right_and_wrong(CALIBRATION_ERROR, drawn)
    for replicate in range(5):
        one = [{measure: values[replicate] for measure, values in of_set.items()} for of_set in drawn]
        assert right_and_wrong(CALIBRATION_ERROR, one) == pytest.approx((right[replicate], wrong[replicate]))


def test_a_set_without_one_of_the_measures_is_left_out():
    unknown = {"AU": 0.9, "EU": np.nan, "TU": 0.9}
    assert right_and_wrong(CALIBRATION_ERROR, [BLUR, unknown]) == pytest.approx((0.2, 0.1))
    assert np.isnan(right_and_wrong(CALIBRATION_ERROR, [unknown])).all()
    assert np.isnan(right_and_wrong(CALIBRATION_ERROR, [])).all()


def test_a_task_without_a_right_measure_is_refused():
    with pytest.raises(ValueError, match="theory names no measure for the task FD"):
        right_and_wrong(FAILURE_DETECTION, [BLUR])
