"""A study as jobs: which commands there are, what they need, and what is there when they are done.

convert > plan > train > predict > calibrate > evaluate > compare, report
               > sets  >
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_stochastic.study.checks import Folders
from nnunet_stochastic.study.dataset_jobs import DatasetJobs, seed_label, seeds_of
from nnunet_stochastic.study.description import Study
from nnunet_stochastic.study.job import Command, Job, Key

__all__ = ["PlannedEvaluation", "all_jobs", "evaluations_of", "final_jobs"]


@dataclass(frozen=True)
class PlannedEvaluation:
    """An evaluation: of which model, of which seeds (all for an ensemble), where it is, and the dataset's ``ace``."""

    dataset: str
    aleatoric: str
    epistemic: str
    seeds: tuple[int, ...]
    folder: Path
    job: Key
    ace: str | None = None


def all_jobs(study: Study, folders: Folders, environment: Mapping[str, str]) -> dict[Key, Job]:
    """All jobs but the final ones, in an order in which each comes after those that it needs.

    Parameters
    ----------
    study
        The study.
    folders
        Folders of nnU-Net.
    environment
        Values of the variables in ``convert``.
    """
    jobs: dict[Key, Job] = {}
    for dataset in study.datasets:
        jobs |= {job.key: job for job in DatasetJobs(study, dataset, folders, environment).all()}
    return jobs


def evaluations_of(study: Study, folders: Folders) -> list[PlannedEvaluation]:
    """All evaluations of the study."""
    evaluations = []
    for dataset in study.datasets:
        name = folders.name_of(dataset.dataset) or dataset.dataset
        for model, method in dataset.models:
            for seeds in seeds_of(dataset, method):
                label = f"{name}/{model.name}/{method}/{seed_label(seeds)}"
                folder = study.output / "evaluations" / label
                evaluations.append(
                    PlannedEvaluation(name, model.name, method, seeds, folder, ("evaluate", label), dataset.ace)
                )
    return evaluations


def final_jobs(study: Study, results: Sequence[PlannedEvaluation]) -> list[Job]:
    """Comparison and report of the evaluations that are there.

    Parameters
    ----------
    study
        The study.
    results
        Evaluations of the study; one alone is not compared.
    """
    jobs = []
    needs = tuple(result.job for result in results)
    runs, comparison = study.output / "runs.csv", study.output / "comparison"
    table = _runs_table(results, study.output)
    if len(results) > 1:
        chosen = dict.fromkeys(f"{result.dataset}={result.ace}" for result in results if result.ace is not None)
        ace = ("--ace", *chosen) if chosen else ()
        command = Command(("nnunet_stochastic_compare", "--runs", str(runs), "-o", str(comparison), *ace))
        products = (comparison / "comparison.csv", runs)
        jobs.append(Job("compare", "comparison", (command,), needs, products, comparison, ((runs, table),)))
    if results:
        first: dict[tuple[str, str, str], PlannedEvaluation] = {}
        for result in results:
            first.setdefault((result.dataset, result.aleatoric, result.epistemic), result)
        page = study.output / "report.html"
        options = ("--title", study.name, "--viewer_cases", str(study.viewer_cases), "--disable_progress_bar")
        threads = ("-np", str(study.resource("report", "threads")))
        shown = tuple(str(result.folder) for result in first.values())
        named = ("--runs", str(runs))
        command = Command(("nnunet_stochastic_report", *shown, *named, "-o", str(page), *options, *threads))
        jobs.append(Job("report", "report", (command,), needs, (page,), files=((runs, table),)))
    return jobs


def _runs_table(results: Sequence[PlannedEvaluation], output: Path) -> str:
    """The table of nnunet_stochastic_compare --runs; an ensemble is a run of every seed."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("folder", "dataset", "seed", "aleatoric", "epistemic"))
    for result in results:
        folder = result.folder.relative_to(output).as_posix()
        table.writerows((folder, result.dataset, seed, result.aleatoric, result.epistemic) for seed in result.seeds)
    return text.getvalue()
