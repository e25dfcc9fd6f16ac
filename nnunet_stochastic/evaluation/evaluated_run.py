"""What nnunet_stochastic_evaluate wrote, as plain data: one ``EvaluatedRun`` per evaluation folder.

A folder holds summary.json (tasks, Δ, what was left out and why), images.csv and scores.csv (a row per image, and per
image and measure) and curves.json (bins of the reliability diagrams). The tables and curves are read when they are
first asked for. Nothing is computed again here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_stochastic.conventions import Convention, find_convention
from nnunet_stochastic.evaluation.case_sets import ID, SetFolders
from nnunet_stochastic.evaluation.maps import MEASURES, Measure
from nnunet_stochastic.evaluation.model import stand_in_mark
from nnunet_stochastic.evaluation.records import bins_from_json
from nnunet_stochastic.evaluation.scores import ALL_CLASSES, RATERS, REFERENCE
from nnunet_stochastic.evaluation.summary_file import SummaryFile
from nnunet_stochastic.evaluation.tasks import check_distances_are_named
from nnunet_stochastic.io.names import counted, shown
from nnunet_stochastic.io.result_schemas import CurvesFile
from nnunet_stochastic.io.tables import read_csv_table
from nnunet_stochastic.io.text import read_json
from nnunet_stochastic.metrics import ReliabilityBins

__all__ = ["EvaluatedRun", "number", "read_summary"]

_REMEDY = "run nnunet_stochastic_evaluate again"


@dataclass(frozen=True, eq=False)
class EvaluatedRun:
    """One evaluation folder as one run of a model.

    Attributes
    ----------
    folder
        Folder of the evaluation.
    dataset, seed, aleatoric, epistemic
        Names of what was run; the seed is empty where it is not known.
    summary
        Content of summary.json.
    label
        Name of the model, unique among those that a page shows together.
    """

    folder: Path
    dataset: str
    seed: str
    aleatoric: str
    epistemic: str
    summary: Mapping[str, Any]
    label: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """In the order of ``ranking.RUN``."""
        return self.dataset, self.seed, self.aleatoric, self.epistemic

    @property
    def convention(self) -> Convention:
        """The preset it was evaluated with."""
        return find_convention(self.summary["convention"])

    @property
    def aggregation(self) -> str:
        """How a map became the score of an image, for OOD and failure detection; a column of ``scores``."""
        return self.convention.aggregation

    @property
    def is_decomposed(self) -> bool:
        """Whether there is an AU and EU: not for a deterministic network without members, whose maps are TU alone."""
        names = {name for name, _ in _numbers(self.summary["tasks"])}
        return "TU" not in names or bool(names & {"AU", "EU"})

    @property
    def epistemic_is_stand_in(self) -> bool | None:
        """Whether EU is that of one member's aleatoric samples; ``None`` where that is not known."""
        return self.summary["model"].get("epistemic_is_stand_in")

    @property
    def mark(self) -> str:
        """What stands behind EU, and behind EU/AU and Δ, which are made of it."""
        return stand_in_mark(self.summary["model"])

    def measure_name(self, measure: Measure) -> str:
        """AU, EU or TU with that mark."""
        return f"{measure}{self.mark}" if measure == "EU" else measure

    @cached_property
    def images(self) -> pd.DataFrame:
        """images.csv, a row per set and case: texts ``set`` and ``case``, else numbers, such as AU in nats."""
        path = self.folder / "images.csv"
        table = _read_table(path, ("set", "case"))
        said = {name: entry["cases"] for name, entry in self.summary.get("bootstrap", {}).get("sets", {}).items()}
        said[ID] = self.summary["num_cases"]
        if "folders" in self.summary and (strange := sorted(set(table["set"]) - self.sets.keys())):
            raise ValueError(f"{path}: the set {strange[0][:60]!a} is none of summary.json; {_REMEDY}")
        for name, count in said.items():
            if (found := int((table["set"] == name).sum())) != count:
                raise ValueError(
                    f"{path}: {found} lines of the set {name}, summary.json has {counted(count, 'case')}; {_REMEDY}"
                )
        return table

    @cached_property
    def scores(self) -> pd.DataFrame:
        """scores.csv, a row per set, case and measure: five image scores and what the tasks have of a map."""
        path = self.folder / "scores.csv"
        table = _read_table(path, ("set", "case", "measure"), self.aggregation)
        cases = set(zip(self.images["set"], self.images["case"], strict=True))
        for measure, rows in table.groupby("measure"):
            if different := cases.symmetric_difference(zip(rows["set"], rows["case"], strict=True)):
                place, case = min(different)
                raise ValueError(f"{path}: {measure} of {case} ({place}) is there or in images.csv alone; {_REMEDY}")
        return table

    @cached_property
    def cases(self) -> Mapping[str, frozenset[str]]:
        """Names of the cases of each set."""
        return {str(name): frozenset(group) for name, group in self.images.groupby("set")["case"]}

    @cached_property
    def reliability(self) -> Mapping[str, Mapping[str, Mapping[str, ReliabilityBins]]]:
        """Bins of the predicted probabilities per set, annotation group and class."""
        return {
            name: {
                group: {label: bins_from_json(entry) for label, entry in classes.items()}
                for group, classes in groups.items()
            }
            for name, groups in self._curves["reliability"].items()
        }

    @cached_property
    def confidence(self) -> Mapping[str, Mapping[str, ReliabilityBins]]:
        """Bins of the confidences made of the uncertainties per set and measure."""
        return {
            name: {measure: bins_from_json(entry) for measure, entry in measures.items()}
            for name, measures in self._curves.get("confidence", {}).items()
        }

    @cached_property
    def sets(self) -> Mapping[str, SetFolders]:
        """Folders of each case set, ID first."""
        folders = self.summary["folders"]
        return {name: _set_folders(entry) for name, entry in {ID: folders, **folders.get("shifts", {})}.items()}

    @property
    def shifts(self) -> list[str]:
        """Names of the out-of-distribution sets."""
        return [name for name in self.sets if name != ID]

    def image_scores(self, name: str, measure: str) -> pd.Series:
        """Image scores of a set by ``aggregation``, under the cases' names; images without one are left out."""
        rows = self.scores[(self.scores["set"] == name) & (self.scores["measure"] == measure)]
        return rows.set_index("case")[self.aggregation].dropna()

    def entry(self, task: str) -> Mapping[str, Any]:
        """What summary.json has of a task; empty where it was left out."""
        return self.summary["tasks"].get(task, {})

    def number(self, *path: str) -> float:
        """Number of summary.json, NaN where it is null or absent."""
        return number(self.summary, *path, place=self.folder / "summary.json")

    def task(self, *path: str) -> float:
        """A number of a task, its name first."""
        return self.number("tasks", *path)

    def interval(self, *path: str) -> tuple[float, float]:
        """Interval of the number at a path of summary.json, NaN where there is none; older evaluations have none."""
        node: Any = self.summary.get("intervals", {})
        for key in path:
            node = node.get(key, {})
        low, high = (math.nan if end is None else float(end) for end in node or (None, None))
        return low, high

    def quality(self, metric: str, *, of_dataset: bool = False) -> float:
        """Dice, nll, ece … of the ID set over all classes, against the raters where there are any."""
        return self.number(*self._place_of_quality(metric, of_dataset))

    def quality_interval(self, metric: str, *, of_dataset: bool = False) -> tuple[float, float]:
        """Interval of ``quality``."""
        return self.interval(*self._place_of_quality(metric, of_dataset))

    def _place_of_quality(self, metric: str, of_dataset: bool) -> tuple[str, ...]:
        group = RATERS if RATERS in self.summary["results"] else REFERENCE
        return "results", group, ALL_CLASSES, "dataset" if of_dataset else "mean", metric

    def spread(self, name: str) -> float:
        """A number of ``case_spread``, mean over the cases of the ID set; evaluations of older versions have none."""
        return number(self.summary.get("spread", {}), ID, name, place=self.folder / "summary.json")

    @cached_property
    def _curves(self) -> Mapping[str, Any]:
        return read_json(self.folder / "curves.json", CurvesFile, remedy=_REMEDY)


def number(tree: Mapping[str, Any], *path: str, place: Path | str = "the summary") -> float:
    """The number at a path of nested mappings; NaN where the path ends early or holds ``null``.

    Raises
    ------
    ValueError
        Something else is there; ``place`` names the file.
    """
    node: Any = tree
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else None
    if node is None:
        return math.nan
    if isinstance(node, bool) or not isinstance(node, (int, float)):
        raise ValueError(
            f"{place} must have a number or null at {'/'.join(path)}, got {shown(node)}; "
            "run nnunet_stochastic_evaluate again"
        )
    return float(node)


def read_summary(path: Path, needed: Sequence[str]) -> dict[str, Any]:
    """Read summary.json and check that it has the keys that are needed.

    Raises
    ------
    ValueError
        It is no JSON, or was written by an older version.
    """
    summary = read_json(path, SummaryFile, remedy=_REMEDY)
    if missing := [key for key in needed if key not in summary]:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}: it was written by an older version; run nnunet_stochastic_evaluate of "
            "this version again"
        )
    check_distances_are_named(path, summary)
    return summary


def _read_table(path: Path, texts: Sequence[str], *needed: str) -> pd.DataFrame:
    """A table of texts that are different in each line, and of numbers."""
    table = read_csv_table(path, [*texts, *needed], remedy=_REMEDY)
    places = [table.header.index(column) for column in texts]
    first: dict[tuple[str, ...], int] = {}
    for number, values in table.lines:
        row = tuple(values[place] for place in places)
        if not all(row):
            raise ValueError(f"{path}: line {number} must have a value of {' and '.join(texts)}; {_REMEDY}")
        if (other := first.setdefault(row, number)) != number:
            raise ValueError(f"{path}: lines {other} and {number} are both of {' '.join(row)}; {_REMEDY}")
    # Texts stay what they are: names such as 001 or NA.
    columns = {
        column: [values[place] for _, values in table.lines] if column in texts else table.numbers(column)
        for place, column in enumerate(table.header)
    }
    return pd.DataFrame(columns)


def _set_folders(entry: Mapping[str, str | None]) -> SetFolders:
    prediction, reference, raters = (entry.get(key) for key in ("prediction", "reference", "raters"))
    if not prediction:
        raise ValueError("summary.json names a set without predictions; run nnunet_stochastic_evaluate again")
    return SetFolders(Path(prediction), *(Path(folder) if folder else None for folder in (reference, raters)))


def _numbers(node: object, name: str = "") -> Iterator[tuple[str, float]]:
    """All numbers below a node of JSON; a number's name is the measure (AU, EU, TU) that it is under."""
    if isinstance(node, Mapping):
        for key, child in node.items():
            yield from _numbers(child, key if key in MEASURES else name)
    elif isinstance(node, (int, float)):
        yield name, float(node)
