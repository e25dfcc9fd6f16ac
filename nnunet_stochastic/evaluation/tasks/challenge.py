"""CURVAS: the metrics of the CURVAS challenges, ``metrics.curvas`` by class, STAPLE and the calibration error.

Several raters, calibration and volumes: https://curvas.grand-challenge.org. Voxels with the ignore label of any rater
are left out. A number that does not exist is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import SimpleITK as sitk

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import Convention
from nnunet_stochastic.evaluation.case_inputs import CaseInputs
from nnunet_stochastic.evaluation.cases import EvaluatedCase
from nnunet_stochastic.evaluation.scores import ALL_CLASSES
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks.resampling import Resampled
from nnunet_stochastic.evaluation.tasks.task import Task, TaskInputs, reason
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = ["CHALLENGE", "CHALLENGE_METRICS", "challenge_scores", "staple"]

NAME = "CURVAS"
#: The direction in which each is better.
DIRECTIONS: Mapping[str, Literal[-1, 0, 1]] = {
    "agreement_dice": 1,
    "agreement_confidence": 1,
    "soft_dice": 1,
    "staple_dice": 1,
    "crps_ml": -1,
    "ece": -1,
}
CHALLENGE_METRICS = ("agreement_dice", "agreement_confidence", "soft_dice", "staple_dice", "crps_ml")
_NUM_BINS = 50


def challenge_scores(
    case: EvaluatedCase, labels: EvaluatedLabels, *, margin: int | None = None
) -> dict[str, dict[str, float]]:
    """Scores of each foreground class, and under ``all classes`` their means and the calibration error ``ece``.

    Parameters
    ----------
    case
        A case with probabilities and at least two raters; others have no scores.
    labels
        The classes.
    margin
        Number of voxels around the raters' bounding box in which ``ece`` is taken; None: in the whole image.
    """
    if case.probabilities is None or len(case.raters) < 2:
        return {}
    voxels = labels.annotated(case.raters)
    raters = np.stack(case.raters)[:, voxels].reshape(len(case.raters), -1)
    prediction = labels.without_ignored(case.prediction)[voxels].ravel()
    probabilities = case.probabilities[:, voxels].reshape(len(case.probabilities), -1)
    scores = {}
    for index, name in enumerate(labels.names):
        values, probability = labels.classes[index], probabilities[labels.channel(index)]
        masks = labels.target(raters, index)
        scores[name] = {
            "agreement_dice": metrics.consensus_dice(prediction, raters, labels=values),
            "agreement_confidence": metrics.consensus_confidence(probability, raters, labels=values),
            "soft_dice": metrics.soft_dice_over_thresholds(probability, raters, labels=values),
            "staple_dice": float(
                metrics.dice(
                    metrics.joint_label_counts(labels.target(prediction, index), staple(masks), num_labels=2), [(1,)]
                )[0]
            ),
            "crps_ml": float("nan"),
        }
        if case.voxel_ml is not None:
            volumes = case.voxel_ml * masks.sum(axis=1)
            scores[name]["crps_ml"] = metrics.crps_gaussian(
                case.voxel_ml * float(probability.sum(dtype=np.float64)), float(volumes.mean()), float(volumes.std())
            )
    means = {metric: _mean([scores[name][metric] for name in labels.names]) for metric in CHALLENGE_METRICS}
    inside = slice(None) if margin is None else _raters_region(case, labels, margin)[voxels].ravel()
    errors = [_calibration_error(probabilities[:, inside], rater[inside], labels) for rater in raters]
    scores[ALL_CLASSES] = {**means, "ece": float(np.mean(errors))}
    return scores


def staple(masks: np.ndarray) -> np.ndarray:
    """Fusion of raters' masks (A, n), bool, by the STAPLE algorithm: (n,), bool, where its probability is above 1/2.

    Warfield et al., Simultaneous truth and performance level estimation, IEEE TMI 2004. Raters who all agree are not
    fused: the algorithm has nothing to estimate their performance from.
    """
    if (masks == masks[0]).all():
        return masks[0]
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)[np.newaxis]) for mask in masks]
    fusion = sitk.STAPLEImageFilter()
    fusion.SetForegroundValue(1.0)
    fusion.SetNumberOfThreads(1)  # the cases are computed in parallel, and sums are the same however many there are
    return sitk.GetArrayFromImage(fusion.Execute(images))[0] > 0.5


def _raters_region(case: EvaluatedCase, labels: EvaluatedLabels, margin: int) -> np.ndarray:
    """Voxels (z, y, x), bool, in the bounding box of all raters' foreground and a margin around it.

    The margin is one voxel less behind the last foreground voxel, as in the slices of the challenge's code.
    """
    foreground = np.any([labels.without_ignored(rater) > 0 for rater in case.raters], axis=0)
    region = np.zeros(foreground.shape, dtype=bool)
    if foreground.any():
        places = (np.flatnonzero(foreground.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3))
        region[tuple(slice(max(place[0] - margin, 0), place[-1] + margin) for place in places)] = True
    return region


def _calibration_error(probabilities: np.ndarray, label: np.ndarray, labels: EvaluatedLabels) -> float:
    if labels.has_regions:
        target = np.stack([labels.target(label, index) for index in range(len(labels.names))])
        confidence, correct = metrics.predicted_event_confidence(probabilities, target)
    else:
        confidence, correct = metrics.predicted_class_confidence(probabilities, label)
    return metrics.expected_calibration_error(metrics.reliability_bins(confidence, correct, num_bins=_NUM_BINS))


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _describe(convention: Convention) -> str:
    margin = convention.challenge_margin
    region = "all voxels"
    if margin is not None:
        region = (
            f"inside the bounding box of all raters' foreground and {margin} voxels around it "
            f"({margin - 1} behind its last one, as the challenge's code has it), cut at the image; "
            "none where no rater has any. The challenge's vascular involvement is not computed"
        )
    return (
        "agreement: Dice and mean confidence on the voxels on which all raters agree; ece: 50 bins, predicted "
        f"class, mean over raters, {region}; crps_ml: volume sum(p) against a normal distribution through the raters' "
        "volumes; staple_dice: against STAPLE (SimpleITK); soft_dice: mean over 6 thresholds from 0.1 to 0.8 of the "
        "predictive mean and of the raters' mean"
    )


def _of_classes(inputs: CaseInputs) -> dict[str, dict[str, float]]:
    return challenge_scores(inputs.case, inputs.labels, margin=inputs.settings.convention.challenge_margin)


def _table(results: SetResults) -> pd.DataFrame:
    """A row per case and class, with the class as index."""
    rows = [{"class": name, **found} for case in results.by_class[NAME].values() for name, found in case.items()]
    return pd.DataFrame(rows).set_index("class").astype(np.float64)


def _replicates(drawn: Resampled, name: str) -> dict[str, dict[str, np.ndarray]]:
    results = drawn.sets[name]
    has_scores = [bool(results.by_class[NAME][case]) for case in results.cases]
    weights = drawn.weights[name][:, has_scores]
    return {
        str(each): {metric: metrics.weighted_mean(values.to_numpy(), weights) for metric, values in rows.items()}
        for each, rows in _table(results).groupby("class", sort=False)
    }


def _of_set(inputs: TaskInputs, results: SetResults) -> dict[str, dict[str, Any]]:
    table = _table(results)
    means = table.groupby("class", sort=False).mean()
    return {str(name): dict(row) for name, row in means.iterrows()}


CHALLENGE = Task(
    name=NAME,
    title="CURVAS challenges",
    metric="",
    direction=0,
    directions=DIRECTIONS,
    caption="Metrics of the CURVAS challenges, over all classes; crps_ml in ml",
    describe=_describe,
    of_set=_of_set,
    has_number=lambda results: any(results.by_class.get(NAME, {}).values()),
    lacking=lambda results: reason(
        results, "the predictions have no probabilities; predict with --save_probabilities", raters=True
    ),
    applies=lambda convention: convention.challenge_metrics,
    by_class=True,
    class_key="challenge",
    of_classes=_of_classes,
    replicates=_replicates,
)
