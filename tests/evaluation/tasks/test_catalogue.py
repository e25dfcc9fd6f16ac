"""The catalogue holds together: names, columns and directions are said once, and a wrong entry is refused."""

from dataclasses import replace

import numpy as np
import pytest

from nnunet_stochastic.conventions import PRESETS
from nnunet_stochastic.evaluation.tasks import (
    FAILURE_DETECTION,
    RANKED,
    TASKS,
    UNRANKED,
    describe_convention,
    find_task,
)


def test_what_a_task_writes_belongs_to_it_alone():
    for names in (
        [task.name for task in TASKS],
        [column for task in TASKS for column in task.image_columns],
        [column for task in TASKS for column in task.measure_columns],
        [task.class_key for task in TASKS if task.class_key],
    ):
        assert len(set(names)) == len(names)


def test_right_and_wrong_measures_are_those_of_theory():
    measures = {task.name: (task.right, task.wrong, task.metric, task.direction) for task in RANKED}
    assert measures == {
        "OODD": ("EU", ("AU",), "AUROC", 1),
        "AMB": ("AU", ("EU",), "NCC", 1),
        "CAL": ("TU", ("AU", "EU"), "ACE", -1),
    }
    assert {task.name for task in UNRANKED} == {"GED", "VOLUME", "RATIO", "CURVAS"}


def test_an_incomplete_entry_is_refused():
    with pytest.raises(ValueError, match="task FD names a right measure, so it must be by_measure and have wrong"):
        replace(FAILURE_DETECTION, right="TU")


@pytest.mark.parametrize("name", PRESETS)
def test_a_convention_describes_the_tasks_that_it_has(name):
    described = describe_convention(PRESETS[name])
    assert [key for key in described if key in {task.name for task in TASKS}] == [
        *("OODD", "AMB", "CAL", "FD", "FILTER", "GED", "VOLUME", "RATIO", "DECISIONS"),
        *(["CURVAS"] if name.startswith("curvas") else []),
    ]
    assert "OODD: EU against AU, AMB: AU against EU, CAL: TU against the better of AU and EU;" in described["delta"]


@pytest.mark.parametrize(("ratio", "collapsed"), [(0.049, True), (0.05, False), (np.nan, False)])
def test_a_collapsed_epistemic_part_is_warned_of(ratio, collapsed):
    assert bool(find_task("RATIO").warn(ratio)) == collapsed


def test_every_number_of_the_catalogue_is_resampled():
    """A task whose splits hold more than numbers resamples them itself."""
    assert [task.name for task in TASKS if (task.replicates is None) != (task.schema is not None)] == []
