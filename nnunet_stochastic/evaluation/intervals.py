"""95 % intervals of the numbers of summary.json, at the same places: ``[low, high]`` where these have a number.

    results, set_results    of the means over cases, and of the calibration errors of all voxels together
    spread                  of the means over cases, by set
    tasks                   by set, of the mean over shifts (OOD), of variants and of further parts of a task

They are percentile intervals (``metrics.resampling``) of the replicates that Δ has, too: of patients, or of cases. The
mean over shifts is that of the shifts that have the number in a replicate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_stochastic import metrics
from nnunet_stochastic.evaluation.case_sets import ID, OOD
from nnunet_stochastic.evaluation.summary import summary_replicates
from nnunet_stochastic.evaluation.tasks import TASKS, Resampled, Task
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = ["summary_intervals"]


def summary_intervals(tasks: Mapping[str, Any], drawn: Resampled, labels: EvaluatedLabels) -> dict[str, Any]:
    """All intervals; NaN for both ends where there is none.

    Parameters
    ----------
    tasks
        Result of ``compute_tasks``. A task with a schema of its own has its intervals in its entry.
    drawn
        Replicates of the sets of which these are.
    labels
        The classes.
    """
    of_sets = {
        name: _intervals(summary_replicates(results, labels, drawn.convention, drawn.weights[name]))
        for name, results in drawn.sets.items()
    }
    return {
        "results": of_sets[ID],
        "set_results": {name: found for name, found in of_sets.items() if name != ID and found},
        "spread": {
            name: {
                number: _intervals(metrics.weighted_mean(values, drawn.weights[name]))
                for number, values in results.case_spread.items()
            }
            for name, results in drawn.sets.items()
            if results.case_spread
        },
        "tasks": {
            task.name: _intervals(_of_task(task, drawn))
            for task in TASKS
            if task.name in tasks and task.replicates is not None
        },
    }


def _of_task(task: Task, drawn: Resampled) -> dict[str, Any]:
    """Replicates of all numbers of a task, at their places in its entry."""
    names = [name for name, results in drawn.sets.items() if (task.splits or name != ID) and task.has_number(results)]
    found = _by_variant(task, drawn, names)
    for path, chosen in task.parts.items():
        place = found
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = _by_variant(task, chosen(drawn), names)
    return found


def _by_variant(task: Task, drawn: Resampled, names: Sequence[str]) -> dict[str, Any]:
    assert task.replicates is not None
    by_set = {name: task.replicates(drawn, name) for name in names}
    if not task.variants:
        return _by_split(task, by_set)
    splits = {
        variant: _by_split(task, {name: found[variant] for name, found in by_set.items()}) for variant in task.variants
    }
    return {**splits[task.variant_of(drawn.convention)], **splits}


def _by_split(task: Task, by_set: Mapping[str, Any]) -> dict[str, Any]:
    shifts = {name: found for name, found in by_set.items() if name != ID}
    over_shifts = _mean(list(shifts.values())) if shifts else None
    if not task.splits:
        return {**(over_shifts or {}), "shifts": shifts}
    splits = {ID: by_set.get(ID), OOD: over_shifts}
    return {**{name: found for name, found in splits.items() if found is not None}, "shifts": shifts}


def _mean(of_sets: Sequence[Any]) -> Any:
    if isinstance(of_sets[0], Mapping):
        return {key: _mean([found[key] for found in of_sets if key in found]) for key in of_sets[0]}
    return metrics.mean_of_known(of_sets)


def _intervals(tree: Any) -> Any:
    if isinstance(tree, np.ndarray):
        return list(metrics.percentile_interval(tree))
    return {key: _intervals(found) for key, found in tree.items()}
