"""Metrics: pure functions, arrays in, numbers out. Each file states its formula, shapes and empty policy."""

from nnunet_stochastic.metrics.annotation_variance import annotation_variance
from nnunet_stochastic.metrics.auroc import auroc, auroc_bootstrap
from nnunet_stochastic.metrics.bounding_box import bounding_box
from nnunet_stochastic.metrics.brier import binary_brier, brier
from nnunet_stochastic.metrics.calibration import (
    ReliabilityBins,
    ReliabilityCurve,
    average_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
    predicted_class_confidence,
    predicted_event_confidence,
    reliability_bins,
    reliability_curve,
)
from nnunet_stochastic.metrics.calibration_bootstrap import CalibrationErrors, calibration_errors_bootstrap
from nnunet_stochastic.metrics.crps import crps_gaussian, crps_samples
from nnunet_stochastic.metrics.curvas import (
    consensus_confidence,
    consensus_dice,
    consensus_mask,
    soft_dice_over_thresholds,
)
from nnunet_stochastic.metrics.dice import dice, joint_label_counts
from nnunet_stochastic.metrics.entanglement import entanglement
from nnunet_stochastic.metrics.failure_auroc import FAILURE_DICE, failure_auroc, failure_auroc_bootstrap
from nnunet_stochastic.metrics.filtered_dice import FILTERING_THRESHOLDS, FilteredDice, FilteringSteps, filtered_dice
from nnunet_stochastic.metrics.ged import (
    GED_DISTANCES,
    GedDistance,
    co_occurrence,
    energy_distance_of_counts,
    generalized_energy_distance,
    pairwise_distance,
)
from nnunet_stochastic.metrics.image_scores import (
    border_length,
    image_mean,
    mean_above,
    patch_maximum,
    per_area,
    per_border,
)
from nnunet_stochastic.metrics.lesion_dice import lesion_dice
from nnunet_stochastic.metrics.ncc import normalized_cross_correlation
from nnunet_stochastic.metrics.nll import PROBABILITY_FLOOR, binary_nll, nll
from nnunet_stochastic.metrics.platt import PlattScaling
from nnunet_stochastic.metrics.rank_correlation import rank_correlation, rank_correlation_bootstrap
from nnunet_stochastic.metrics.resampling import (
    BOOTSTRAP_LEVEL,
    mean_of_known,
    percentile_interval,
    weighted_mean,
    weighted_median,
)
from nnunet_stochastic.metrics.risk_coverage import (
    RiskAreas,
    augrc,
    aurc,
    excess_aurc,
    risk_coverage_bootstrap,
    risk_coverage_curve,
)
from nnunet_stochastic.metrics.spread import dice_of_pairs, interval_coverage, pairwise_dice, volume_spread
from nnunet_stochastic.metrics.surface_distance import SurfaceDistances, surface_distances
from nnunet_stochastic.metrics.temperature import TemperatureStatistics, tempered
from nnunet_stochastic.metrics.uncertainty_histogram import UncertaintyHistogram

__all__ = [
    "BOOTSTRAP_LEVEL",
    "FAILURE_DICE",
    "FILTERING_THRESHOLDS",
    "GED_DISTANCES",
    "PROBABILITY_FLOOR",
    "CalibrationErrors",
    "FilteredDice",
    "FilteringSteps",
    "GedDistance",
    "PlattScaling",
    "ReliabilityBins",
    "ReliabilityCurve",
    "RiskAreas",
    "SurfaceDistances",
    "TemperatureStatistics",
    "UncertaintyHistogram",
    "annotation_variance",
    "augrc",
    "aurc",
    "auroc",
    "auroc_bootstrap",
    "average_calibration_error",
    "binary_brier",
    "binary_nll",
    "border_length",
    "bounding_box",
    "brier",
    "calibration_errors_bootstrap",
    "co_occurrence",
    "consensus_confidence",
    "consensus_dice",
    "consensus_mask",
    "crps_gaussian",
    "crps_samples",
    "dice",
    "dice_of_pairs",
    "energy_distance_of_counts",
    "entanglement",
    "excess_aurc",
    "expected_calibration_error",
    "failure_auroc",
    "failure_auroc_bootstrap",
    "filtered_dice",
    "generalized_energy_distance",
    "image_mean",
    "interval_coverage",
    "joint_label_counts",
    "lesion_dice",
    "maximum_calibration_error",
    "mean_above",
    "mean_of_known",
    "nll",
    "normalized_cross_correlation",
    "pairwise_dice",
    "pairwise_distance",
    "patch_maximum",
    "per_area",
    "per_border",
    "percentile_interval",
    "predicted_class_confidence",
    "predicted_event_confidence",
    "rank_correlation",
    "rank_correlation_bootstrap",
    "reliability_bins",
    "reliability_curve",
    "risk_coverage_bootstrap",
    "risk_coverage_curve",
    "soft_dice_over_thresholds",
    "surface_distances",
    "tempered",
    "volume_spread",
    "weighted_mean",
    "weighted_median",
]
