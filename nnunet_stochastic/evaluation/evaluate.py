"""Evaluate sets of cases: check all files, write a record of each case, and compute the tasks from the records.

Cases are checked and scored in processes, one case at a time in each; this process keeps table rows and sums. Results
are in the order of the cases and do not depend on the number of processes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import CONVENTIONS
from nnunet_stochastic.evaluation.applied_decisions import AppliedDecisions
from nnunet_stochastic.evaluation.bootstrap import describe_bootstrap, entanglement_of_tasks, resample
from nnunet_stochastic.evaluation.case_inputs import CONFIDENCE_BINS, CaseSettings
from nnunet_stochastic.evaluation.case_sets import CaseSet, common_measures
from nnunet_stochastic.evaluation.cases import CaseFiles, check_case
from nnunet_stochastic.evaluation.decision_statistics import changed_structure
from nnunet_stochastic.evaluation.intervals import summary_intervals
from nnunet_stochastic.evaluation.maps import FOLDERS, MEASURES
from nnunet_stochastic.evaluation.parallel import Workers
from nnunet_stochastic.evaluation.readers import ImageReader, read_label_map
from nnunet_stochastic.evaluation.records import RecordedCase, bins_to_json, read_record, to_json, write_record
from nnunet_stochastic.evaluation.results import collect_results
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.summary import summarise
from nnunet_stochastic.evaluation.tasks import RANKED, TASKS, compute_tasks, describe_convention
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = ["Evaluation", "check_cases", "evaluate_sets"]


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation.

    Attributes
    ----------
    rows
        Scores of segmentations and probabilities: a row per set, case, annotation and class.
    images
        Numbers of whole images: a row per set and case.
    scores
        Scores of the maps: a row per set, case and measure.
    reliability
        Reliability bins of ID, per annotation group (``reference``, ``raters``) and class.
    curves
        Content of curves.json.
    summary
        Content of summary.json, but for folders and model.
    """

    rows: pd.DataFrame
    images: pd.DataFrame
    scores: pd.DataFrame
    reliability: Mapping[str, Mapping[str, metrics.ReliabilityBins]]
    curves: dict[str, Any]
    summary: dict[str, Any]


def evaluate_sets(
    sets: Sequence[CaseSet],
    settings: CaseSettings,
    record_folder: Path,
    *,
    problems: Sequence[str] = (),
    patients: Mapping[str, str] | None = None,
    applied: AppliedDecisions | None = None,
    resume: bool = False,
    workers: Workers,
) -> Evaluation:
    """Check and evaluate.

    Parameters
    ----------
    sets
        Sets of cases, ID first, then the shifts.
    settings
        What to compute of each case.
    record_folder
        Folder of the records, SET/CASE.json.
    problems
        Findings of ``find_case_sets``: if there are any, no case is read.
    patients
        Patient of each case of all sets, over which intervals are then taken; without them each case is its own.
    applied
        Decisions about the predictions, to be judged.
    resume
        Whether to keep the records of an earlier evaluation of the same files with the same settings.
    workers
        Processes that check and compute.

    Raises
    ------
    ValueError
        Something is wrong with the files; nothing was computed then. The message lists all findings.
    """
    of_sets = {case_set.name: _recorded(case_set, record_folder, applied) for case_set in sets}
    pending = [case for cases in of_sets.values() for case in cases]
    if not problems:
        if not pending:
            raise ValueError("there is no case to evaluate")
        if resume:
            pending = [case for case in pending if read_record(case, settings) is None]
    check = functools.partial(_check, settings=settings)
    found = () if problems else workers.map(check, pending, description="checking")  # which takes minutes
    raise_problems([*problems, *(problem for problem in found if problem is not None)])
    for case_set in sets:
        (record_folder / case_set.name).mkdir(parents=True, exist_ok=True)
    write = functools.partial(write_record, settings=settings)
    for _ in workers.map(write, pending, description="evaluating"):
        pass
    results = [collect_results(case_set, _records(of_sets[case_set.name], settings)) for case_set in sets]
    return _evaluation(results, sets, settings, patients, applied)


def _check(case: RecordedCase, settings: CaseSettings) -> str | None:
    """What is wrong with the files of a case, or with what the record of its prediction says of them."""
    labels, reader = settings.labels, settings.reader
    problem = check_case(case.files, labels, reader)
    if problem is not None or case.predicted is None:
        return problem
    prediction, _ = read_label_map(case.files.prediction, labels, reader)
    return changed_structure(case.files, labels.without_ignored(prediction), case.predicted, labels)


def check_cases(
    cases: Sequence[CaseFiles],
    labels: EvaluatedLabels,
    reader: ImageReader,
    *,
    problems: Sequence[str] = (),
    workers: Workers,
) -> None:
    """Read every case and raise one error that lists all that is wrong.

    Parameters
    ----------
    cases
        The cases.
    labels
        The classes.
    reader
        nnU-Net's reader of the dataset.
    problems
        Findings of ``find_cases``: if there are any, no case is read.
    workers
        Processes that read.
    """
    check = functools.partial(check_case, labels=labels, reader=reader)
    found = () if problems else workers.map(check, cases, description="checking")  # which takes minutes
    raise_problems([*problems, *(problem for problem in found if problem is not None)])


def raise_problems(problems: Sequence[str]) -> None:
    """Raise one ``ValueError`` that lists all that is wrong, if anything is."""
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ValueError(f"nothing was computed, because of these problems:\n{lines}")


def _evaluation(
    results: Sequence[SetResults],
    sets: Sequence[CaseSet],
    settings: CaseSettings,
    patients: Mapping[str, str] | None,
    applied: AppliedDecisions | None,
) -> Evaluation:
    labels, convention = settings.labels, settings.convention
    known, *shifts = results
    measures, case = common_measures(sets), sets[0].cases[0]
    drawn = resample(results, convention, patients=patients)
    tasks, left_out = compute_tasks(
        results,
        convention,
        num_samples=len(case.samples),
        calibrated=settings.calibration is not None,
        raters=bool(case.raters),
        applied=applied,
        patients=patients,
        weights=drawn.weights,
    )
    for task in TASKS:
        if settings.calibration is not None and task.name in tasks and "calibration" in task.needs:
            left_out |= {
                f"{task.name}/{what}": reason
                for what, reason in settings.calibration.left_out.items()
                if what != "decisions"  # which these tasks do not need
            }
    if measures:
        # A deterministic network has the total alone.
        left_out |= {measure: f"no {FOLDERS[measure]} maps" for measure in MEASURES if measure not in measures}
    delta = entanglement_of_tasks(tasks, drawn) if measures == MEASURES else {}
    if not delta:
        *others, last = (task.name for task in RANKED)
        listed = f"{', '.join(others)} and {last}"
        left_out["delta"] = f"it needs all three maps, and one of {listed}"
    summary = {
        "conventions": {
            **CONVENTIONS,
            "nsd": f"{CONVENTIONS['nsd']}; tolerance {settings.tolerance_mm:g} mm",
            **describe_convention(convention),
        },
        "convention": convention.name,
        "num_bins": convention.num_bins,
        "nsd_tolerance_mm": settings.tolerance_mm,
        "num_cases": len(known.cases),
        "num_raters": len(case.raters),
        "results": summarise(known, labels, convention),
        "set_results": {shift.name: found for shift in shifts if (found := summarise(shift, labels, convention))},
        "tasks": tasks,
        "left_out": left_out,
        "degenerate_samples": {found.name: found.degenerate_samples for found in results if found.degenerate_samples},
        "spread": {found.name: dict(found.spread) for found in results if found.spread},
        "delta": delta,
        "intervals": summary_intervals(tasks, drawn, labels),
        "bootstrap": describe_bootstrap({found.name: found.cases for found in results}, patients),
    }
    curves = {
        "reliability": {
            found.name: {
                group: {name: bins_to_json(bins) for name, bins in classes.items()}
                for group, classes in found.reliability.items()
            }
            for found in results
        },
        "confidence": {
            found.name: {
                measure: bins_to_json(bins)
                for measure in found.confidence
                if (bins := found.pooled_confidence(measure)) is not None
            }
            for found in results
        },
        "num_bins": {"reliability": convention.num_bins, "confidence": CONFIDENCE_BINS},
    }
    tables = {
        name: pd.concat([getattr(found, name) for found in results], ignore_index=True)
        for name in ("rows", "images", "scores")
    }
    return Evaluation(**tables, reliability=known.reliability, curves=curves, summary=to_json(summary))


def _recorded(case_set: CaseSet, folder: Path, applied: AppliedDecisions | None) -> list[RecordedCase]:
    return [
        RecordedCase(
            files,
            folder / case_set.name / f"{files.name}.json",
            None if applied is None else applied.predicted(case_set.name, files.name),
        )
        for files in case_set.cases
    ]


def _records(cases: Sequence[RecordedCase], settings: CaseSettings) -> Iterator[dict[str, Any]]:
    for case in cases:
        record = read_record(case, settings)
        if record is None:
            raise ValueError(
                f"{case.path} does not belong to the files of {case.files.name}: they changed while they were "
                "evaluated; run the command again when nothing writes to them"
            )
        yield record
