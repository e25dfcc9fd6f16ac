"""DECISIONS: whether what was said of cases without references holds, as ``decisions.judgement`` judges it.

Coverage and width of volume intervals, risk of inner and outer masks, predicted Dice beside the baselines of failure
detection, lesions by the probability that they exist, and the raters' volumes. Risks are of masks of the probabilities,
at every alpha; those of the alpha that was chosen are the masks that were written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nnunet_stochastic.conventions import Convention
from nnunet_stochastic.decisions.judgement import judge
from nnunet_stochastic.decisions.statistics import CaseStatistics
from nnunet_stochastic.evaluation.case_inputs import CaseInputs
from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.decision_statistics import decision_statistics
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks.decision_entry import DecisionsEntry
from nnunet_stochastic.evaluation.tasks.task import Task, TaskInputs, reason
from nnunet_stochastic.io.names import few

__all__ = ["DECISIONS"]

NAME = "DECISIONS"


def _describe(convention: Convention) -> str:
    return (
        "coverage: mean over raters (or the reference), cases and patients, in turn, Clopper-Pearson interval at 95 % "
        "with the patients as trials; risk: mean loss over raters, cases and patients, the inner loss the greatest of "
        "all smaller masks; Dice: mean over raters, means, "
        "rank correlation and AURC over cases; FROC: matched one to one, over the lesions of all raters, false "
        "positives per case; existence: ECE of 10 bins; ratio: root of mean variances of volumes; intervals: "
        "of the bootstrap over patients. Without --groups each case is a patient"
    )


def _of_classes(inputs: CaseInputs) -> dict[str, Any]:
    """Statistics of a case; its patient and image scores are put in where all cases are known."""
    if inputs.predicted is None or not inputs.case.annotations:
        return {}
    return decision_statistics(
        inputs.files,
        inputs.case,
        inputs.predicted,
        inputs.labels,
        inputs.settings.reader,
        patient=inputs.case.name,
        scores={},
    ).as_json()


def _of_set(inputs: TaskInputs, results: SetResults) -> dict[str, Any]:
    assert inputs.applied is not None
    scores: dict[str, dict[str, float]] = {}
    for row in results.scores.itertuples():
        scores.setdefault(str(row.case), {}).update(
            {f"{row.measure}_mean": float(row.mean), f"{row.measure}_border": float(row.border)}
        )
    statistics = [
        replace(
            CaseStatistics.from_json(found),
            patient=case if inputs.patients is None else inputs.patients[case],
            image_scores=scores.get(case, {}),
        )
        for case, found in results.by_class[NAME].items()
    ]
    weights = inputs.weights.get(results.name)
    by_case = None if weights is None else dict(zip(results.cases, weights.T, strict=True))
    return judge(inputs.applied.decisions, statistics, weights=by_case)


def _complete(inputs: TaskInputs, values: Mapping[str, Any]) -> dict[str, Any]:
    assert inputs.applied is not None
    decisions = inputs.applied.decisions
    return {
        "levels": decisions.levels,
        "alphas": decisions.alphas,
        "alpha": inputs.applied.alpha,
        "unit": "cases" if inputs.patients is None else "patients",
        "num_validation_cases": decisions.num_cases,
        "num_validation_patients": decisions.num_patients,
        ID: values.get(ID),
        "shifts": {name: value for name, value in values.items() if name != ID},
    }


def _omissions(inputs: TaskInputs, entry: Mapping[str, Any]) -> dict[str, str]:
    """Reasons by part, the structures named where not all of them lack it; those of shifts are in their own entries."""
    found: dict[tuple[str, str], list[str]] = {}
    structures = entry[ID]["structures"] if entry[ID] else {}
    for name, structure in structures.items():
        for part, why in structure["left_out"].items():
            found.setdefault((part, why), []).append(name)
    named: dict[str, list[str]] = {}
    for (part, why), names in found.items():
        named.setdefault(part, []).append(why if len(names) == len(structures) else f"{few(names)}: {why}")
    sets = {} if inputs.applied is None else inputs.applied.left_out
    return {part: "; ".join(reasons) for part, reasons in named.items()} | dict(sets)


DECISIONS = Task(
    name=NAME,
    title="decisions",
    metric="",
    direction=0,
    describe=_describe,
    of_set=_of_set,
    has_number=lambda results: any(results.by_class.get(NAME, {}).values()),
    lacking=lambda results: reason(results, "the predictions have no rows of structures"),
    needs=("decisions",),
    complete=_complete,
    omissions=_omissions,
    schema=DecisionsEntry,
    class_key="decisions",
    of_classes=_of_classes,
)
