"""Many evaluated runs -> one table of values and ranks, what is missing in it, and means over seeds.

A task's performance is that of the measure which theory names for it, and Δ compares it with the wrong measure
("Rethinking Uncertainty Quantification and Entanglement in Image
Segmentation", Eq. 2 and section 4). Ranks and their means are those of ``ranking``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nnunet_stochastic.conventions import Ace, Convention, find_convention
from nnunet_stochastic.evaluation.borders import WITH_BORDER, describe_images_without_border
from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.entrants import UNDECOMPOSED, failures, is_possible
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.evaluated_runs import check_comparable
from nnunet_stochastic.evaluation.model import model_title
from nnunet_stochastic.evaluation.ranking import (
    ALL_DATASETS,
    DELTA,
    MODEL,
    RUN,
    add_ranks,
    best_models,
    mean_ranks,
    over_seeds,
)
from nnunet_stochastic.evaluation.tasks import CALIBRATION_ERROR, OUT_OF_DISTRIBUTION, TASKS, Task

__all__ = ["ALL", "Comparison", "Quantity", "compare", "quantities", "quantity_name"]

ALL = "all"


@dataclass(frozen=True)
class Quantity:
    """A number of summary.json: where it is, and whether a larger (1) or smaller (-1) one ranks better; 0: no rank."""

    task: str
    split: str
    name: str
    direction: int
    path: tuple[str, ...]


def quantity_name(task: Task) -> str:
    """What is compared of a task without variants in tables: the metric, of the task's own measure if it has one."""
    return f"{task.right} {task.metric}" if task.is_ranked else task.metric


def quantities(convention: Convention, variants: Mapping[str, str] | None = None) -> tuple[Quantity, ...]:
    """What is compared: quality of the segmentation, performance and Δ of the ranked tasks, and plain numbers.

    Parameters
    ----------
    convention
        The preset.
    variants
        Names of the variants by which models are ranked, by name of the task; tasks that are not named have the
        convention's.
    """
    tasks = {task: list(_of_task(task, convention, (variants or {}).get(task.name, ""))) for task in TASKS}
    return (
        Quantity("segmentation", ID, "Dice", 0, ("results", "mean", "dice")),
        Quantity("segmentation", ID, "NLL", 0, ("results", "mean", "nll")),
        Quantity("segmentation", ID, "ECE", 0, ("results", "dataset", "ece")),
        Quantity("segmentation", ID, "MCE", 0, ("results", "dataset", "mce")),
        *(quantity for task, found in tasks.items() if task.is_quality for quantity in found),
        *(quantity for task, found in tasks.items() if not task.is_quality for quantity in found),
    )


def _of_task(task: Task, convention: Convention, variant: str) -> Iterator[Quantity]:
    """A task's quantities; where it is ranked, its performance by its own measure and its Δ in each split."""
    place = (task.name, variant) if variant else (task.name,)
    if task.right is not None:
        for split in task.splits or ("",):
            path, where = ((*place, split), split) if split else (place, "ID and OOD")
            yield Quantity(task.name, where, quantity_name(task), task.direction, ("tasks", *path, task.right))
            yield Quantity(task.name, where, DELTA, 1, ("delta", *path, "value"))
        return
    for split in task.compared:
        if shown := task.variants_in_tables(task.variant_of(convention)):
            for each in shown:
                yield Quantity(task.name, split, task.variant_name(each), 0, ("tasks", task.name, each, split))
        else:
            yield Quantity(task.name, split, quantity_name(task), 0, ("tasks", *place, split))


@dataclass(frozen=True)
class Comparison:
    """Result of ``compare``.

    Attributes
    ----------
    values
        A row per run and quantity: ``dataset, seed, aleatoric, epistemic, task, split, quantity, value, rank``.
    ranks
        Means of ranks over splits, tasks and seeds (Table 2): ``dataset, aleatoric, epistemic, criterion, task, mean,
        half_width, sd, num_seeds``.
    best
        Models of each dataset, criterion and task from the best on (Table 3), as ``ranking.best_models`` gives them.
    performance
        Means of the values over seeds: ``dataset, aleatoric, epistemic, task, split, quantity, mean, half_width, sd,
        num_seeds``. A folder that is the run of several seeds counts once: it says nothing of how results vary.
    missing
        Values that are not there, and why: ``dataset, seed, aleatoric, epistemic, task, split, reason``; ``all`` where
        it is missing in all runs of a dataset.
    undecomposed
        (aleatoric, epistemic) of the models without AU and EU, which are in no ranks.
    impossible
        Combinations (aleatoric, epistemic) of the methods that were given which there are not; they are not missing.
    failed
        Under (dataset, aleatoric, epistemic), why the segmentation of a model has failed, in words. Such a model is in
        no ranks and is never the best.
    stand_ins
        Under (dataset, aleatoric, epistemic), also with the dataset ``ranking.ALL_DATASETS``: whether the EU of some
        run is that of one member's aleatoric samples, not to be read as epistemic uncertainty; ``None``: not known.
    spread
        Numbers of ``case_spread`` by model, (dataset, aleatoric, epistemic), mean over its runs; those of the raters
        are the same for all models of a dataset.
    notes
        Remarks that a reader of the tables must know.
    convention
        The preset of all runs.
    """

    values: pd.DataFrame
    ranks: pd.DataFrame
    best: pd.DataFrame
    performance: pd.DataFrame
    missing: pd.DataFrame
    undecomposed: frozenset[tuple[str, str]]
    impossible: frozenset[tuple[str, str]]
    failed: Mapping[tuple[str, str, str], str]
    stand_ins: Mapping[tuple[str, str, str], bool | None]
    spread: Mapping[tuple[str, str, str], Mapping[str, float]]
    notes: tuple[str, ...]
    convention: Convention


def compare(runs: Sequence[EvaluatedRun], *, ace: Mapping[str, Ace] | None = None) -> Comparison:
    """Rank runs by performance and entanglement.

    Parameters
    ----------
    runs
        Result of ``read_runs``, at least 2. A run without members and without AU and EU, such as softmax with no
        epistemic method, is in no rank.
    ace
        Which ACE ranks the calibration on a dataset: the mean over its images, or that of all of them together.
        Datasets that are not named have that of the convention.

    Raises
    ------
    ValueError
        The runs differ in conventions, or those of a dataset in cases or raters; ``ace`` names another dataset.
    """
    check_comparable(runs)
    convention, ace = find_convention(runs[0].summary["convention"]), ace or {}
    if unknown := sorted(ace.keys() - {run.dataset for run in runs}):
        raise ValueError(
            f"the ACE is chosen for {', '.join(unknown)}, of which there is no run; name some of "
            f"{', '.join(sorted({run.dataset for run in runs}))}"
        )
    compared = {}
    for dataset in {run.dataset: None for run in runs}:
        variants = {CALIBRATION_ERROR.name: ace[dataset]} if dataset in ace else {}
        compared[dataset] = quantities(convention, variants)
    runs = sorted(runs, key=lambda run: run.key)  # results do not depend on the order in which folders were named
    undecomposed = {run.key[2:] for run in runs if not _is_ranked(run)}
    failed = _failed_models(runs)
    values = add_ranks(
        pd.DataFrame([_row(run, quantity, failed) for run in runs for quantity in compared[run.dataset]])
    )
    columns = [*RUN, "task", "split", "quantity", "value", "rank"]
    ranks = over_seeds(mean_ranks(values), "rank")
    once = {run.folder.resolve(): run.key for run in runs}.values()
    performance = values[(values["quantity"] != DELTA) & pd.MultiIndex.from_frame(values[list(RUN)]).isin(once)]
    return Comparison(
        values=values[columns],
        ranks=ranks,
        best=best_models(ranks),
        performance=over_seeds(performance.drop(columns=["rank", "direction"]), "value"),
        missing=pd.DataFrame(
            [*_missing_runs(runs), *_missing_values(runs, compared)], columns=[*RUN, "task", "split", "reason"]
        ),
        undecomposed=frozenset({*UNDECOMPOSED, *undecomposed}),
        impossible=frozenset(model for model in _combinations(runs) if not is_possible(*model, runs)),
        failed=failed,
        stand_ins=_stand_ins(runs),
        spread=_spread(runs),
        notes=(*_notes(runs, ace), *_border_notes(runs)),
        convention=convention,
    )


def _is_ranked(run: EvaluatedRun) -> bool:
    return run.epistemic != "none" or run.is_decomposed


def _failed_models(runs: Sequence[EvaluatedRun]) -> dict[tuple[str, str, str], str]:
    """A model has failed where a seed of it has: the mean of ranks over the others would hide that."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for run, reason in failures(runs).items():
        seed = f"seed {run.seed}: " if run.seed else ""
        reasons.setdefault((run.dataset, run.aleatoric, run.epistemic), []).append(seed + reason)
    return {model: "; ".join(found) for model, found in reasons.items()}


def _row(run: EvaluatedRun, quantity: Quantity, failed: Mapping[tuple[str, str, str], str]) -> dict[str, object]:
    competes = _is_ranked(run) and (run.dataset, run.aleatoric, run.epistemic) not in failed
    return {
        **dict(zip(RUN, run.key, strict=True)),
        "task": quantity.task,
        "split": quantity.split,
        "quantity": quantity.name,
        "value": _value(run, quantity),
        "direction": quantity.direction if competes else 0,
    }


def _value(run: EvaluatedRun, quantity: Quantity) -> float:
    root, *path = quantity.path
    if root == "results":  # those over all classes, against the raters where there are any
        kind, metric = path
        return run.quality(metric, of_dataset=kind == "dataset")
    return run.number(root, *path)


def _stand_ins(runs: Sequence[EvaluatedRun]) -> dict[tuple[str, str, str], bool | None]:
    said: dict[tuple[str, str, str], set[bool | None]] = {}
    for run in runs:
        for dataset in (run.dataset, ALL_DATASETS):
            said.setdefault((dataset, run.aleatoric, run.epistemic), set()).add(run.epistemic_is_stand_in)
    return {model: True if True in found else None if None in found else False for model, found in said.items()}


def _combinations(runs: Sequence[EvaluatedRun]) -> list[tuple[str, str]]:
    return sorted({(one.aleatoric, other.epistemic) for one in runs for other in runs})


def _missing_runs(runs: Sequence[EvaluatedRun]) -> list[dict[str, str]]:
    """Possible combinations of the methods and, per dataset, of the seeds that were given, without a result."""
    present = {run.key for run in runs}
    groups = sorted({run.key[:2] for run in runs})
    models = [model for model in _combinations(runs) if is_possible(*model, runs)]
    return [
        {**dict(zip(RUN, (*group, *model), strict=True)), "task": ALL, "split": ALL, "reason": "no result was given"}
        for group in groups
        for model in models
        if (*group, *model) not in present
    ]


def _spread(runs: Sequence[EvaluatedRun]) -> dict[tuple[str, str, str], dict[str, float]]:
    """Means over the folders of a model, each once."""
    tables: dict[tuple[str, str, str], dict[Path, Mapping[str, float]]] = {}
    for run in runs:
        folders = tables.setdefault((run.dataset, run.aleatoric, run.epistemic), {})
        folders[run.folder.resolve()] = run.summary.get("spread", {}).get(ID, {})
    means = {model: pd.DataFrame(list(folders.values())).mean() for model, folders in tables.items()}
    return {model: {str(name): float(value) for name, value in found.items()} for model, found in means.items()}


def _missing_values(runs: Sequence[EvaluatedRun], compared: Mapping[str, Sequence[Quantity]]) -> list[dict[str, str]]:
    """Quantities without a value, of the runs that are ranked; Δ only where the performance is there."""
    rows = []
    for dataset, of_dataset in sorted(compared.items()):
        members = [run for run in runs if run.dataset == dataset and _is_ranked(run)]
        for quantity in of_dataset:
            without = [run for run in members if _lacks(run, quantity, of_dataset)]
            reasons = {run.key: _reason(run, quantity) for run in without}
            place = {"task": quantity.task, "split": quantity.split}
            if without and len(without) == len(members):
                every = {"seed": ALL, **dict.fromkeys(MODEL, ALL)}
                reason = "; ".join(dict.fromkeys(reasons.values()))
                rows.append({"dataset": dataset, **every, **place, "reason": reason})
            else:
                rows += [
                    {**dict(zip(RUN, key, strict=True)), **place, "reason": reason} for key, reason in reasons.items()
                ]
    return rows


def _lacks(run: EvaluatedRun, quantity: Quantity, compared: Sequence[Quantity]) -> bool:
    if not math.isnan(_value(run, quantity)):
        return False
    if quantity.name == DELTA:
        own = next(other for other in compared if (other.task, other.split) == (quantity.task, quantity.split))
        return not math.isnan(_value(run, own))
    return True


def _reason(run: EvaluatedRun, quantity: Quantity) -> str:
    """What the evaluation says of the task, or of the sets of the split, else that there is no number."""
    left_out = run.summary["left_out"]
    sets = [ID] if quantity.split == ID else sorted(run.cases.keys() - {ID})
    names = (quantity.name, quantity.task, *(f"{quantity.task}/{each}" for each in sets))  # Δ: left_out["delta"]
    said = [left_out[name] for name in names if name in left_out]
    if not said and not sets:
        said = ["no -ood set was given"]
    return "; ".join(dict.fromkeys(said)) or f"{quantity.name} has no value"


def _border_notes(runs: Sequence[EvaluatedRun]) -> Iterator[str]:
    """The AUROC of a run with images without a predicted border once more, without them."""
    task = OUT_OF_DISTRIBUTION
    for run in runs:
        if text := describe_images_without_border(run):
            area = run.task(task.name, WITH_BORDER, str(task.right))
            seed = f", seed {run.seed}" if run.seed else ""
            without = "none is left without them" if math.isnan(area) else f"without them {area:.3f}"
            model = model_title(run.aleatoric, run.epistemic)
            yield f"{quantity_name(task)} of {model} in {run.dataset}{seed}: {text}; {without}."


def _notes(runs: Sequence[EvaluatedRun], ace: Mapping[str, Ace]) -> Iterator[str]:
    """What is compared all the same, with care: numbers of samples fall with their count, and are in no rank."""
    for dataset, chosen in sorted(ace.items()):
        yield f"ACE of {dataset} is {CALIBRATION_ERROR.variants[chosen]}."
    for dataset in sorted({run.dataset for run in runs}):
        for task in TASKS:
            if not (task.compared and "samples" in task.needs):
                continue
            counts = {run.entry(task.name).get("num_samples") for run in runs if run.dataset == dataset}
            if len(known := sorted(count for count in counts if count is not None)) > 1:
                numbers = f"different numbers of samples ({', '.join(map(str, known))})"
                yield f"{task.name} of {dataset} comes from {numbers}, on which it depends."
