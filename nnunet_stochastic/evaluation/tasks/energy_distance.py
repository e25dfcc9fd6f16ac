"""GED: generalized energy distance of the samples and the annotations, by several distances of two segmentations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import DISTANCES, Convention
from nnunet_stochastic.evaluation.case_inputs import CaseInputs
from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks.resampling import Resampled
from nnunet_stochastic.evaluation.tasks.task import Task, TaskInputs, has_number, mean_of, reason, split_by_set

__all__ = ["ENERGY_DISTANCE", "check_distances_are_named"]


def _describe(convention: Convention) -> str:
    return (
        f"ranked: {DISTANCES[convention.distance]}; iou, dice: distance of a pair, mean over foreground classes "
        "and pairs; pooled_dice: one Dice of all pairs and foreground classes, 0 where all are empty; "
        "self-pairs included; mean over cases"
    )


def _of_case(inputs: CaseInputs) -> dict[str, float]:
    """GED by each distance; NaN without samples or annotations."""
    number = len(inputs.samples)
    if not number or not inputs.case.annotations:
        return dict.fromkeys((f"ged_{distance}" for distance in metrics.GED_DISTANCES), float("nan"))
    ged = metrics.energy_distance_of_counts(inputs.overlaps, slice(number), slice(number, None))
    return {f"ged_{distance}": value for distance, value in ged.items()}


def _of_set(inputs: TaskInputs, results: SetResults) -> dict[str, float]:
    return {distance: mean_of(results.image(f"ged_{distance}")) for distance in metrics.GED_DISTANCES}


def _replicates(drawn: Resampled, name: str) -> dict[str, np.ndarray]:
    images, weights = drawn.sets[name], drawn.weights[name]
    return {
        distance: metrics.weighted_mean(images.image(f"ged_{distance}"), weights) for distance in metrics.GED_DISTANCES
    }


def _complete(inputs: TaskInputs, values: Mapping[str, Any]) -> dict[str, Any]:
    by_distance: dict[str, Any] = {
        distance: split_by_set(inputs, {name: value[distance] for name, value in values.items()})
        for distance in metrics.GED_DISTANCES
    }
    ranked = inputs.convention.distance
    return {
        **by_distance[ranked],
        **by_distance,
        "distance": ranked,
        "num_samples": inputs.num_samples,
        "annotations": inputs.annotations,
    }


def check_distances_are_named(path: Path, summary: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for a summary.json of the version before GED named its distances."""
    found = summary["tasks"].get(ENERGY_DISTANCE.name, {})
    if found and not DISTANCES.keys() & found.keys():
        raise ValueError(
            f"{path} is of an older version, whose GED does not name its distance and whose Δ of CAL follows another "
            "rule over shifts; run nnunet_stochastic_evaluate of this version again"
        )


ENERGY_DISTANCE = Task(
    name="GED",
    title="GED",
    metric="",
    direction=-1,
    describe=_describe,
    of_set=_of_set,
    has_number=lambda results: has_number(results.image("ged_dice")),
    lacking=lambda results: reason(results, "no voxel has all annotations", samples=True),
    needs=("samples",),
    complete=_complete,
    variants=dict(DISTANCES.items()),
    variant_of=lambda convention: convention.distance,
    shown_variants=("iou", "dice"),
    setting="distance",
    compared=(ID,),
    is_quality=True,
    image_columns=tuple(f"ged_{distance}" for distance in metrics.GED_DISTANCES),
    of_case=_of_case,
    replicates=_replicates,
)
