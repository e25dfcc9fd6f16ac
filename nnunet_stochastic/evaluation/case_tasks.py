"""What the tasks need of one case: scores of its maps, their agreement with the annotations, GED and volumes.

Annotations are the raters', or the reference where there are none; ambiguity needs raters. Voxels with the ignore label
are left out of every comparison with an annotation. A number that does not exist is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_stochastic import metrics
from nnunet_stochastic.degenerate_samples import Degeneration, degenerate_samples
from nnunet_stochastic.evaluation.aggregation import image_scores
from nnunet_stochastic.evaluation.calibration import Calibration
from nnunet_stochastic.evaluation.cases import Case, CaseFiles, read_case_map
from nnunet_stochastic.evaluation.conventions import Convention
from nnunet_stochastic.evaluation.labels import EvaluatedLabels
from nnunet_stochastic.evaluation.maps import Measure
from nnunet_stochastic.evaluation.readers import ImageReader

__all__ = [
    "CONFIDENCE_BINS",
    "MeasureScores",
    "degeneration",
    "distance_to_annotations",
    "foreground_ml",
    "rater_variance",
    "score_measure",
]

CONFIDENCE_BINS = 20
NAN = float("nan")


@dataclass(frozen=True)
class MeasureScores:
    """Scores of one map.

    Attributes
    ----------
    scores
        ``mean``, ``patch``, ``threshold``, ``area``, ``border`` (nats), ``ncc`` and ``ace`` of the image.
    confidence
        Bins of the confidence against being right, over all annotations; None without calibration or annotations.
    """

    scores: dict[str, float]
    confidence: metrics.ReliabilityBins | None


def score_measure(
    files: CaseFiles,
    case: Case,
    measure: Measure,
    ambiguity: np.ndarray | None,
    labels: EvaluatedLabels,
    reader: ImageReader,
    *,
    convention: Convention,
    calibration: Calibration | None,
) -> MeasureScores:
    """Read a map and score it.

    Parameters
    ----------
    files, case
        The case, and what was read of it.
    measure
        Which map.
    ambiguity
        Variance over raters of the voxels that all of them labelled, (n,); None without raters.
    labels, reader
        The classes, and nnU-Net's reader of the dataset.
    convention, calibration
        What to compute; without calibration there is neither threshold nor confidence.
    """
    uncertainty = read_case_map(files, case, measure, reader)
    prediction = labels.without_ignored(case.prediction)
    threshold = None if calibration is None else calibration.threshold(measure)
    scores: dict[str, float] = {**image_scores(uncertainty, prediction, threshold=threshold), "ncc": NAN, "ace": NAN}
    if ambiguity is not None:
        scores["ncc"] = metrics.normalized_cross_correlation(
            uncertainty[labels.annotated(case.raters)].ravel(), ambiguity
        )
    platt = None if calibration is None else calibration.platt(measure, per_image=convention.per_image_platt)
    if platt is None or not case.annotations:
        return MeasureScores(scores, None)
    confidence = platt.confidence(uncertainty)
    bins = None
    for annotation in case.annotations:
        valid = labels.annotated([annotation])
        found = metrics.reliability_bins(
            confidence[valid].ravel(), (prediction == annotation)[valid].ravel(), num_bins=CONFIDENCE_BINS
        )
        bins = found if bins is None else bins + found
    scores["ace"] = metrics.average_calibration_error(bins)
    return MeasureScores(scores, bins)


def rater_variance(case: Case, labels: EvaluatedLabels, convention: Convention) -> np.ndarray | None:
    """Variance over raters of the voxels that all of them labelled, (n,), float32; None with fewer than two raters."""
    if len(case.raters) < 2:
        return None
    annotations = np.stack(case.raters)[:, labels.annotated(case.raters)]
    return metrics.annotation_variance(
        annotations.reshape(len(annotations), -1), num_labels=labels.num_labels, codes=convention.label_codes
    )


def distance_to_annotations(
    samples: np.ndarray, case: Case, labels: EvaluatedLabels
) -> tuple[dict[metrics.GedDistance, float], dict[str, float]]:
    """GED by each distance and, by class, CRPS of the volume in ml; NaN and nothing without samples or annotations.

    ``samples`` are label maps (N, z, y, x) without the ignore label.
    """
    if not len(samples) or not case.annotations:
        return dict.fromkeys(metrics.GED_DISTANCES, NAN), {}
    valid = labels.annotated(case.annotations)
    samples = samples[:, valid]
    annotations = np.stack(case.annotations)[:, valid]
    samples, annotations = (labels_of.reshape(len(labels_of), -1) for labels_of in (samples, annotations))
    ged = metrics.generalized_energy_distance(samples, annotations, classes=labels.classes)
    if case.voxel_ml is None:
        return ged, {}
    crps = {}
    for index, name in enumerate(labels.names):
        predicted, observed = (
            case.voxel_ml * np.array([np.count_nonzero(labels.target(one, index)) for one in group])
            for group in (samples, annotations)
        )
        crps[name] = float(np.mean([metrics.crps_samples(predicted, volume) for volume in observed]))
    return ged, crps


def degeneration(samples: np.ndarray, case: Case, labels: EvaluatedLabels) -> Degeneration | None:
    """Whether all samples (N, z, y, x) of a case are empty or fill the image, and the segmentation is or does not."""
    shares = [np.count_nonzero(sample) / sample.size for sample in samples]
    prediction = labels.without_ignored(case.prediction)
    return degenerate_samples(shares, np.count_nonzero(prediction) / prediction.size)


def foreground_ml(case: Case, labels: EvaluatedLabels) -> float:
    """Volume of the predicted foreground in ml; NaN for 2D images."""
    return NAN if case.voxel_ml is None else case.voxel_ml * np.count_nonzero(labels.without_ignored(case.prediction))
