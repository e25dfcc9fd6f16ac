"""FD finds bad segmentations: AURC, E-AURC and AUGRC of the image score, with risk 1 - Dice, and its failure-AUROC.

Kahl et al., ValUES, https://arxiv.org/abs/2401.08501; Traub et al., Overcoming common flaws in the evaluation of
selective classification systems, https://arxiv.org/abs/2407.01032.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import Convention
from nnunet_stochastic.evaluation.maps import MEASURES, Measure
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks.task import NO_ANNOTATIONS, Task, TaskInputs, has_number, split_by_set

__all__ = ["FAILURE_DETECTION"]

COLUMN = "risk"


def _describe(convention: Convention) -> str:
    return (
        f"risk 1 - Dice against the reference, confidence: minus the image score ({convention.aggregation}); "
        "images without Dice left out; failure_auroc: images with a Dice below "
        f"{metrics.FAILURE_DICE:g} against the others"
    )


def _of_set(inputs: TaskInputs, results: SetResults) -> dict[Measure, dict[str, float]]:
    found: dict[Measure, dict[str, float]] = {}
    for measure in MEASURES:
        confidence = -results.score(measure, inputs.convention.aggregation)
        risk, dice = (np.where(np.isfinite(confidence), results.image(name), np.nan) for name in (COLUMN, "dice"))
        found[measure] = {
            "aurc": metrics.aurc(risk, confidence),
            "e_aurc": metrics.excess_aurc(risk, confidence),
            "augrc": metrics.augrc(risk, confidence),
            "failure_auroc": metrics.failure_auroc(dice, -confidence),
        }
    return found


def _complete(inputs: TaskInputs, values: Mapping[str, Any]) -> dict[str, Any]:
    choices = {"aggregation": inputs.convention.aggregation, "failure_dice": metrics.FAILURE_DICE}
    return {**split_by_set(inputs, values), **choices}


FAILURE_DETECTION = Task(
    name="FD",
    title="failures",
    metric="AURC",
    direction=-1,
    caption="AURC with risk 1 - Dice",
    describe=_describe,
    of_set=_of_set,
    has_number=lambda results: has_number(results.image(COLUMN)),
    lacking="no case has a Dice: " + NO_ANNOTATIONS + ", or all are empty in both",
    needs=("maps",),
    complete=_complete,
    by_measure=True,
    entry="aurc",
    image_columns=(COLUMN,),
    of_case=lambda inputs: {COLUMN: 1 - inputs.dice},
)
