"""Entanglement Δ of each task, with a bootstrap interval over patients, or over cases where these are not known.

    Δ = s (atan2(U_c, U_w) - π/4) / (π/4)

s is -1 for tasks in which smaller is better, else 1. U_c and U_w, the performance of the right and the wrong measure,
are those of ``right_and_wrong``: means over shifts where there are several, the better of AU and EU being that of each
shift. A replicate draws P of the P patients with replacement, each with all cases of all sets (a cluster bootstrap):
how often a case was drawn with its patient are weights, with which all performances are computed. Sets that share
patients are drawn together, others independently. Where patients are not known each case counts as one. Cases of a
shift that are all named like cases of ID are then copies of them, and are drawn together with their originals; so are
those of two shifts with the same names.
Interval: 2.5 % and 97.5 % quantiles of the replicates; there is none for one patient, whose replicates are all equal.
The same replicates give the intervals of all other numbers (``intervals``).
Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 1979; of clusters: Davison and Hinkley,
Bootstrap methods and their application, 3.8, 1997.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import Convention
from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.maps import Measure
from nnunet_stochastic.evaluation.right_and_wrong import right_and_wrong
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks import RANKED, Resampled, Task
from nnunet_stochastic.io.names import counted

__all__ = ["case_weights", "describe_bootstrap", "entanglement_of_tasks", "name_resampled", "resample"]

NUM_REPLICATES = 1000
_QUANTILES = (0.025, 0.975)


def resample(
    sets: Sequence[SetResults],
    convention: Convention,
    *,
    patients: Mapping[str, str] | None = None,
    seed: int = 0,
    num_replicates: int = NUM_REPLICATES,
) -> Resampled:
    """Draw the replicates of a bootstrap.

    Parameters
    ----------
    sets
        Sets of cases, ID first, then the shifts.
    convention
        The preset.
    patients
        Patient of each case of all sets; without them each case is one of its own.
    seed, num_replicates
        Seed and number of replicates of the bootstrap.
    """
    by_name = {results.name: results for results in sets}
    cases = {name: results.cases for name, results in by_name.items()}
    return Resampled(by_name, case_weights(cases, num_replicates, patients=patients, seed=seed), convention)


def entanglement_of_tasks(tasks: Mapping[str, Any], drawn: Resampled) -> dict[str, Any]:
    """Δ of the ranked tasks and its interval, by split where a task has splits, and by variant; NaN if there is none.

    Parameters
    ----------
    tasks
        Result of ``compute_tasks``.
    drawn
        Replicates of the sets of which these are.
    """
    found = {task.name: _delta_of_task(task, tasks[task.name], drawn) for task in RANKED if task.name in tasks}
    # Of one patient or case: all replicates are the data.
    if all((counts == 1).all() for counts in drawn.weights.values()):
        _leave_out_intervals(found)
    return found


def _leave_out_intervals(found: dict[str, Any]) -> None:
    for name, entry in found.items():
        if name == "interval":
            found[name] = [float("nan")] * 2
        elif isinstance(entry, dict):
            _leave_out_intervals(entry)


def case_weights(
    cases: Mapping[str, Sequence[str]], num_replicates: int, *, patients: Mapping[str, str] | None = None, seed: int
) -> dict[str, np.ndarray]:
    """How often each replicate draws each case, (B, N) by set, integers.

    Parameters
    ----------
    cases
        Names of the cases by set, ID first.
    num_replicates
        Number B of replicates.
    patients
        Patient of each case of all sets; without them each case is one of its own.
    seed
        Seed of the draws.
    """
    generator = np.random.default_rng(seed)
    units = _units(cases, patients)
    weights = {}
    for pool in _pools(units.values()):
        drawn = generator.multinomial(len(pool), [1 / len(pool)] * len(pool), size=num_replicates)
        place = {unit: index for index, unit in enumerate(pool)}
        for name, of_cases in units.items():
            if place.keys() >= set(of_cases):
                weights[name] = drawn[:, [place[unit] for unit in of_cases]]
    return weights


def describe_bootstrap(cases: Mapping[str, Sequence[str]], patients: Mapping[str, str] | None) -> dict[str, Any]:
    """What the intervals of the summary are made of: level, unit that is drawn, and how many there are by set.

    Parameters
    ----------
    cases, patients
        Those of ``case_weights``.
    """

    def count(names: Sequence[str]) -> dict[str, int | None]:
        return {"cases": len(names), "patients": None if patients is None else len({patients[name] for name in names})}

    return {
        "level": metrics.BOOTSTRAP_LEVEL,
        "unit": "case" if patients is None else "patient",
        "num_replicates": NUM_REPLICATES,
        "sets": {name: count(names) for name, names in cases.items()},
    }


def name_resampled(summary: Mapping[str, Any]) -> str:
    """Over what the intervals of a summary.json are, in words: ``patients (ID, blur: 24 cases of 17)``."""
    if "bootstrap" not in summary:  # written before patients were known
        return "cases"
    numbers: dict[str, list[str]] = {}
    for name, found in summary["bootstrap"]["sets"].items():
        of_patients = "" if found["patients"] is None else f" of {found['patients']}"
        numbers.setdefault(f"{counted(found['cases'], 'case')}{of_patients}", []).append(name)
    listed = "; ".join(f"{', '.join(names)}: {number}" for number, names in numbers.items())
    return f"{summary['bootstrap']['unit']}s ({listed})"


def _units(cases: Mapping[str, Sequence[str]], patients: Mapping[str, str] | None) -> dict[str, list[Hashable]]:
    """What each case of each set is drawn with; cases that are drawn together have the same."""
    if patients is not None:
        return {name: [patients[case] for case in members] for name, members in cases.items()}
    known = set(cases[ID])
    lists: dict[tuple[str, ...], int] = {}
    units: dict[str, list[Hashable]] = {}
    for name, members in cases.items():
        of_names = 0 if known >= set(members) else lists.setdefault(tuple(members), len(lists) + 1)
        units[name] = [(of_names, case) for case in members]
    return units


def _pools(units: Iterable[Sequence[Hashable]]) -> list[dict[Hashable, None]]:
    """Units of the sets that share any, directly or by way of others; in order of first appearance."""
    pools: list[dict[Hashable, None]] = []
    for of_cases in units:
        shared = [pool for pool in pools if not pool.keys().isdisjoint(of_cases)]
        pools = [pool for pool in pools if pool not in shared[1:]]
        if not shared:
            shared.append({})
            pools += shared
        for pool in (*shared[1:], dict.fromkeys(of_cases)):
            shared[0].update(pool)
    return pools


def _delta_of_task(task: Task, result: Mapping[str, Any], drawn: Resampled) -> dict[str, Any]:
    """Δ of the splits of a task, with those of each variant where there are variants."""
    if not task.variants:
        return _delta_of_splits(task, result, drawn)
    by_variant = {variant: _delta_of_splits(task, result[variant], drawn, variant) for variant in task.variants}
    return {**by_variant[task.variant_of(drawn.convention)], **by_variant}


def _delta_of_splits(task: Task, result: Mapping[str, Any], drawn: Resampled, variant: str = "") -> dict[str, Any]:
    if not task.splits:
        return _delta(task, result["shifts"], drawn, variant)
    sets = {split: {ID: result[ID]} if split == ID else result["shifts"] for split in task.splits}
    return {split: _delta(task, of_split, drawn, variant) for split, of_split in sets.items()}


def _delta(task: Task, sets: Mapping[str, Mapping[Measure, float]], drawn: Resampled, variant: str) -> dict[str, Any]:
    """Δ of the performances in each set, and the interval from those of the replicates."""
    lower_is_better = task.direction < 0
    value = float(metrics.entanglement(*right_and_wrong(task, list(sets.values())), lower_is_better=lower_is_better))
    if np.isnan(value) or task.right is None or task.replicates is None:
        return {"value": value, "interval": [float("nan")] * 2}
    measures = (task.right, *task.wrong)
    performances: list[Mapping[Measure, float | np.ndarray]] = []
    for name in sets:
        found = task.replicates(drawn, name)
        of_variant = found[variant] if variant else found
        performances.append({measure: of_variant[measure] for measure in measures})
    deltas = np.asarray(metrics.entanglement(*right_and_wrong(task, performances), lower_is_better=lower_is_better))
    deltas = deltas[np.isfinite(deltas)]
    interval = np.quantile(deltas, _QUANTILES).tolist() if deltas.size else [float("nan")] * 2
    return {"value": value, "interval": interval}
