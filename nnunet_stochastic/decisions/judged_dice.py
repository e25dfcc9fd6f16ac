"""How good a predicted Dice is: |predicted - true|, Spearman's rank correlation, AURC with the risk 1 - Dice.

Beside it stand the baselines of failure detection (``predicted_dice.BASELINES``), each by one score. The score itself
orders the cases for rank correlation and AURC, its isotonic function of the validation cases gives the error. Means are
over cases. True is the mean Dice over a case's annotations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_stochastic.decisions.coverage import coverage_by_patient
from nnunet_stochastic.decisions.decisions import AssessedStructure, StructureDecisions
from nnunet_stochastic.decisions.intervals import CaseWeights, intervals_of, weights_of
from nnunet_stochastic.decisions.predicted_dice import BASELINES, SIGNS, DiceModel, features_of
from nnunet_stochastic.decisions.statistics import CaseStatistics, StructureStatistics
from nnunet_stochastic.metrics import (
    aurc,
    rank_correlation,
    rank_correlation_bootstrap,
    risk_coverage_bootstrap,
    weighted_mean,
)

__all__ = ["baseline_scores", "judge_dice"]

# What a prediction without the score of a baseline lacks.
_MADE_OF = {
    "pairwise_dice": "neither samples nor members to compare",
    "mean_entropy": "no maps of the total uncertainty",
    "border_EU": "no maps of the epistemic uncertainty",
    "volume": "no volumes",
}


def judge_dice(
    fitted: StructureDecisions,
    segmented: Sequence[tuple[CaseStatistics, StructureStatistics, AssessedStructure]],
    levels: Sequence[float],
    left_out: dict[str, str],
    weights: CaseWeights | None = None,
) -> dict[str, Any] | None:
    """Judge the predicted Dice of a structure and its lower bounds; reasons of what there is not go to ``left_out``.

    Parameters
    ----------
    fitted
        What was fitted to the structure.
    segmented
        Cases whose segmentation has it.
    levels
        Levels of the lower bounds.
    left_out
        Takes the reasons.
    weights
        How often each replicate of a bootstrap draws each case: then there are ``intervals``.
    """
    usable = [each for each in segmented if each[1].mean_dice is not None]
    if fitted.dice is None:
        left_out["dice"] = fitted.left_out.get("dice", "it was not fitted")
        return None
    if not usable:
        left_out["dice"] = "no segmentation has the structure"
        return None
    patients = [case.patient for case, _, _ in usable]
    drawn = None if weights is None else weights_of(weights, [case.case for case, _, _ in usable])
    true = np.array([found.mean_dice for _, found, _ in usable], dtype=np.float64)
    predicted = np.array([assessed.predicted_dice for _, _, assessed in usable], dtype=np.float64)
    bounds = {}
    for level in levels if fitted.dice_bounds is not None else ():
        lower = [assessed.dice_at_least[level] for _, _, assessed in usable]
        held = [float(bound <= dice) for bound, dice in zip(lower, true, strict=True)]
        bounds[f"{level:g}"] = {**coverage_by_patient(held, patients), "mean_bound": float(np.mean(lower))}
        if drawn is not None:
            bounds[f"{level:g}"]["intervals"] = intervals_of({"mean_bound": weighted_mean(np.array(lower), drawn)})
    features = [features_of(found.row, case.image_scores) for case, found, _ in usable]
    baselines = {}
    for name in BASELINES:
        judged = _baseline(name, fitted.dice.baselines.get(name), features, true, drawn)
        if isinstance(judged, str):
            left_out[f"dice/{name}"] = judged
        else:
            baselines[name] = judged
    quality = _quality(predicted, predicted, true, drawn)
    if drawn is not None:
        quality["intervals"] |= intervals_of({"mean_dice": weighted_mean(true, drawn)})
    return {
        "model": fitted.dice.model.kind,
        "num_cases": len(usable),
        "num_patients": len(set(patients)),
        "mean_dice": float(true.mean()),
        **quality,
        "lower_bound": bounds,
        "baselines": baselines,
    }


def baseline_scores(
    fitted: StructureDecisions, case: CaseStatistics, found: StructureStatistics
) -> dict[str, float | None]:
    """Score of each fitted baseline for a case whose segmentation has the structure; larger promises a larger Dice."""
    if fitted.dice is None:
        return {}
    features = features_of(found.row, case.image_scores)
    names = {name: _feature(name, model, features) for name, model in fitted.dice.baselines.items()}
    return {name: None if feature is None else _score(features, feature) for name, feature in names.items()}


def _baseline(
    name: str,
    model: DiceModel | None,
    features: Sequence[Mapping[str, float | None]],
    true: np.ndarray,
    drawn: np.ndarray | None,
) -> dict[str, Any] | str:
    """How good a baseline is, or why that is not known."""
    if model is None:
        return f"the validation predictions had {_MADE_OF[name]}"
    feature = _feature(name, model, features[0])
    if feature is None or (without := sum(each.get(feature) is None for each in features)):
        number = len(features) if feature is None else without
        return f"{number} of {len(features)} predictions have {_MADE_OF[name]}"
    values = np.array([model.predict(each) for each in features])
    return _quality(values, np.array([_score(each, feature) for each in features]), true, drawn)


def _feature(name: str, model: DiceModel, features: Mapping[str, float | None]) -> str | None:
    """What a baseline is a function of; a constant one was fitted to a feature that did not vary."""
    if model.features:
        return model.features[0]
    return next((feature for feature in BASELINES[name] if features.get(feature) is not None), None)


def _score(features: Mapping[str, float | None], feature: str) -> float:
    value = features[feature]
    assert value is not None
    return SIGNS[feature] * value


def _quality(predicted: np.ndarray, score: np.ndarray, true: np.ndarray, drawn: np.ndarray | None) -> dict[str, Any]:
    """How good predictions and scores of the true Dice are, (N,) each; with weights (B, N) also the intervals."""
    error = np.abs(predicted - true)
    correlation = rank_correlation(score, true)
    quality: dict[str, Any] = {
        "mae": float(error.mean()),
        "rank_correlation": None if np.isnan(correlation) else correlation,
        "aurc": aurc(1 - true, score),
    }
    if drawn is not None:
        quality["intervals"] = intervals_of(
            {
                "mae": weighted_mean(error, drawn),
                "rank_correlation": rank_correlation_bootstrap(score, true, drawn),
                "aurc": risk_coverage_bootstrap(1 - true, score, drawn).aurc,
            }
        )
    return quality
