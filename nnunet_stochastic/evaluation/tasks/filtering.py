"""FILTER: an uncertainty that filters errors out and leaves alone what is right, score of QU-BraTS.

Mehta et al., QU-BraTS: MICCAI BraTS 2020 challenge on quantifying uncertainty in brain tumor segmentation,
https://arxiv.org/abs/2112.10074.
"""

from __future__ import annotations

import numpy as np

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import Convention
from nnunet_stochastic.evaluation.case_inputs import MapInputs
from nnunet_stochastic.evaluation.maps import MEASURES, Measure
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks.task import Task, TaskInputs, has_number, mean_of, reason

__all__ = ["FILTERING"]

# Areas under the curves, and the score that is made of them.
COLUMNS = ("filtered_dice", "filtered_tp", "filtered_tn", "filter_score")


def _describe(convention: Convention) -> str:
    return (
        "score of QU-BraTS: areas under filtered Dice, 1 - filtered true positives and 1 - filtered true negatives, a "
        "third each, over 41 thresholds from 0 to the entropy of the uniform distribution, at which larger values are "
        "kept; true negatives of the whole image; mean over classes, annotations and cases; a class that is empty in "
        "both left out"
    )


def _of_map(found: MapInputs) -> dict[str, float]:
    inputs, labels = found.inputs, found.inputs.labels
    largest = float(np.log(2 if labels.has_regions else labels.num_labels))
    numbers = []
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
            numbers.append((*curves.areas, curves.score))
    means = [mean_of(np.array(values)) for values in zip(*numbers, strict=True)] or [float("nan")] * len(COLUMNS)
    return dict(zip(COLUMNS, means, strict=True))


def _of_set(inputs: TaskInputs, results: SetResults) -> dict[Measure, dict[str, float]]:
    return {measure: {name: mean_of(results.score(measure, name)) for name in COLUMNS} for measure in MEASURES}


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
    by_measure=True,
    entry=COLUMNS[-1],
    measure_columns=COLUMNS,
    of_map=_of_map,
)
