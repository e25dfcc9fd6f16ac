"""CAL: an uncertainty that says how often the prediction is wrong, ACE of the confidence made of it by Platt scaling.

Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation, 3.4; the mean over
images: Kahl et al., ValUES, https://arxiv.org/abs/2401.08501.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import ACE, Ace, Convention
from nnunet_stochastic.evaluation.case_inputs import MapInputs
from nnunet_stochastic.evaluation.maps import MEASURES, Measure
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks.resampling import Resampled
from nnunet_stochastic.evaluation.tasks.task import Task, TaskInputs, mean_of, reason, split_by_set

__all__ = ["CALIBRATION_ERROR"]

COLUMN = "ace"


def _describe(convention: Convention) -> str:
    return (
        "average calibration error, 20 equal bins on [0, 1], of sigmoid(-(a(-u) + b)); a, b: "
        + (
            "mean of the fits to each validation image"
            if convention.per_image_platt
            else "one fit to all of validation"
        )
        + "; "
        + ("mean over images" if convention.per_image_ace else "all images together")
        + " (both are there: per_image and dataset); correct: the prediction equals the rater, all raters (the "
        "reference where there are no raters)"
    )


def _of_map(found: MapInputs) -> dict[str, float]:
    bins = found.confidence
    return {COLUMN: float("nan") if bins is None else metrics.average_calibration_error(bins)}


def _of_set(inputs: TaskInputs, results: SetResults) -> dict[Ace, dict[Measure, float]]:
    pooled = {measure: results.pooled_confidence(measure) for measure in MEASURES}
    return {
        "per_image": {measure: mean_of(results.score(measure, COLUMN)) for measure in MEASURES},
        "dataset": {
            measure: float("nan") if bins is None else metrics.average_calibration_error(bins)
            for measure, bins in pooled.items()
        },
    }


def _complete(inputs: TaskInputs, values: Mapping[str, Any]) -> dict[str, Any]:
    by_error: dict[str, Any] = {
        ace: split_by_set(inputs, {name: value[ace] for name, value in values.items()}) for ace in ACE
    }
    return {**by_error[_variant_of(inputs.convention)], **by_error, "annotations": inputs.annotations}


def _variant_of(convention: Convention) -> Ace:
    return "per_image" if convention.per_image_ace else "dataset"


def _replicates(drawn: Resampled, name: str) -> dict[Ace, dict[Measure, np.ndarray]]:
    results, weights = drawn.sets[name], drawn.weights[name]
    nothing = np.full(len(weights), np.nan)
    return {
        "per_image": {measure: metrics.weighted_mean(results.score(measure, COLUMN), weights) for measure in MEASURES},
        "dataset": {
            measure: metrics.calibration_errors_bootstrap(results.confidence[measure], weights).average
            if measure in results.confidence
            else nothing
            for measure in MEASURES
        },
    }


CALIBRATION_ERROR = Task(
    name="CAL",
    title="Calibration",
    metric="ACE",
    direction=-1,
    caption="ACE of the confidence made of the measure",
    describe=_describe,
    of_set=_of_set,
    has_number=lambda results: bool(results.confidence),
    lacking=lambda results: reason(results, "the maps are constant"),
    needs=("maps", "calibration"),
    complete=_complete,
    by_measure=True,
    right="TU",
    wrong=("AU", "EU"),
    variants={"per_image": "the mean over images", "dataset": "that of all images together"},
    variant_of=_variant_of,
    decimals=4,
    measure_columns=(COLUMN,),
    of_map=_of_map,
    replicates=_replicates,
)
