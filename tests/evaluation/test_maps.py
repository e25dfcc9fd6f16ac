"""The largest value that a map may have, by the classes and by the factor in the folder's record."""

import json
import math
import os

import numpy as np
import pytest

from nnunet_stochastic.evaluation.maps import check_range
from nnunet_stochastic.labels import EvaluatedLabels

LABELS = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "a": 1, "b": 2}})


def test_limit_follows_the_record_also_when_it_is_written_again(tmp_path):
    path = tmp_path / "epistemic" / "case.nii.gz"
    largest = np.full((1, 2, 3), 1.5 * math.log(3))
    with pytest.raises(ValueError, match=r"more than 1\.09861 nats, the largest EU of the classes"):
        check_range(path, largest, "EU", LABELS)
    record = tmp_path / "uncertainty.json"
    for time, factor in enumerate((1.0, 2.0, 1.0)):
        record.write_text(json.dumps({"settings": {"epistemic_factor": factor}}))
        os.utime(record, ns=(time, time))
        if factor == 2:
            check_range(path, largest, "EU", LABELS)
            continue
        with pytest.raises(ValueError, match=r"more than 1\.09861 nats"):
            check_range(path, largest, "EU", LABELS)
