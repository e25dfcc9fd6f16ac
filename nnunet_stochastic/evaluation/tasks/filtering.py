"""FILTER: an uncertainty that filters errors out and leaves alone what is right, score of QU-BraTS, and its curves.

Curves and areas are means over classes, annotations and cases alike, so that the areas are those under the curves.
Mehta et al., QU-BraTS: MICCAI BraTS 2020 challenge on quantifying uncertainty in brain tumor segmentation,
https://arxiv.org/abs/2112.10074.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import Convention
from nnunet_stochastic.evaluation.case_inputs import MapInputs
from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.maps import MEASURES, Measure
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks.resampling import Resampled
from nnunet_stochastic.evaluation.tasks.task import Task, TaskInputs, has_number, mean_of, reason, split_by_set
from nnunet_stochastic.io.schemas import File

__all__ = ["CURVES", "FILTERING"]

# Areas under the curves, and the score that is made of them.
AREAS = ("filtered_dice", "filtered_tp", "filtered_tn")
COLUMNS = (*AREAS, "filter_score")
#: Names of the curves, in the order of the areas under them.
CURVES = tuple(f"{area}_curve" for area in AREAS)
# Of the curves in summary.json.
_DECIMALS = 6

_Curve = Annotated[list[Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]], Field(min_length=2)]
_OfMeasures = dict[str, dict[str, _Curve]]


class _Curves(File):
    """Values at each threshold by measure and curve; thresholds are shares of the largest entropy."""

    thresholds: _Curve
    ID: _OfMeasures
    shifts: dict[str, _OfMeasures]


def _describe(convention: Convention) -> str:
    return (
        "score of QU-BraTS: areas under filtered Dice, 1 - filtered true positives and 1 - filtered true negatives, a "
        "third each, over 41 thresholds from 0 to the entropy of the uniform distribution, at which larger values are "
        "kept; true negatives of the whole image; mean over classes, annotations and cases; a class that is empty in "
        f"both left out; curves: means over the same, {_DECIMALS} decimals"
    )


def _of_map(found: MapInputs) -> dict[str, float | list[float]]:
    inputs, labels = found.inputs, found.inputs.labels
    largest = float(np.log(2 if labels.has_regions else labels.num_labels))
    of_structures = []
    steps = None
    for annotation in inputs.case.annotations:
        voxels = labels.annotated([annotation])
        if steps is None or voxels is not ...:
            steps = metrics.FilteringSteps.of(found.uncertainty[voxels], largest=largest)
        prediction, reference = inputs.prediction[voxels], annotation[voxels]
        inside = steps
        if not any(0 in values for values in labels.classes):
            # Most voxels are background in both, and of no class.
            foreground = (prediction != 0) | (reference != 0)
            prediction, reference, inside = prediction[foreground], reference[foreground], steps.inside(foreground)
        for index in range(len(labels.names)):
            curves = metrics.filtered_dice(labels.target(prediction, index), labels.target(reference, index), inside)
            of_structures.append(curves)
    numbers = [(*curves.areas, curves.score) for curves in of_structures]
    means = [mean_of(np.array(values)) for values in zip(*numbers, strict=True)] or [float("nan")] * len(COLUMNS)
    values = [(curves.dice, curves.filtered_tp, curves.filtered_tn) for curves in of_structures]
    shape = (len(values), len(CURVES), len(metrics.FILTERING_THRESHOLDS))
    curves_of_map = _mean_of_known(np.array(values).reshape(shape))
    return {
        **dict(zip(COLUMNS, means, strict=True)),
        **{name: curve.tolist() for name, curve in zip(CURVES, curves_of_map, strict=True)},
    }


def _mean_of_known(curves: np.ndarray) -> np.ndarray:
    """Mean (…) of curves (n, …) without those of what is empty in both, all of whose values are NaN; NaN if all are."""
    known = curves[np.isfinite(curves).all(axis=tuple(range(1, curves.ndim)))]
    return known.mean(axis=0) if len(known) else np.full(curves.shape[1:], np.nan)


def _of_set(inputs: TaskInputs, results: SetResults) -> dict[Measure, dict[str, float]]:
    return {measure: {name: mean_of(results.score(measure, name)) for name in COLUMNS} for measure in MEASURES}


def _replicates(drawn: Resampled, name: str) -> dict[Measure, dict[str, np.ndarray]]:
    results, weights = drawn.sets[name], drawn.weights[name]
    return {
        measure: {column: metrics.weighted_mean(results.score(measure, column), weights) for column in COLUMNS}
        for measure in MEASURES
    }


def _complete(inputs: TaskInputs, values: Mapping[str, Any]) -> dict[str, Any]:
    curves = {results.name: _curves_of_set(results) for results in inputs.sets if results.name in values}
    return {
        **split_by_set(inputs, values),
        "curves": {
            "thresholds": _rounded(metrics.FILTERING_THRESHOLDS),
            ID: curves.get(ID, {}),
            "shifts": {name: found for name, found in curves.items() if name != ID},
        },
    }


def _curves_of_set(results: SetResults) -> dict[Measure, dict[str, list[float]]]:
    """Mean curves of the measures that have some."""
    means = {
        measure: {curve: _mean_of_known(values) for curve, values in found.items()}
        for measure, found in results.curves.items()
    }
    return {
        measure: {curve: _rounded(values) for curve, values in found.items()}
        for measure, found in means.items()
        if all(np.isfinite(values).all() for values in found.values())
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), _DECIMALS) for value in values]


FILTERING = Task(
    name="FILTER",
    title="filtered Dice",
    metric="QU-BraTS score",
    direction=1,
    caption="QU-BraTS score: of filtered Dice and of filtered true positives and negatives",
    describe=_describe,
    of_set=_of_set,
    has_number=lambda results: has_number(results.scores[COLUMNS[-1]]),
    lacking=lambda results: reason(results, "all classes are empty in both"),
    needs=("maps",),
    complete=_complete,
    further_entries={"curves": _Curves},
    by_measure=True,
    entry=COLUMNS[-1],
    measure_columns=COLUMNS,
    measure_curves=CURVES,
    of_map=_of_map,
    replicates=_replicates,
)
