"""Results of the case sets -> the tasks' entries in summary.json.

Shifts are evaluated one by one, and "OOD" is the mean over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_stochastic.conventions import Convention
from nnunet_stochastic.evaluation.applied_decisions import AppliedDecisions
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks.catalogue import TASKS
from nnunet_stochastic.evaluation.tasks.task import TaskInputs

__all__ = ["compute_tasks"]


def compute_tasks(
    sets: Sequence[SetResults],
    convention: Convention,
    *,
    num_samples: int,
    calibrated: bool,
    raters: bool,
    applied: AppliedDecisions | None = None,
    patients: Mapping[str, str] | None = None,
    weights: Mapping[str, np.ndarray] | None = None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """All tasks that can be computed; the arguments are those of ``TaskInputs``.

    Returns
    -------
    tuple[dict, dict]
        Results by task, NaN where a number does not exist, and for what is left out the reason.
    """
    inputs = TaskInputs(sets, convention, num_samples, calibrated, raters, applied, patients, weights or {})
    tasks: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for task in TASKS:
        if not task.applies(convention):
            continue
        considered = sets if task.splits else inputs.shifts
        reason = inputs.unmet(task.needs) if considered else task.lacking(inputs.known)
        values = {}
        if reason is None:
            values = {results.name: task.of_set(inputs, results) for results in considered if task.has_number(results)}
        if not values:
            left_out[task.name] = reason or task.lacking(considered[0])
            continue
        tasks[task.name] = task.complete(inputs, values)
        left_out |= {
            f"{task.name}/{results.name}": task.lacking(results) for results in considered if results.name not in values
        }
        unmet = {part: inputs.unmet([need]) for part, need in task.optional.items()}
        left_out |= {f"{task.name}/{part}": reason for part, reason in unmet.items() if reason is not None}
        left_out |= {f"{task.name}/{part}": why for part, why in task.omissions(inputs, tasks[task.name]).items()}
    return tasks, left_out
