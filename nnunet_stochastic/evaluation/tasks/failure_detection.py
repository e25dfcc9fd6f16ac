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
from nnunet_stochastic.evaluation.tasks.resampling import Resampled, of_border
from nnunet_stochastic.evaluation.tasks.task import (
    Task,
    TaskInputs,
    count_without_border,
    has_number,
    reason,
    split_by_set,
)

__all__ = ["FAILURE_DETECTION"]

COLUMN = "risk"


def _describe(convention: Convention) -> str:
    return (
        f"risk 1 - Dice against the reference, confidence: minus the image score ({convention.aggregation}); "
        "images without Dice left out; failure_auroc: images with a Dice below "
        f"{metrics.FAILURE_DICE:g} against the others; aurc_with_border: of the images with a predicted border alone, "
        "num_without_border: number of the others"
    )


def _of_set(inputs: TaskInputs, results: SetResults, *, with_border: bool = False) -> dict[Measure, dict[str, float]]:
    """Of all images, or of those with a predicted border."""
    found: dict[Measure, dict[str, float]] = {}
    for measure in MEASURES:
        confidence = -results.score(measure, inputs.convention.aggregation)
        counts = np.isfinite(confidence) & (results.has_border | (not with_border))
        risk, dice = (np.where(counts, results.image(name), np.nan) for name in (COLUMN, "dice"))
        found[measure] = {
            "aurc": metrics.aurc(risk, confidence),
            "e_aurc": metrics.excess_aurc(risk, confidence),
            "augrc": metrics.augrc(risk, confidence),
            "failure_auroc": metrics.failure_auroc(dice, -confidence),
        }
    return found


def _replicates(drawn: Resampled, name: str) -> dict[Measure, dict[str, np.ndarray]]:
    results, weights = drawn.sets[name], drawn.weights[name]
    found: dict[Measure, dict[str, np.ndarray]] = {}
    for measure in MEASURES:
        confidence = -results.score(measure, drawn.convention.aggregation)
        risk, dice = (np.where(np.isfinite(confidence), results.image(each), np.nan) for each in (COLUMN, "dice"))
        areas = metrics.risk_coverage_bootstrap(risk, confidence, weights)
        found[measure] = {
            "aurc": areas.aurc,
            "e_aurc": areas.excess_aurc,
            "augrc": areas.augrc,
            "failure_auroc": metrics.failure_auroc_bootstrap(dice, -confidence, weights),
        }
    return found


def _complete(inputs: TaskInputs, values: Mapping[str, Any]) -> dict[str, Any]:
    sets = [results for results in inputs.sets if results.name in values]
    with_border = {results.name: _of_set(inputs, results, with_border=True) for results in sets}
    return {
        **split_by_set(inputs, values),
        "aggregation": inputs.convention.aggregation,
        "failure_dice": metrics.FAILURE_DICE,
        "num_without_border": count_without_border(sets),
        "aurc_with_border": split_by_set(inputs, with_border),
    }


FAILURE_DETECTION = Task(
    name="FD",
    title="failures",
    metric="AURC",
    direction=-1,
    caption="AURC with risk 1 - Dice",
    describe=_describe,
    of_set=_of_set,
    has_number=lambda results: has_number(results.image(COLUMN)),
    lacking=lambda results: reason(results, "no case has a Dice, all are empty in both"),
    needs=("maps",),
    complete=_complete,
    by_measure=True,
    entry="aurc",
    with_border="aurc_with_border",
    image_columns=(COLUMN,),
    of_case=lambda inputs: {COLUMN: 1 - inputs.dice},
    replicates=_replicates,
    parts={("aurc_with_border",): of_border},
)
