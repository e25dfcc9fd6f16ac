"""Evaluation folders -> the runs that a comparison is made of, checked to be comparable.

A run is (dataset, aleatoric method, epistemic method, seed), as summary.json has it under ``model`` or as the user
says. Runs are comparable when they were evaluated in the same way and, within a dataset, on the same cases.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun, read_summary
from nnunet_stochastic.evaluation.model import model_title, named_as_said
from nnunet_stochastic.evaluation.ranking import RUN
from nnunet_stochastic.evaluation.tasks import RANKED, TASKS, Task
from nnunet_stochastic.io.tables import read_csv_table

__all__ = ["check_comparable", "read_overrides", "read_runs"]

NEEDED = ("convention", "delta", "left_out", "model", "num_bins", "num_cases", "num_raters", "results", "tasks")
RUNS_HINT = "name the runs in a table: --runs runs.csv with the columns folder, " + ", ".join(RUN)


def read_overrides(path: Path) -> dict[Path, list[dict[str, str]]]:
    """Read a table of runs: what each folder's run is, where summary.json does not say it or says it otherwise.

    A folder with several rows is as many runs: an ensemble of the networks of all seeds, in the ranking of each seed.

    Parameters
    ----------
    path
        CSV with the column ``folder`` (relative to the table's own folder, or absolute) and any of ``dataset``,
        ``seed``, ``aleatoric``, ``epistemic``. An empty cell keeps what summary.json says.
    """
    remedy = f"name a table with the column folder and any of {', '.join(RUN)}"
    table = read_csv_table(path, ["folder"], remedy=remedy)
    if unknown := [column for column in table.header if column not in ("folder", *RUN)]:
        raise ValueError(f"{path}: the header has {unknown[0][:60]!a}, which is not known; {remedy}")
    overrides: dict[Path, list[dict[str, str]]] = {}
    for number, row in table.rows():
        if not (folder := row.pop("folder")):
            raise ValueError(f"{path}: line {number} has no folder; {remedy}")
        named = {name: text for name, text in row.items() if text}
        overrides.setdefault((path.parent / folder).resolve(), []).append(named)
    return overrides


def read_runs(
    folders: Sequence[Path], overrides: Mapping[Path, Sequence[Mapping[str, str]]] | None = None
) -> list[EvaluatedRun]:
    """Read evaluation folders.

    Parameters
    ----------
    folders
        Output folders of ``nnunet_stochastic_evaluate``.
    overrides
        Result of ``read_overrides``; every folder in it must be one of ``folders``, and is a run per row.

    Raises
    ------
    ValueError
        A folder is none of evaluation, a run is not known or there twice; one message lists all that is wrong.
    """
    overrides = overrides or {}
    if strangers := sorted(map(str, overrides.keys() - {folder.resolve() for folder in folders})):
        raise ValueError(f"the table of runs names folders that are not compared: {', '.join(strangers)}")
    runs: list[EvaluatedRun] = []
    problems = []
    for folder in folders:
        try:
            runs += [_read_run(folder, row) for row in overrides.get(folder.resolve(), [{}])]
        except (ValueError, OSError) as error:
            problems.append(str(error))
    first: dict[tuple, EvaluatedRun] = {}
    for run in runs:
        if (other := first.setdefault(run.key, run)) is not run:
            name = ", ".join(f"{label} {text or 'unknown'}" for label, text in zip(RUN, run.key, strict=True))
            problems.append(f"{other.folder} and {run.folder} are the same run ({name}); leave out one, or {RUNS_HINT}")
    for dataset in sorted({run.dataset for run in runs}):
        members = [run for run in runs if run.dataset == dataset]
        unknown = [str(run.folder) for run in members if not run.seed]
        if 0 < len(unknown) < len(members):
            problems.append(
                f"{dataset}: the seed is known for other runs, but not for {', '.join(unknown)}; {RUNS_HINT}"
            )
    _raise(problems, "these results cannot be compared")
    return runs


def check_comparable(runs: Sequence[EvaluatedRun]) -> None:
    """Raise one ValueError that lists differences of conventions and, within a dataset, of cases and raters."""
    if len(runs) < 2:
        raise ValueError(f"a comparison needs at least 2 evaluation folders, got {len(runs)}")
    problems: list[str] = []
    problems += _differences(runs, "conventions", lambda run: run.summary["convention"])
    problems += _differences(runs, "numbers of bins", lambda run: run.summary["num_bins"])
    compared = [task for task in TASKS if task.is_ranked or task.compared]
    for task in compared:
        if task.setting:
            problems += _differences(runs, f"{task.setting}s of {task.name}", partial(_setting, task=task))
    for dataset in sorted({run.dataset for run in runs}):
        members = [run for run in runs if run.dataset == dataset]
        problems += _differences(members, f"numbers of raters in {dataset}", lambda run: run.summary["num_raters"])
        for aleatoric, epistemic in sorted({(run.aleatoric, run.epistemic) for run in members}):
            of_model = [run for run in members if (run.aleatoric, run.epistemic) == (aleatoric, epistemic)]
            what = f"training data of the folds of {model_title(aleatoric, epistemic)} in {dataset}"
            problems += _differences(of_model, what, _data_of_folds)
        # A run without shifts lacks tasks, which is no contradiction; means over other shifts are.
        problems += _differences(members, f"shifts in {dataset}", lambda run: frozenset(run.cases) - {ID} or None)
        for task in RANKED:
            shifts = partial(_shifts, task=task)
            problems += _differences(members, f"shifts of {task.name} in {dataset}", shifts)
        for name in sorted({name for run in members for name in run.cases}):
            problems += _differences(members, f"cases of {name} in {dataset}", partial(_cases, name=name))
    _raise(problems, "ranks of these results would mix what is not comparable")


def _read_run(folder: Path, override: Mapping[str, str]) -> EvaluatedRun:
    path = folder / "summary.json"
    for file in (path, folder / "images.csv"):
        if not file.is_file():
            raise ValueError(f"{folder} has no {file.name}; name an output folder of nnunet_stochastic_evaluate")
    summary = read_summary(path, NEEDED)
    known = {name: "" if (value := summary["model"].get(name)) is None else str(value) for name in RUN}
    named = named_as_said(known, override, path)
    if unknown := [name for name in RUN if not named[name] and name != "seed"]:
        raise ValueError(f"{path} does not say the {' and '.join(unknown)} of its model; {RUNS_HINT}")
    run = EvaluatedRun(folder, **named, summary=summary)
    _ = run.cases  # read now, so that what is wrong with the table is found here
    return run


def _differences(
    runs: Sequence[EvaluatedRun], what: str, value_of: Callable[[EvaluatedRun], Hashable | None]
) -> Iterator[str]:
    """One line if the runs that have the property differ in it; None is a run without."""
    first: dict[Hashable, EvaluatedRun] = {}
    for run in runs:
        if (value := value_of(run)) is not None:
            first.setdefault(value, run)
    if len(first) > 1:
        (one, run), (two, other) = list(first.items())[:2]
        mine, theirs = str(one), str(two)
        if isinstance(one, frozenset) and isinstance(two, frozenset):
            mine, theirs = _side(one, two), _side(two, one)
        yield f"different {what}: {mine} in {run.folder}, {theirs} in {other.folder}"


def _side(mine: frozenset[str], theirs: frozenset[str]) -> str:
    """How a set differs from another, in few words."""
    alone = sorted(mine - theirs)
    return (
        f"{len(mine)} ({', '.join(alone[:3])}{', …' if len(alone) > 3 else ''} here alone)" if alone else f"{len(mine)}"
    )


def _data_of_folds(run: EvaluatedRun) -> str | None:
    """Whether the folds of a run were trained on the same cases, where that is known and there are several."""
    data = run.summary["model"].get("training_data_of_folds")
    return None if data == "unknown" else data


def _setting(run: EvaluatedRun, *, task: Task) -> str | None:
    return run.entry(task.name).get(task.setting)


def _shifts(run: EvaluatedRun, *, task: Task) -> frozenset[str] | None:
    return frozenset(run.entry(task.name).get("shifts", ())) or None


def _cases(run: EvaluatedRun, *, name: str) -> frozenset[str] | None:
    return run.cases.get(name)


def _raise(problems: Sequence[str], heading: str) -> None:
    if problems:
        raise ValueError(f"{heading}:\n" + "\n".join(f"  {problem}" for problem in problems))
