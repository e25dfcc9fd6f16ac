"""The tasks that tell whether an uncertainty is any good, from the results of the case sets.

    OODD     finds images out of distribution: AUROC of image scores, ID against each shift
    AMB      looks like the raters' disagreement: NCC of the map and the variance over raters
    CAL      says how often the prediction is wrong: ACE of the confidence from Platt scaling
    FD       finds bad segmentations: AURC and E-AURC with risk 1 - Dice
    GED      distance of samples and annotations          VOLUME   CRPS of the samples' volumes
    RATIO    mean EU over mean AU                         CURVAS   the challenges' metrics

Shifts are evaluated one by one, and "OOD" is the mean over them. Christensen et al., Rethinking Uncertainty
Quantification and Entanglement in Image Segmentation, 3.4; Kahl et al., ValUES, https://arxiv.org/abs/2401.08501.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from nnunet_stochastic import metrics
from nnunet_stochastic.evaluation.case_sets import ID
from nnunet_stochastic.evaluation.conventions import AGGREGATIONS, Convention
from nnunet_stochastic.evaluation.maps import MEASURES
from nnunet_stochastic.evaluation.results import SetResults

__all__ = ["ACE", "Ace", "ambiguity", "calibration_errors", "compute_tasks", "failure_detection", "mean_of", "ratio"]

# Calibration errors of CAL: mean over the images, or of all images together.
Ace = Literal["per_image", "dataset"]
ACE: tuple[Ace, ...] = get_args(Ace)

_NO_MAPS = "the predictions have no uncertainty maps; predict with nnunet_stochastic_predict"
_NO_VALIDATION = "no -val folder was given"


@dataclass(frozen=True)
class _Task:
    """A task that is computed set by set: its numbers, whether a set has them, and the reason where not."""

    name: str
    of_set: Callable[[SetResults], Any]
    possible: Callable[[SetResults], bool]
    reason: str


def compute_tasks(
    sets: Sequence[SetResults], convention: Convention, *, num_samples: int, calibrated: bool, raters: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """All tasks that can be computed.

    Parameters
    ----------
    sets
        ID first, then the shifts.
    convention
        The preset.
    num_samples
        Samples per case.
    calibrated
        Whether there was a calibration.
    raters
        Whether ID has raters' annotations.

    Returns
    -------
    tuple[dict, dict]
        Results by task, NaN where a number does not exist, and for what is left out the reason.
    """
    tasks: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    known, *shifts = sets
    if not shifts:
        left_out["OODD"] = "no -ood set was given"
    elif known.scores.empty:
        left_out["OODD"] = _NO_MAPS
    else:
        tasks["OODD"] = _out_of_distribution(known, shifts, convention)
        if not calibrated:
            left_out["OODD/threshold"] = _NO_VALIDATION
    for task in _tasks(convention, has_maps=not known.scores.empty, num_samples=num_samples, calibrated=calibrated):
        values = {results.name: task.of_set(results) for results in sets if task.possible(results)}
        if values:
            tasks[task.name] = _splits(values)
            left_out |= {f"{task.name}/{results.name}": task.reason for results in sets if results.name not in values}
        else:
            left_out[task.name] = task.reason

    annotations = "raters" if raters else "reference"
    if "CAL" in tasks:
        calibrated_sets = [results for results in sets if results.confidence]
        tasks["CAL"] |= {
            ace: _splits(
                {results.name: calibration_errors(results, per_image=ace == "per_image") for results in calibrated_sets}
            )
            for ace in ACE
        }
        tasks["CAL"]["annotations"] = annotations
    if "FD" in tasks:
        tasks["FD"]["aggregation"] = convention.aggregation
    if "GED" in tasks:
        by_distance = {distance: _of_splits(tasks["GED"], distance) for distance in metrics.GED_DISTANCES}
        ranked = convention.distance
        tasks["GED"] = {**by_distance[ranked], **by_distance, "distance": ranked, "num_samples": num_samples}
        tasks["GED"]["annotations"] = annotations
    return tasks, left_out


def _tasks(convention: Convention, *, has_maps: bool, num_samples: int, calibrated: bool) -> list[_Task]:
    no_annotations = "no annotations were given (-ood_gt)"
    no_samples = "the predictions have no samples; predict with --save_samples"
    no_calibration = "no annotations were given (-ood_gt), or the maps are constant" if calibrated else _NO_VALIDATION
    tasks = [
        _Task(
            "AMB",
            ambiguity,
            lambda results: _has_numbers(results.scores["ncc"]),
            "no annotations of several raters were given (-gt_raters, -ood_gt_raters)" if has_maps else _NO_MAPS,
        ),
        _Task(
            "CAL",
            lambda results: calibration_errors(results, per_image=convention.per_image_ace),
            lambda results: bool(results.confidence),
            no_calibration if has_maps else _NO_MAPS,
        ),
        _Task(
            "FD",
            lambda results: failure_detection(results, convention),
            lambda results: has_maps and _has_numbers(results.image("risk")),
            "no case has a Dice: " + no_annotations + ", or all are empty in both" if has_maps else _NO_MAPS,
        ),
        _Task(
            "GED",
            lambda results: {name: mean_of(results.image(f"ged_{name}")) for name in metrics.GED_DISTANCES},
            lambda results: _has_numbers(results.image("ged_dice")),
            no_annotations + ", or no samples (--save_samples)" if num_samples else no_samples,
        ),
        _Task(
            "VOLUME",
            lambda results: {name: mean_of(values.to_numpy()) for name, values in results.crps_ml.items()},
            lambda results: not results.crps_ml.empty,
            no_annotations + " or samples (--save_samples), or 2D has no volume" if num_samples else no_samples,
        ),
        _Task(
            "RATIO",
            ratio,
            lambda results: _has_numbers(results.image("AU")) and _has_numbers(results.image("EU")),
            "it needs aleatoric and epistemic maps",
        ),
    ]
    if convention.challenge_metrics:
        needs = "it needs two raters and probabilities (-gt_raters, -ood_gt_raters)"
        tasks.append(_Task("CURVAS", _challenge, lambda results: not results.challenge.empty, needs))
    return tasks


def mean_of(values: np.ndarray) -> float:
    """Mean of the numbers that exist, NaN without any."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def ambiguity(results: SetResults) -> dict[str, float]:
    """NCC of each measure, mean over cases."""
    return {measure: mean_of(results.score(measure, "ncc")) for measure in MEASURES}


def calibration_errors(results: SetResults, *, per_image: bool) -> dict[str, float]:
    """ACE of each measure: mean over images, or of all images together."""
    if per_image:
        return {measure: mean_of(results.score(measure, "ace")) for measure in MEASURES}
    pooled = {measure: results.pooled_confidence(measure) for measure in MEASURES}
    return {
        measure: float("nan") if bins is None else metrics.average_calibration_error(bins)
        for measure, bins in pooled.items()
    }


def failure_detection(results: SetResults, convention: Convention) -> dict[str, dict[str, float]]:
    """AURC and E-AURC of each measure."""
    found = {}
    for measure in MEASURES:
        confidence = -results.score(measure, convention.aggregation)
        risk = np.where(np.isfinite(confidence), results.image("risk"), np.nan)
        found[measure] = {"aurc": metrics.aurc(risk, confidence), "e_aurc": metrics.excess_aurc(risk, confidence)}
    return found


def ratio(results: SetResults) -> float:
    """Mean EU over mean AU, both over images."""
    aleatoric, epistemic = mean_of(results.image("AU")), mean_of(results.image("EU"))
    return epistemic / aleatoric if aleatoric > 0 else float("nan")


def _out_of_distribution(known: SetResults, shifts: Sequence[SetResults], convention: Convention) -> dict[str, Any]:
    def of_shift(shift: SetResults, aggregation: str) -> dict[str, float]:
        return {
            measure: metrics.auroc(known.score(measure, aggregation), shift.score(measure, aggregation))
            for measure in MEASURES
        }

    by_aggregation = {
        aggregation: _mean([of_shift(shift, aggregation) for shift in shifts]) for aggregation in AGGREGATIONS
    }
    return {
        **by_aggregation[convention.aggregation],
        "aggregation": convention.aggregation,
        "shifts": {shift.name: of_shift(shift, convention.aggregation) for shift in shifts},
        "aggregations": by_aggregation,
    }


def _challenge(results: SetResults) -> dict[str, dict[str, float]]:
    means = results.challenge.groupby("class", sort=False).mean()
    return {name: dict(row) for name, row in means.iterrows()}


def _splits(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by set as ID, OOD (mean over shifts) and shifts; NaN for a split without sets."""
    shifts = {name: value for name, value in values.items() if name != ID}
    nothing = _nan_like(next(iter(values.values())))
    return {ID: values.get(ID, nothing), "OOD": _mean(list(shifts.values())) if shifts else nothing, "shifts": shifts}


def _of_splits(splits: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One of the numbers that a task has of each set, in the form of ``_splits``."""
    shifts = {shift: values[name] for shift, values in splits["shifts"].items()}
    return {ID: splits[ID][name], "OOD": splits["OOD"][name], "shifts": shifts}


def _mean(values: Sequence[Any]) -> Any:
    """Mean of numbers, or of dictionaries of numbers entry by entry; NaN is left out."""
    if isinstance(values[0], dict):
        return {key: _mean([value[key] for value in values if key in value]) for key in values[0]}
    return mean_of(np.array(values, dtype=np.float64))


def _nan_like(value: Any) -> Any:
    return {key: _nan_like(entry) for key, entry in value.items()} if isinstance(value, dict) else float("nan")


def _has_numbers(values: Any) -> bool:
    return bool(np.isfinite(values).any())
