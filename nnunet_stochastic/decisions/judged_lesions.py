"""How well lesions are found by the probability that they exist: FROC, and the calibration error of that probability.

    FROC    from each threshold on: share of the references' lesions that are found, false positives per case
    ECE     |probability - share that is there| over bins of the probability, weighted by the lesions in them

Lesions and candidates count alike, and beside the curve stands the point of the segmentation's lesions alone; the
probability grows with the share of the samples that have one, so that this is the threshold. Sensitivity is over all
lesions of all references, false positives per case are a mean over cases of the mean over references; the matching, one
to one, is that of all lesions. Bunch et al., A free-response approach to the measurement and characterization of
radiographic-observer performance, 1977.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnunet_stochastic.decisions.decisions import StructureDecisions
from nnunet_stochastic.decisions.existence import ExistenceCalibration
from nnunet_stochastic.decisions.lesion_intervals import lesion_intervals
from nnunet_stochastic.decisions.statistics import LesionStatistics
from nnunet_stochastic.metrics import ReliabilityBins, expected_calibration_error, reliability_bins

__all__ = ["FALSE_PER_CASE", "froc", "judge_lesions"]

#: False positives per case at which the sensitivity is said.
FALSE_PER_CASE = (0.5, 1, 2, 4)
_NUM_BINS = 10


def froc(lesions: Sequence[LesionStatistics]) -> list[dict[str, float | None]]:
    """Points of the FROC curve, thresholds on the share of the samples falling; sensitivity None without a lesion."""
    thresholds = np.unique(np.concatenate([each.shares for each in lesions] or [np.zeros(0)]))[::-1]
    return [
        {"share": float(threshold), **_point(lesions, [each.shares >= threshold for each in lesions])}
        for threshold in thresholds
    ]


def _point(lesions: Sequence[LesionStatistics], counted: Sequence[np.ndarray]) -> dict[str, float | None]:
    """Sensitivity and false positives per case of the lesions (L,) that count in each case."""
    total = sum(int(each.num_reference.sum()) for each in lesions)
    matched = [each.matched[:, which] for each, which in zip(lesions, counted, strict=True)]
    return {
        "sensitivity": sum(int(each.sum()) for each in matched) / total if total else None,
        "false_per_case": sum(float((~each).sum(axis=1).mean()) for each in matched) / len(lesions),
    }


def judge_lesions(
    fitted: StructureDecisions,
    found: Sequence[tuple[str, LesionStatistics]],
    left_out: dict[str, str],
    weights: np.ndarray | None = None,
) -> dict[str, Any] | None:
    """Judge the lesions of a structure; reasons of what there is not go to ``left_out``.

    Parameters
    ----------
    fitted
        What was fitted to the structure.
    found
        Patient and lesions of each case that has such statistics.
    left_out
        Takes the reasons.
    weights
        How often each replicate of a bootstrap draws each of these N cases, (B, N): then there are ``intervals``.
    """
    lesions = [each for _, each in found]
    if not lesions:
        left_out["lesions"] = "none were asked for; predict with --lesions"
        return None
    if any(np.isnan(each.shares).any() for each in lesions):
        left_out["lesions"] = "there are neither samples nor members that say how likely each is"
        return None
    num_reference = sum(int(each.num_reference.sum()) for each in lesions)
    if not num_reference:
        left_out["lesions/sensitivity"] = "no annotation has a lesion"
    has_candidates = all(each.has_candidates for each in lesions)
    if not has_candidates:
        left_out["lesions/candidates"] = "not all samples were saved to find them in; predict with --save_samples"
    points = froc(lesions)
    existence = _usable(fitted, lesions, has_candidates, left_out)
    bins = None if existence is None else _reliability(existence, lesions)
    intervals = {}
    if weights is not None:
        thresholds = [point["share"] or 0.0 for point in points]
        of_cases = None if existence is None else [_reliability(existence, [each]) for each in lesions]
        intervals = {"intervals": lesion_intervals(lesions, thresholds, FALSE_PER_CASE, of_cases, weights)}
    return {
        "num_cases": len(lesions),
        "num_patients": len({patient for patient, _ in found}),
        "num_lesions": sum(len(each.shares) for each in lesions),
        "num_reference_lesions": num_reference,
        "num_candidates": sum(int(each.is_candidate.sum()) for each in lesions),
        "has_candidates": has_candidates,
        "segmentation": _point(lesions, [~each.is_candidate for each in lesions]),
        "froc": [
            {**point, "probability": None if existence is None else existence.probability(point["share"] or 0.0)}
            for point in points
        ],
        "sensitivity_at": {f"{allowed:g}": _sensitivity(points, allowed, num_reference) for allowed in FALSE_PER_CASE},
        "existence_calibration_error": None if bins is None else float(expected_calibration_error(bins)),
        "existence_bins": None
        if bins is None
        else {
            "count": bins.count.tolist(),
            "confidence_sum": bins.confidence_sum.tolist(),
            "correct_sum": bins.correct_sum.tolist(),
        },
        **intervals,
    }


def _usable(
    fitted: StructureDecisions, lesions: Sequence[LesionStatistics], has_candidates: bool, left_out: dict[str, str]
) -> ExistenceCalibration | None:
    """The calibration, where it was fitted to lesions of this kind."""
    existence, what = fitted.existence, "lesions/existence"
    if existence is None:
        left_out[what] = fitted.left_out.get("existence", "it was not fitted")
    elif has_candidates and not existence.has_candidates:
        left_out[what] = "it was fitted to lesions without candidates, and here are some"
    elif not any(len(each.shares) for each in lesions):
        left_out[what] = "no lesion and no candidate was found"
    else:
        return existence
    return None


def _reliability(existence: ExistenceCalibration, lesions: Sequence[LesionStatistics]) -> ReliabilityBins:
    confidence, right = [], []
    for each in lesions:
        probability = np.array([existence.probability(share) for share in each.shares], dtype=np.float64)
        confidence.append(np.broadcast_to(probability, each.matched.shape).ravel())
        right.append(each.matched.ravel())
    return reliability_bins(np.concatenate(confidence), np.concatenate(right), num_bins=_NUM_BINS)


def _sensitivity(points: Sequence[dict[str, float | None]], allowed: float, num_reference: int) -> float | None:
    """Largest sensitivity with at most so many false positives per case, 0 where every threshold has more."""
    if not num_reference:
        return None
    reached = [point["sensitivity"] or 0.0 for point in points if (point["false_per_case"] or 0.0) <= allowed]
    return max(reached, default=0.0)
