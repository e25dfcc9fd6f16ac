"""A NaN that goes into a metric comes out as NaN or as an error, never as a finite score."""

import numpy as np
import pytest

from nnunet_stochastic import metrics

PROBABILITIES = np.array([[0.2, 0.7, np.nan, 0.5], [0.8, 0.3, np.nan, 0.5]])
LABEL = np.array([0, 1, 1, 0])
MAP = PROBABILITIES[0]
RATERS = np.array([[0, 1, 1, 0], [0, 1, 0, 0]])
BINARY = [(1,)]
UNLABELLED = np.array([0.0, 1.0, np.nan, 0.0])


@pytest.mark.parametrize(
    "metric",
    [
        lambda: metrics.brier(PROBABILITIES, LABEL),
        lambda: metrics.binary_brier(MAP, LABEL == 1),
        lambda: metrics.nll(PROBABILITIES, LABEL),
        lambda: metrics.binary_nll(MAP, LABEL == 1),
        lambda: metrics.reliability_bins(MAP, LABEL == 1),
        lambda: metrics.predicted_class_confidence(PROBABILITIES, LABEL),
        lambda: metrics.predicted_event_confidence(MAP, LABEL == 1),
        lambda: metrics.consensus_confidence(MAP, RATERS, labels=[1]),
        lambda: metrics.soft_dice_over_thresholds(MAP, RATERS, labels=[1]),
        lambda: metrics.normalized_cross_correlation(MAP, LABEL),
        lambda: metrics.tempered(PROBABILITIES, 2.0),
        lambda: metrics.TemperatureStatistics.of(PROBABILITIES, LABEL),
        lambda: metrics.UncertaintyHistogram.of(MAP, LABEL == 1),
        lambda: metrics.UncertaintyHistogram.empty().quantile(np.nan),
        lambda: metrics.joint_label_counts(UNLABELLED, LABEL, num_labels=2),
        lambda: metrics.co_occurrence(UNLABELLED[None], RATERS, classes=BINARY),
        lambda: metrics.annotation_variance(UNLABELLED[None], num_labels=2),
        lambda: metrics.consensus_mask(UNLABELLED[None], labels=[1]),
        lambda: metrics.border_length(UNLABELLED),
        lambda: metrics.aurc(np.zeros(4), MAP),
    ],
)
def test_refused(metric):
    with pytest.raises(ValueError, match=r"finite|integers|NaN|q must be in"):
        metric()


@pytest.mark.parametrize(
    "metric",
    [
        lambda: metrics.image_mean(MAP),
        lambda: metrics.patch_maximum(MAP, side=1),
        lambda: metrics.mean_above(MAP, 0.4),
        lambda: metrics.per_area(MAP, LABEL),
        lambda: metrics.per_border(MAP, LABEL),
        lambda: metrics.auroc(MAP, np.ones(3)),
        lambda: metrics.crps_samples(MAP, 0.5),
        lambda: metrics.crps_samples(np.ones(3), np.nan),
        lambda: metrics.crps_gaussian(np.nan, 0.0, 1.0),
        lambda: metrics.crps_gaussian(0.0, 0.0, np.nan),
        lambda: metrics.entanglement(np.nan, 0.0),
        lambda: metrics.entanglement(0.5, np.nan, lower_is_better=True),
        lambda: metrics.PlattScaling(-1.0, 0.0).confidence(np.array(np.nan)),
    ],
)
def test_passed_on(metric):
    assert np.isnan(metric())
