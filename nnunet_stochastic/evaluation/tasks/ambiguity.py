"""AMB: an uncertainty that looks like the raters' disagreement, NCC of the map and the variance over raters.

Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation, 3.4.
"""

from __future__ import annotations

import numpy as np

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import Convention
from nnunet_stochastic.evaluation.case_inputs import MapInputs
from nnunet_stochastic.evaluation.maps import MEASURES, Measure
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks.resampling import Resampled
from nnunet_stochastic.evaluation.tasks.task import Task, TaskInputs, has_number, mean_of, reason

__all__ = ["AMBIGUITY"]

COLUMN = "ncc"


def _describe(convention: Convention) -> str:
    return (
        "normalized cross-correlation of the map and the variance over raters of "
        + ("the label numbers" if convention.label_codes else "the one-hot labels, summed over labels")
        + "; mean over cases; a constant map or full agreement is 0"
    )


def _of_map(found: MapInputs) -> dict[str, float]:
    variance = found.inputs.rater_variance
    if variance is None:
        return {COLUMN: float("nan")}
    voxels = found.inputs.labels.annotated(found.inputs.case.raters)
    return {COLUMN: metrics.normalized_cross_correlation(found.uncertainty[voxels].ravel(), variance)}


def _of_set(inputs: TaskInputs, results: SetResults) -> dict[Measure, float]:
    return {measure: mean_of(results.score(measure, COLUMN)) for measure in MEASURES}


def _replicates(drawn: Resampled, name: str) -> dict[Measure, np.ndarray]:
    results, weights = drawn.sets[name], drawn.weights[name]
    return {measure: metrics.weighted_mean(results.score(measure, COLUMN), weights) for measure in MEASURES}


AMBIGUITY = Task(
    name="AMB",
    title="Ambiguity",
    metric="NCC",
    direction=1,
    caption="NCC with the raters' variance",
    describe=_describe,
    of_set=_of_set,
    has_number=lambda results: has_number(results.scores[COLUMN]),
    lacking=lambda results: reason(results, "no map can be compared with the raters", raters=True),
    needs=("maps",),
    by_measure=True,
    right="AU",
    wrong=("EU",),
    measure_columns=(COLUMN,),
    of_map=_of_map,
    replicates=_replicates,
)
