"""Scores of one case against one annotation: of the segmentation Dice, distances of the surfaces and lesion-wise Dice;
NLL, Brier, ECE and MCE of the probabilities.

A class is scored one against the rest: its probability p_c against whether the voxel belongs to it. All classes
together are scored on the label (softmax), or on all yes/no events pooled (regions).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import DEFAULT_CONVENTION, Convention, find_convention
from nnunet_stochastic.evaluation.cases import EvaluatedCase
from nnunet_stochastic.evaluation.structure_scores import STRUCTURE_METRICS, SURFACE_TOLERANCE_MM, structure_scores
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = [
    "ALL_CLASSES",
    "DIRECTIONS",
    "MEANS_OF_CLASSES",
    "METRICS",
    "RATERS",
    "REFERENCE",
    "AnnotationScores",
    "score_annotation",
    "score_case",
]

ALL_CLASSES = "all classes"
# Groups of annotations.
REFERENCE = "reference"
RATERS = "raters"
_DEFAULT = find_convention(DEFAULT_CONVENTION)
METRICS = ("dice", "nll", "brier", "ece", "mce", *STRUCTURE_METRICS)
#: The direction in which each is better.
DIRECTIONS = {metric: 1 if metric == "dice" else STRUCTURE_METRICS.get(metric, -1) for metric in METRICS}
#: Those that all classes have as the mean of the foreground classes, not as a number of their own.
MEANS_OF_CLASSES = ("dice", *STRUCTURE_METRICS)


@dataclass(frozen=True)
class AnnotationScores:
    """Scores against one annotation.

    Attributes
    ----------
    rows
        One table row per foreground class and one for all classes.
    bins
        Reliability bins under the same names, for calibration errors over many cases.
    """

    rows: list[dict[str, Any]]
    bins: dict[str, metrics.ReliabilityBins]


def score_case(
    case: EvaluatedCase,
    labels: EvaluatedLabels,
    *,
    convention: Convention = _DEFAULT,
    tolerance_mm: float = SURFACE_TOLERANCE_MM,
) -> dict[str, AnnotationScores]:
    """Scores against the reference and each rater, under the names ``reference``, ``rater0``, ``rater1`` ….

    A case without reference has no raters either, and no scores.
    """
    annotations = {} if case.reference is None else {REFERENCE: case.reference}
    annotations |= {f"rater{index}": label for index, label in enumerate(case.raters)}
    return {
        annotation: score_annotation(
            case, label, labels, annotation=annotation, convention=convention, tolerance_mm=tolerance_mm
        )
        for annotation, label in annotations.items()
    }


def score_annotation(
    case: EvaluatedCase,
    label: np.ndarray,
    labels: EvaluatedLabels,
    *,
    annotation: str,
    convention: Convention = _DEFAULT,
    tolerance_mm: float = SURFACE_TOLERANCE_MM,
) -> AnnotationScores:
    """Scores of a case against one label map.

    Parameters
    ----------
    case
        The prediction: segmentation (z, y, x) and probabilities (C, z, y, x).
    label
        Annotation, (z, y, x), integer; voxels with the ignore label are left out of everything.
    labels
        The classes.
    annotation
        Name of the annotation, for the table.
    convention
        Which probability ECE and MCE are about, and their bins.
    tolerance_mm
        Tolerance of the normalised surface Dice, >= 0, mm.
    """
    probabilities, prediction = case.probabilities, case.prediction
    if probabilities is None:
        raise ValueError(f"{case.name} has no probabilities to score; predict again with --save_probabilities")
    structures = _score_structures(case, label, labels, tolerance_mm)
    if labels.ignore_label is not None:
        valid = labels.annotated([label])
        probabilities, prediction, label = probabilities[:, valid], prediction[valid], label[valid]
        prediction = labels.without_ignored(prediction)

    closed: Literal["left", "right"] = "left" if convention.foreground_calibration else "right"
    binned = functools.partial(metrics.reliability_bins, num_bins=convention.num_bins, closed=closed)
    counts = metrics.joint_label_counts(prediction, label, num_labels=labels.num_labels)
    dice = metrics.dice(counts, labels.classes)
    rows: list[dict[str, Any]] = []
    bins: dict[str, metrics.ReliabilityBins] = {}
    for index, name in enumerate(labels.names):
        probability, target = probabilities[labels.channel(index)], labels.target(label, index)
        bins[name] = binned(probability, target)
        rows.append(
            {
                "class": name,
                "dice": float(dice[index]),
                "nll": metrics.binary_nll(probability, target),
                "brier": metrics.binary_brier(probability, target),
                "reference_voxels": int(counts[:, labels.classes[index]].sum()),
                "predicted_voxels": int(counts[labels.classes[index], :].sum()),
                **structures[index],
            }
        )

    if labels.has_regions:
        target = np.stack([labels.target(label, index) for index in range(len(labels.names))])
        confidence, correct = metrics.predicted_event_confidence(probabilities, target)
        nll, brier = metrics.binary_nll(probabilities, target), metrics.binary_brier(probabilities, target)
    else:
        confidence, correct = metrics.predicted_class_confidence(probabilities, label)
        nll, brier = metrics.nll(probabilities, label), metrics.brier(probabilities, label)
    if convention.foreground_calibration and not labels.has_regions:
        confidence, correct = probabilities[1:].sum(axis=0), label != 0
    elif convention.foreground_calibration:
        confidence, correct = probabilities, target
    bins[ALL_CLASSES] = binned(confidence, correct)
    rows.append(
        {
            "class": ALL_CLASSES,
            "dice": _mean(dice),
            **{metric: _mean([scores[metric] for scores in structures]) for metric in STRUCTURE_METRICS},
            "nll": nll,
            "brier": brier,
            "reference_voxels": int(counts[:, 1:].sum()),
            "predicted_voxels": int(counts[1:, :].sum()),
        }
    )
    for row in rows:
        row["case"], row["annotation"] = case.name, annotation
        row["ece"] = metrics.expected_calibration_error(bins[row["class"]], norm=convention.ece_norm)
        row["mce"] = metrics.maximum_calibration_error(bins[row["class"]])
    return AnnotationScores(rows, bins)


def _score_structures(
    case: EvaluatedCase, label: np.ndarray, labels: EvaluatedLabels, tolerance_mm: float
) -> list[dict[str, float]]:
    """Scores of each class; what the annotation leaves open is outside of every structure."""
    annotated = labels.annotated([label])
    found = []
    for index in range(len(labels.names)):
        predicted = labels.target(case.prediction, index)
        if annotated is not ...:
            predicted &= annotated
        reference = labels.target(label, index)
        found.append(structure_scores(predicted, reference, spacing_mm=case.spacing_mm, tolerance_mm=tolerance_mm))
    return found


def _mean(values: Sequence[float] | np.ndarray) -> float:
    """Mean of the numbers that exist, NaN without any."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
