"""What nnunet_stochastic_evaluate wrote, as plain data: one ``Result`` per evaluation folder.

A folder holds summary.json (tasks, Δ, what was left out and why), images.csv and scores.csv (a row per image, and per
image and measure) and curves.json (bins of the reliability diagrams). Nothing is computed again here.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_stochastic.evaluation.case_sets import ID, SetFolders
from nnunet_stochastic.evaluation.conventions import Convention, find_convention
from nnunet_stochastic.evaluation.maps import MEASURES, Measure
from nnunet_stochastic.evaluation.model import stand_in_mark
from nnunet_stochastic.evaluation.records import bins_from_json
from nnunet_stochastic.evaluation.tasks import check_distances_are_named
from nnunet_stochastic.metrics import ReliabilityBins

__all__ = ["Result", "number", "read_result", "read_results"]

NEEDED_FILES = ("summary.json", "images.csv", "scores.csv", "curves.json")
NEEDED_KEYS = ("model", "convention", "folders", "results", "tasks", "left_out", "delta")


@dataclass(frozen=True)
class Result:
    """One evaluated model.

    Attributes
    ----------
    label
        Name of the model, unique among the results of a page.
    folder
        The evaluation folder.
    dataset, aleatoric, epistemic
        As in summary.json; "unknown" where it does not say.
    seed
        Of the prediction, or ``None``.
    summary
        summary.json.
    images
        A row per set and case: set, case, dice, risk, ged_iou, ged_dice, ged_pooled_dice, AU, EU, TU (nats, image
        means), ratio, volume_ml.
    scores
        A row per set, case and measure: five image scores, ncc, ace.
    reliability
        Bins of the predicted probabilities per set, annotation group and class.
    confidence
        Bins of the confidences made of the uncertainties per set and measure.
    sets
        Folders of each case set, "ID" first.
    """

    label: str
    folder: Path
    dataset: str
    aleatoric: str
    epistemic: str
    seed: int | str | None
    summary: Mapping[str, Any]
    images: pd.DataFrame
    scores: pd.DataFrame
    reliability: Mapping[str, Mapping[str, Mapping[str, ReliabilityBins]]]
    confidence: Mapping[str, Mapping[str, ReliabilityBins]]
    sets: Mapping[str, SetFolders]

    @property
    def mark(self) -> str:
        """What stands behind EU, and behind EU/AU and Δ, which are made of it."""
        return stand_in_mark(self.summary["model"])

    def measure_name(self, measure: Measure) -> str:
        """AU, EU or TU with that mark."""
        return f"{measure}{self.mark}" if measure == "EU" else measure

    @property
    def shifts(self) -> list[str]:
        """Names of the out-of-distribution sets."""
        return [name for name in self.sets if name != ID]

    @property
    def convention(self) -> Convention:
        """The preset it was evaluated with."""
        return find_convention(self.summary["convention"])

    @property
    def aggregation(self) -> str:
        """How a map became the score of an image, for OOD and failure detection; a column of ``scores``."""
        return self.convention.aggregation

    def image_scores(self, name: str, measure: str) -> pd.Series:
        """Those scores of a set, under the cases' names; images without one are left out."""
        rows = self.scores[(self.scores["set"] == name) & (self.scores["measure"] == measure)]
        return rows.set_index("case")[self.aggregation].dropna()

    def task(self, *path: str) -> float:
        """A number below ``tasks`` of summary.json, such as ``task("OODD", "EU")``; NaN where there is none."""
        return number(self.summary["tasks"], *path)

    def quality(self, metric: str, *, of_dataset: bool = False) -> float:
        """Dice, nll, ece … of the ID set over all classes, against the raters where there are any."""
        results = self.summary["results"]
        group = "raters" if "raters" in results else "reference"
        return number(results, group, "all classes", "dataset" if of_dataset else "mean", metric)


def number(tree: Mapping[str, Any], *path: str) -> float:
    """The number at a path of nested mappings; NaN where the path ends early or holds ``null``."""
    node: Any = tree
    for key in path:
        if not isinstance(node, Mapping) or key not in node:
            return math.nan
        node = node[key]
    return math.nan if node is None or isinstance(node, Mapping) else float(node)


def read_results(
    folders: Sequence[Path], overrides: Mapping[Path, Sequence[Mapping[str, str]]] | None = None
) -> list[Result]:
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
        raise ValueError("No evaluation folder was given; name an output folder of nnunet_stochastic_evaluate.")
    twice = [str(folder) for folder, times in Counter(folder.resolve() for folder in folders).items() if times > 1]
    if twice:
        raise ValueError(f"These evaluation folders were given twice: {', '.join(twice)}. Give each of them once.")
    results = [read_result(folder, (overrides or {}).get(folder.resolve(), ())) for folder in folders]
    for distinguish in (
        lambda result: f"{result.label}, seed {result.seed}",
        lambda result: f"{result.label}, {result.dataset}",
        lambda result: f"{result.label}, {result.folder}",
    ):
        times = Counter(result.label for result in results)
        results = [
            replace(result, label=distinguish(result)) if times[result.label] > 1 else result for result in results
        ]
    return results


def read_result(folder: Path, runs: Sequence[Mapping[str, str]] = ()) -> Result:
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
            f"{folder} lacks {', '.join(missing)}; it must be an output folder of nnunet_stochastic_evaluate. "
            "Evaluate the predictions (again) and name its -o folder."
        )
    summary = _read_json(folder / "summary.json")
    if absent := [key for key in NEEDED_KEYS if key not in summary]:
        raise ValueError(
            f"{folder / 'summary.json'} lacks {', '.join(absent)}: it was written by an older version. "
            "Run nnunet_stochastic_evaluate again."
        )
    check_distances_are_named(folder / "summary.json", summary)
    curves = _read_json(folder / "curves.json")
    model = _named(summary["model"], runs)
    return Result(
        label=model.get("name") or folder.resolve().parent.name,
        folder=folder,
        dataset=model.get("dataset") or "unknown",
        aleatoric=model.get("aleatoric") or "unknown",
        epistemic=model.get("epistemic") or "unknown",
        seed=model.get("seed"),
        summary=summary,
        images=_read_table(folder / "images.csv", ("set", "case", "risk", *MEASURES)),
        scores=_read_table(folder / "scores.csv", ("set", "case", "measure")),
        reliability={
            name: {
                group: {label: bins_from_json(entry) for label, entry in classes.items()}
                for group, classes in groups.items()
            }
            for name, groups in curves["reliability"].items()
        },
        confidence={
            name: {measure: bins_from_json(entry) for measure, entry in measures.items()}
            for name, measures in curves.get("confidence", {}).items()
        },
        sets=_case_sets(summary["folders"]),
    )


def _named(model: Mapping[str, Any], runs: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """What summary.json says of a model, with what all its runs are said to be."""
    said = dict(set.intersection(*(set(run.items()) for run in runs))) if runs else {}
    named = {**model, **said}
    if said.keys() & {"aleatoric", "epistemic"}:
        named["name"] = " / ".join(named.get(part) or "unknown" for part in ("aleatoric", "epistemic"))
    return named


def _case_sets(folders: Mapping[str, Any]) -> dict[str, SetFolders]:
    entries = {ID: folders, **folders.get("shifts", {})}
    keys = ("prediction", "reference", "raters")
    return {
        name: SetFolders(*(Path(entry[key]) if entry.get(key) else None for key in keys))
        for name, entry in entries.items()
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); evaluate again.") from error


def _read_table(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    # As text first, for names such as 001 or NA stay what they are.
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if absent := [column for column in needed if column not in table]:
        raise ValueError(f"{path} lacks the columns {', '.join(absent)}; run nnunet_stochastic_evaluate again.")
    numbers = [column for column in table if column not in ("set", "case", "measure")]
    return table.assign(**{column: table[column].replace("", np.nan).astype(float) for column in numbers})
