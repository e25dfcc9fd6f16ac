"""Calibration error of confidences: ECE = sum_b n_b/N |acc_b - conf_b|, MCE = max_b |acc_b - conf_b|.

ACE is the mean of |acc_b - conf_b| over the non-empty bins, every bin counting the same.
With the l2 norm, ECE = sqrt(sum_b n_b/N (acc_b - conf_b)^2).
Bins are of equal width on [0, 1]; bin b holds confidences in ((b-1)/M, b/M], and 0 belongs to the first. Closed on the
left, it holds [(b-1)/M, b/M), and 1 has a bin of its own, as in torchmetrics.
What a set of voxels adds to the diagram is three sums per bin (``ReliabilityBins``). They add up over cases, so the
error of a whole data set is exact and needs no voxel twice.
Policy: empty bins are left out; no voxels at all -> NaN; a NaN among the confidences -> ValueError. Voxels with the
ignore label are left out before the call.
Reference: Guo et al., On calibration of modern neural networks, ICML 2017, https://arxiv.org/abs/1706.04599.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from nnunet_stochastic.metrics._checks import check_binary, check_labels

__all__ = [
    "ReliabilityBins",
    "ReliabilityCurve",
    "average_calibration_error",
    "expected_calibration_error",
    "maximum_calibration_error",
    "predicted_class_confidence",
    "predicted_event_confidence",
    "reliability_bins",
    "reliability_curve",
]

# Elements binned at a time, so that the temporary arrays stay small whatever the image's size.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ReliabilityBins:
    """Sufficient statistic of a reliability diagram; ``a + b`` pools two sets of voxels.

    Attributes
    ----------
    count
        Number of elements per bin, (M,), int64.
    confidence_sum
        Sum of their confidences, (M,), float64.
    correct_sum
        Number of them that were correct, (M,), int64.
    """

    count: np.ndarray
    confidence_sum: np.ndarray
    correct_sum: np.ndarray

    def __add__(self, other: ReliabilityBins) -> ReliabilityBins:
        if self.count.shape != other.count.shape:
            raise ValueError(f"cannot add {len(self.count)} bins to {len(other.count)}; use the same num_bins")
        return ReliabilityBins(
            self.count + other.count,
            self.confidence_sum + other.confidence_sum,
            self.correct_sum + other.correct_sum,
        )


class ReliabilityCurve(NamedTuple):
    """The non-empty bins of a reliability diagram, each (bins,)."""

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray  # type: ignore[assignment]  # hides tuple.count


def reliability_bins(
    confidence: np.ndarray, correct: np.ndarray, *, num_bins: int = 15, closed: Literal["left", "right"] = "right"
) -> ReliabilityBins:
    """Sort confidences into bins.

    Parameters
    ----------
    confidence
        Stated probability of being correct, any shape, in [0, 1].
    correct
        Whether it was, bool, same shape.
    num_bins
        Number M of bins of equal width on [0, 1].
    closed
        The side on which a bin holds its edge.

    Returns
    -------
    ReliabilityBins
        The sums per bin; M + 1 bins if closed on the left.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    check_binary(confidence, correct)
    confidence, correct = confidence.ravel(), correct.ravel()
    # In the confidences' precision, in which 0.58 is on an edge of 50 bins and not below it.
    edges = np.linspace(0, 1, num_bins + 1).astype(confidence.dtype)
    if closed == "left":
        num_bins += 1
    count = np.zeros(num_bins, dtype=np.int64)
    confidence_sum = np.zeros(num_bins)
    correct_sum = np.zeros(num_bins, dtype=np.int64)
    for start in range(0, confidence.size, _CHUNK):
        values = confidence[start : start + _CHUNK].astype(np.float64)
        if closed == "left":
            bins = np.searchsorted(edges, confidence[start : start + _CHUNK], side="right") - 1
        else:
            bins = np.ceil(values * num_bins).astype(np.int64) - 1
        bins = np.clip(bins, 0, num_bins - 1)
        count += np.bincount(bins, minlength=num_bins)
        confidence_sum += np.bincount(bins, weights=values, minlength=num_bins)
        correct_sum += np.bincount(bins[correct[start : start + _CHUNK]], minlength=num_bins)
    return ReliabilityBins(count, confidence_sum, correct_sum)


def predicted_class_confidence(probabilities: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of the predicted class, max_c p[c], and whether that class is the label.

    Parameters
    ----------
    probabilities
        Predictive mean, (C, *S), in [0, 1], summing to 1 over classes.
    label
        Label map, (*S), integers in [0, C).

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        Confidence (*S) in [1/C, 1] and correct (*S), bool.
    """
    check_labels(probabilities, label)
    return probabilities.max(axis=0), probabilities.argmax(axis=0) == label


def predicted_event_confidence(probability: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of the predicted side of yes/no events (regions), max(p, 1 - p), and whether that side is right.

    Parameters
    ----------
    probability
        Probability that the event happens, any shape, in [0, 1]; predicted to happen where p > 0.5.
    target
        Whether it happened, bool, same shape.

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        Confidence in [0.5, 1] and correct, bool, both of the same shape.
    """
    check_binary(probability, target)
    return np.maximum(probability, 1 - probability), (probability > 0.5) == target


def reliability_curve(bins: ReliabilityBins) -> ReliabilityCurve:
    """Mean confidence, accuracy and count of every non-empty bin, in order of confidence."""
    filled = bins.count > 0
    count = bins.count[filled]
    return ReliabilityCurve(bins.confidence_sum[filled] / count, bins.correct_sum[filled] / count, count)


def expected_calibration_error(bins: ReliabilityBins, *, norm: Literal["l1", "l2"] = "l1") -> float:
    """ECE in [0, 1]: mean (l1) or root mean square (l2) of the gaps of the bins by their counts; NaN without voxels."""
    confidence, accuracy, count = reliability_curve(bins)
    if not count.size:
        return float("nan")
    gap = np.abs(accuracy - confidence)
    return float(np.average(gap, weights=count) if norm == "l1" else np.sqrt(np.average(gap**2, weights=count)))


def maximum_calibration_error(bins: ReliabilityBins) -> float:
    """MCE in [0, 1]: the largest |accuracy - mean confidence| of a non-empty bin; NaN without voxels."""
    confidence, accuracy, _ = reliability_curve(bins)
    return float(np.abs(accuracy - confidence).max()) if accuracy.size else float("nan")


def average_calibration_error(bins: ReliabilityBins) -> float:
    """ACE in [0, 1]: |accuracy - mean confidence|, mean over non-empty bins (Neumann et al. 2018); NaN without voxels.

    Large regions of certain voxels, which fill one bin, do not hide the others as they do in the ECE.
    """
    confidence, accuracy, _ = reliability_curve(bins)
    return float(np.abs(accuracy - confidence).mean()) if accuracy.size else float("nan")
