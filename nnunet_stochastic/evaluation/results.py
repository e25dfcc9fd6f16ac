"""Results of a set of cases, put together from their records one at a time: tables, and sums of reliability bins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import AGGREGATIONS
from nnunet_stochastic.degenerate_samples import Degeneration
from nnunet_stochastic.evaluation.case_sets import CaseSet
from nnunet_stochastic.evaluation.maps import MEASURES, Measure
from nnunet_stochastic.evaluation.records import bins_from_json
from nnunet_stochastic.evaluation.scores import METRICS
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks import TASKS

__all__ = ["IMAGE_COLUMNS", "ROW_COLUMNS", "SCORE_COLUMNS", "collect_results"]

ROW_COLUMNS = ("set", "case", "annotation", "class", *METRICS, "reference_voxels", "predicted_voxels")
OF_TASKS = tuple(column for task in TASKS for column in task.image_columns)
IMAGE_COLUMNS = ("set", "case", "dice", *OF_TASKS, *MEASURES, "ratio", "volume_ml", "border_length")
OF_MAPS = tuple(column for task in TASKS for column in task.measure_columns)
SCORE_COLUMNS = ("set", "case", "measure", *AGGREGATIONS, *OF_MAPS)
_CURVES = tuple(curve for task in TASKS for curve in task.measure_curves)


def collect_results(case_set: CaseSet, records: Iterable[Mapping[str, Any]]) -> SetResults:
    """Put the records of a set together; only what the result needs of each is kept.

    Parameters
    ----------
    case_set
        The set, whose cases are all alike in what they have.
    records
        Records of the cases, in order.
    """
    name = case_set.name
    first = case_set.cases[0] if case_set.cases else None
    rows, images, scores = [], [], []
    by_class: dict[str, dict[str, dict[str, Any]]] = {task.name: {} for task in TASKS if task.class_key}
    reliability: dict[str, dict[str, metrics.ReliabilityBins]] = {}
    case_reliability: dict[str, dict[str, list[np.ndarray]]] = {}
    confidence: dict[Measure, list[list[list[float]]]] = {}
    curves: dict[Measure, dict[str, list[list[float]]]] = {}
    degenerate: dict[str, Degeneration] = {}
    spread: list[dict[str, float]] = []
    for record in records:
        place = {"set": name, "case": record["case"]}
        rows += [place | row for row in record["rows"]]
        for measure, found in record["measures"].items():
            found = dict(found)
            if (bins := found.pop("confidence")) is not None:
                confidence.setdefault(measure, []).append(list(bins.values()))
            for curve in _CURVES:
                if curve in found:
                    curves.setdefault(measure, {}).setdefault(curve, []).append(found.pop(curve))
            scores.append(place | {"measure": measure} | found)
        means = {measure: found["mean"] for measure, found in record["measures"].items()}
        ratio = means["EU"] / means["AU"] if means.get("AU") and "EU" in means else None
        images.append(place | record["image"] | means | {"ratio": ratio})
        for task in TASKS:
            if task.class_key:
                by_class[task.name][record["case"]] = record[task.class_key]
        spread.append(record["spread"])
        if (wrong := record["degenerate_samples"]) is not None:
            degenerate[record["case"]] = wrong
        for group, classes in record["reliability"].items():
            sums = reliability.setdefault(group, {})
            for class_name, content in classes.items():
                bins = bins_from_json(content)
                of_cases = case_reliability.setdefault(group, {}).setdefault(class_name, [])
                of_cases.append(np.stack([bins.count, bins.confidence_sum, bins.correct_sum]))
                sums[class_name] = sums[class_name] + bins if class_name in sums else bins
    return SetResults(
        name,
        _table(rows, ROW_COLUMNS, texts=4, integers=2),
        _table(images, IMAGE_COLUMNS, texts=2),
        _table(scores, SCORE_COLUMNS, texts=3),
        by_class,
        reliability,
        {measure: np.array(found, dtype=np.float64) for measure, found in confidence.items()},
        {
            group: {class_name: np.stack(found) for class_name, found in classes.items()}
            for group, classes in case_reliability.items()
        },
        {
            measure: {curve: np.array(values, dtype=np.float64) for curve, values in found.items()}
            for measure, found in curves.items()
        },
        degenerate,
        {str(name): float(values.mean()) for name, values in pd.DataFrame(spread).items()},
        {str(name): values.to_numpy(dtype=np.float64) for name, values in pd.DataFrame(spread).items()},
        num_raters=0 if first is None else len(first.raters),
        num_samples=0 if first is None else len(first.samples),
        has_reference=first is not None and first.reference is not None,
    )


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...], *, texts: int, integers: int = 0) -> pd.DataFrame:
    """A table whose first columns are texts, the last integers, and the others numbers, NaN where there is none."""
    table = pd.DataFrame(rows, columns=list(columns))
    first_integer = len(columns) - integers
    numbers = dict.fromkeys(columns[texts:first_integer], np.float64)
    return table.astype(numbers | dict.fromkeys(columns[first_integer:], np.int64))
