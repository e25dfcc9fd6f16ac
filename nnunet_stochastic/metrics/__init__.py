"""Metrics: pure functions, arrays in, numbers out. Each file states its formula, shapes and empty policy."""

from nnunet_stochastic.metrics.brier import binary_brier, brier
from nnunet_stochastic.metrics.calibration import (
    ReliabilityBins,
    ReliabilityCurve,
    expected_calibration_error,
    maximum_calibration_error,
    predicted_class_confidence,
    predicted_event_confidence,
    reliability_bins,
    reliability_curve,
)
from nnunet_stochastic.metrics.dice import dice, joint_label_counts
from nnunet_stochastic.metrics.ged import co_occurrence, generalized_energy_distance, pairwise_distance
from nnunet_stochastic.metrics.nll import PROBABILITY_FLOOR, binary_nll, nll

__all__ = [
    "PROBABILITY_FLOOR",
    "ReliabilityBins",
    "ReliabilityCurve",
    "binary_brier",
    "binary_nll",
    "brier",
    "co_occurrence",
    "dice",
    "expected_calibration_error",
    "generalized_energy_distance",
    "joint_label_counts",
    "maximum_calibration_error",
    "nll",
    "pairwise_distance",
    "predicted_class_confidence",
    "predicted_event_confidence",
    "reliability_bins",
    "reliability_curve",
]
