"""The evaluation folders of a page, read whole, under labels that tell the models apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun, read_summary
from nnunet_stochastic.evaluation.maps import MEASURES
from nnunet_stochastic.evaluation.model import model_title, named_as_said

__all__ = ["read_result", "read_results"]

NEEDED_FILES = ("summary.json", "images.csv", "scores.csv", "curves.json")
NEEDED_KEYS = (
    *("model", "convention", "conventions", "num_cases", "folders"),
    *("results", "tasks", "left_out", "delta"),
)
NEEDED_COLUMNS = ("set", "case", "risk", *MEASURES)


def read_results(
    folders: Sequence[Path], overrides: Mapping[Path, Sequence[Mapping[str, str]]] | None = None
) -> list[EvaluatedRun]:
    """Read evaluation folders, in the order given, under labels that tell them apart.

    Parameters
    ----------
    folders
        Output folders of ``nnunet_stochastic_evaluate``.
    overrides
        Result of ``read_overrides``: which runs a folder is. Folders that are not read do not matter.

    Raises
    ------
    ValueError
        A folder is named twice, or its files are not of the form that the evaluate command writes.
    """
    if not folders:
        raise ValueError("no evaluation folder was given; name an output folder of nnunet_stochastic_evaluate")
    twice = [str(folder) for folder, times in Counter(folder.resolve() for folder in folders).items() if times > 1]
    if twice:
        raise ValueError(f"these evaluation folders were given twice: {', '.join(twice)}; give each of them once")
    results = [read_result(folder, (overrides or {}).get(folder.resolve(), ())) for folder in folders]
    for distinguish in (
        lambda result: f"{result.label}, seed {result.seed or 'unknown'}",
        lambda result: f"{result.label}, {result.dataset}",
        lambda result: f"{result.label}, {result.folder}",
    ):
        times = Counter(result.label for result in results)
        results = [
            replace(result, label=distinguish(result)) if times[result.label] > 1 else result for result in results
        ]
    return results


def read_result(folder: Path, runs: Sequence[Mapping[str, str]] = ()) -> EvaluatedRun:
    """Read one evaluation folder.

    Parameters
    ----------
    folder
        The folder.
    runs
        Which runs it is, where its summary.json does not say it or says it otherwise: dataset, seed, aleatoric,
        epistemic. What several runs differ in, such as the seeds of an ensemble's networks, is not taken over.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        A file is not what the evaluate command writes.
    """
    missing = [name for name in NEEDED_FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)}; it must be an output folder of nnunet_stochastic_evaluate; "
            "evaluate the predictions (again) and name its -o folder"
        )
    summary = read_summary(folder / "summary.json", NEEDED_KEYS)
    said = dict(set.intersection(*(set(run.items()) for run in runs))) if runs else {}
    model = named_as_said(summary["model"], said, folder / "summary.json")
    seed = model.get("seed")
    run = EvaluatedRun(
        folder,
        dataset=model.get("dataset") or "unknown",
        seed="" if seed is None else str(seed),
        aleatoric=model.get("aleatoric") or "unknown",
        epistemic=model.get("epistemic") or "unknown",
        summary=summary,
        label=_label(model) or folder.resolve().parent.name,
    )
    if absent := [column for column in NEEDED_COLUMNS if column not in run.images]:
        raise ValueError(
            f"{folder / 'images.csv'} lacks the columns {', '.join(absent)}; run nnunet_stochastic_evaluate again"
        )
    # All is read now, so that what is wrong with a file is found before anything is drawn.
    _ = run.scores, run.reliability, run.confidence, run.sets
    return run


def _label(model: Mapping[str, Any]) -> str:
    """The model's name as tables have it; empty where nothing is known of it."""
    if not (model.get("aleatoric") or model.get("epistemic")):
        return ""
    return model_title(model.get("aleatoric") or "unknown", model.get("epistemic") or "unknown")
