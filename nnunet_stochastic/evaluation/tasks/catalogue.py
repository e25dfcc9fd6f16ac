"""The tasks, in the order of summary.json.

A new task is a file beside this one and a line here.
"""

from __future__ import annotations

from nnunet_stochastic.conventions import PRESETS, Convention
from nnunet_stochastic.evaluation.tasks.ambiguity import AMBIGUITY
from nnunet_stochastic.evaluation.tasks.calibration_error import CALIBRATION_ERROR
from nnunet_stochastic.evaluation.tasks.challenge import CHALLENGE
from nnunet_stochastic.evaluation.tasks.decisions import DECISIONS
from nnunet_stochastic.evaluation.tasks.energy_distance import ENERGY_DISTANCE
from nnunet_stochastic.evaluation.tasks.failure_detection import FAILURE_DETECTION
from nnunet_stochastic.evaluation.tasks.filtering import FILTERING
from nnunet_stochastic.evaluation.tasks.out_of_distribution import OUT_OF_DISTRIBUTION
from nnunet_stochastic.evaluation.tasks.ratio import RATIO
from nnunet_stochastic.evaluation.tasks.task import Task
from nnunet_stochastic.evaluation.tasks.volume import VOLUME

__all__ = ["RANKED", "TASKS", "UNRANKED", "describe_convention", "find_task"]

TASKS: tuple[Task, ...] = (
    OUT_OF_DISTRIBUTION,
    AMBIGUITY,
    CALIBRATION_ERROR,
    FAILURE_DETECTION,
    FILTERING,
    ENERGY_DISTANCE,
    VOLUME,
    RATIO,
    CHALLENGE,
    DECISIONS,
)
RANKED = tuple(task for task in TASKS if task.is_ranked)
# Those with numbers that need no measure.
UNRANKED = tuple(task for task in TASKS if not task.by_measure and task.schema is None)


def find_task(name: str) -> Task:
    """The task of a name."""
    return next(task for task in TASKS if task.name == name)


def describe_convention(convention: Convention) -> dict[str, str]:
    """The choices of a convention in words, for summary.json; tasks that not every convention has come last."""
    common = [task for task in TASKS if all(map(task.applies, PRESETS.values()))]
    names = ", ".join(f"{task.name}: {task.right} against {task.wrong_in_words}" for task in RANKED)
    return {
        "preset": convention.name,
        **{task.name: task.describe(convention) for task in common},
        "delta": f"(atan2(correct, wrong) - pi/4) / (pi/4), sign reversed for calibration errors; {names}; over shifts "
        "of mean performances, the better of AU and EU being that of each shift; interval: see bootstrap in "
        "summary.json",
        "intervals": "95 % percentile intervals of the bootstrap over patients, or cases, as of delta; replicates in "
        "which a number does not exist are left out, and there is no interval where none has it or all have the same",
        "ignore label": "left out of every comparison with an annotation; image scores use all voxels",
        **convention.describe_calibration(),
        **{task.name: task.describe(convention) for task in TASKS if task not in common and task.applies(convention)},
    }
