"""The values that a map may have, by its folder, the classes, and the factor in the folder's record."""

import json
import math
import os

import numpy as np
import pytest

from nnunet_stochastic.evaluation.maps import check_values
from nnunet_stochastic.inference.rounding import round_mantissa
from nnunet_stochastic.labels import EvaluatedLabels
from nnunet_stochastic.prediction_choices import MIN_MAP_DIGITS

TWO = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "a": 1}})
LABELS = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "a": 1, "b": 2}})
REGIONS = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "a": [1, 2], "b": 2}})
LARGEST = [
    *((folder, TWO, factor * math.log(2)) for folder, factor in (("aleatoric", 1), ("epistemic", 1), ("total", 2))),
    *((folder, LABELS, factor * math.log(3)) for folder, factor in (("aleatoric", 1), ("epistemic", 1), ("total", 2))),
    *((folder, REGIONS, factor * math.log(2)) for folder, factor in (("aleatoric", 1), ("epistemic", 1), ("total", 2))),
    *(("variance", TWO, 1 / 4), ("variance", LABELS, 2 / 3), ("variance", REGIONS, 2 / 4)),
]


def a_map(largest: float) -> np.ndarray:
    volume = np.full((1, 2, 3), 0.01, np.float32)
    volume[0, 1, 2] = largest
    return volume


@pytest.mark.parametrize(("folder", "labels", "largest"), LARGEST)
def test_the_largest_value(tmp_path, folder, labels, largest):
    path = tmp_path / folder / "case.nii.gz"
    for value in (0, 0.5 * largest, largest, 1.005 * largest):
        check_values(path, a_map(value), labels)
    for value in (1.02 * largest, 20):
        with pytest.raises(
            ValueError, match=rf"case.nii.gz has values up to {value:g}, which is more than {largest:g}"
        ):
            check_values(path, a_map(value), labels)


@pytest.mark.parametrize("folder", ["aleatoric", "epistemic", "total", "variance"])
def test_values_that_are_no_uncertainty(tmp_path, folder):
    path = tmp_path / folder / "case.nii.gz"
    for value in (-1e-6, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"case.nii.gz must have finite values of at least 0"):
            check_values(path, a_map(value), LABELS)
    check_values(path, np.zeros((1, 2, 3)), LABELS)


def test_label_maps_are_no_maps(tmp_path):
    volume = np.zeros((1, 2, 3), np.float32)
    volume[0, 0, 0] = 1
    with pytest.raises(ValueError, match=r"case.nii.gz holds whole numbers alone"):
        check_values(tmp_path / "total" / "case.nii.gz", volume, LABELS)


def test_limit_follows_the_record_also_when_it_is_written_again(tmp_path):
    path = tmp_path / "epistemic" / "case.nii.gz"
    largest = a_map(1.5 * math.log(3))
    with pytest.raises(ValueError, match=r"more than 1\.09861 nats, the largest epistemic uncertainty of the classes"):
        check_values(path, largest, LABELS)
    record = tmp_path / "uncertainty.json"
    for time, factor in enumerate((1.0, 2.0, 1.0)):
        record.write_text(json.dumps({"settings": {"epistemic_factor": factor}}))
        os.utime(record, ns=(time, time))
        if factor == 2:
            check_values(path, largest, LABELS)
            continue
        with pytest.raises(ValueError, match=r"more than 1\.09861 nats"):
            check_values(path, largest, LABELS)


@pytest.mark.parametrize("num_labels", range(2, 40))
def test_maps_of_the_least_number_of_digits_are_read(tmp_path, num_labels):
    labels = EvaluatedLabels.from_dataset_json(
        {"labels": {"background" if not value else f"label_{value}": value for value in range(num_labels)}}
    )
    for folder, largest in (("aleatoric", math.log(num_labels)), ("variance", 1 - 1 / num_labels)):
        if folder == "variance" and num_labels == 2:
            continue  # 1/4, which no rounding changes
        rounded = round_mantissa(a_map(largest), MIN_MAP_DIGITS)
        check_values(tmp_path / folder / "case.nii.gz", rounded, labels)
