"""OODD finds images out of distribution: AUROC of image scores, ID against each shift.

Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation, 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import AGGREGATIONS, Convention
from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.maps import MEASURES, Measure
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks.resampling import Resampled, of_aggregation, of_border
from nnunet_stochastic.evaluation.tasks.task import Task, TaskInputs, count_without_border, over_sets

__all__ = ["OUT_OF_DISTRIBUTION"]


def _describe(convention: Convention) -> str:
    return (
        "AUROC of the image score, out of distribution = 1, mean over shifts; score: "
        f"{convention.aggregation} ({AGGREGATIONS[convention.aggregation]}); auroc_with_border: of the images with a "
        "predicted border alone, num_without_border: number of the others"
    )


def _of_shift(inputs: TaskInputs, shift: SetResults) -> dict[Measure, float]:
    return _auroc(inputs.known, shift, inputs.convention.aggregation)


def _auroc(
    known: SetResults, shift: SetResults, aggregation: str, *, with_border: bool = False
) -> dict[Measure, float]:
    """AUROC of all images, or of those with a predicted border; NaN where a set has none."""
    negative, positive = (found.has_border if with_border else slice(None) for found in (known, shift))
    return {
        measure: metrics.auroc(known.score(measure, aggregation)[negative], shift.score(measure, aggregation)[positive])
        for measure in MEASURES
    }


def _complete(inputs: TaskInputs, values: Mapping[str, Any]) -> dict[str, Any]:
    """Means over shifts, with those of every aggregation, and those without the images that have no border."""
    chosen = inputs.convention.aggregation
    by_aggregation = {
        aggregation: over_sets([_auroc(inputs.known, shift, aggregation) for shift in inputs.shifts])
        for aggregation in AGGREGATIONS
    }
    with_border = {shift.name: _auroc(inputs.known, shift, chosen, with_border=True) for shift in inputs.shifts}
    return {
        **by_aggregation[chosen],
        "aggregation": chosen,
        "shifts": dict(values),
        "aggregations": by_aggregation,
        "num_without_border": count_without_border(inputs.sets),
        "auroc_with_border": {**over_sets(list(with_border.values())), "shifts": with_border},
    }


def _replicates(drawn: Resampled, name: str) -> dict[Measure, np.ndarray]:
    aggregation = drawn.convention.aggregation
    return {
        measure: metrics.auroc_bootstrap(
            drawn.sets[ID].score(measure, aggregation),
            drawn.sets[name].score(measure, aggregation),
            negative_weights=drawn.weights[ID],
            positive_weights=drawn.weights[name],
        )
        for measure in MEASURES
    }


OUT_OF_DISTRIBUTION = Task(
    name="OODD",
    title="OOD detection",
    metric="AUROC",
    direction=1,
    caption="AUROC, mean over the shifts",
    describe=_describe,
    of_set=_of_shift,
    has_number=lambda results: True,
    lacking=lambda results: "no -ood set was given",
    needs=("maps",),
    optional={"threshold": "calibration"},
    complete=_complete,
    by_measure=True,
    right="EU",
    wrong=("AU",),
    splits=(),
    with_border="auroc_with_border",
    setting="aggregation",
    replicates=_replicates,
    parts={
        ("auroc_with_border",): of_border,
        **{("aggregations", name): partial(of_aggregation, aggregation=name) for name in AGGREGATIONS},
    },
)
