"""The CURVAS metrics against values by hand, scikit-learn's F1 and each other."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from nnunet_stochastic.metrics import (
    consensus_confidence,
    consensus_dice,
    consensus_mask,
    soft_dice_over_thresholds,
)

# Three raters; label 1 has votes 3, 2, 0, 0, 3, 1; at the third voxel the raters disagree on labels 0 and 2 only.
ANNOTATIONS = np.array([[1, 1, 0, 0, 1, 0], [1, 1, 2, 0, 1, 1], [1, 0, 2, 0, 1, 0]])
PROBABILITY = np.array([0.9, 0.7, 0.05, 0.2, 0.4, 0.3])


def test_by_hand():
    np.testing.assert_array_equal(consensus_mask(ANNOTATIONS, labels=[1]), [1, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(consensus_mask(ANNOTATIONS, labels=[1, 2]), [1, 0, 0, 1, 1, 0])
    # On voxels 0, 2, 3, 4 the class is 1, 0, 0, 1 and predicted 1, 0, 1, 0.
    assert consensus_dice(np.array([1, 1, 0, 1, 2, 1]), ANNOTATIONS, labels=[1]) == pytest.approx(1 / 2)
    expected = ((0.9 + 0.4) / 2 + 1 - (0.05 + 0.2) / 2) / 2
    assert consensus_confidence(PROBABILITY, ANNOTATIONS, labels=[1]) == pytest.approx(expected)
    # Thresholds 0.1 and 0.5: predicted {0, 1, 3, 4, 5} and {0, 1}; raters {0, 1, 4, 5} and {0, 1, 4}.
    score = soft_dice_over_thresholds(PROBABILITY, ANNOTATIONS, labels=[1], thresholds=(0.1, 0.5))
    assert score == pytest.approx((8 / 9 + 4 / 5) / 2)


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    annotations, probability = rng.integers(0, 2, (5, 4, 30)), rng.random((4, 30))
    mean = annotations.mean(axis=0)
    each = [f1_score((mean > t).ravel(), (probability > t).ravel()) for t in np.linspace(0.1, 0.8, 6)]
    assert soft_dice_over_thresholds(probability, annotations, labels=[1]) == pytest.approx(np.mean(each))
    prediction = rng.integers(0, 2, (4, 30))
    agreed = (annotations == annotations[0]).all(axis=0)
    expected = f1_score(annotations[0][agreed], prediction[agreed])
    assert consensus_dice(prediction, annotations, labels=[1]) == pytest.approx(expected)


def test_one_rater_agrees_with_itself():
    annotation = np.random.default_rng(1).integers(0, 3, (1, 50))
    assert consensus_mask(annotation, labels=[2]).all()
    assert consensus_dice(annotation[0], annotation, labels=[2]) == 1
    certain = (annotation[0] == 2).astype(float)
    assert consensus_confidence(certain, annotation, labels=[2]) == 1
    assert consensus_confidence(1 - certain, annotation, labels=[2]) == 0
    assert soft_dice_over_thresholds(certain, annotation, labels=[2]) == 1


def test_four_of_five_raters_are_not_above_the_last_threshold():
    annotations = np.array([[1, 1], [1, 1], [1, 1], [1, 1], [1, 0]])
    score = soft_dice_over_thresholds(np.array([1.0, 0.0]), annotations, labels=[1])
    assert score == pytest.approx((5 * 2 / 3 + 1) / 6)


def test_disputed_voxels_do_not_count():
    rng = np.random.default_rng(2)
    annotations, prediction = rng.integers(0, 2, (2, 60)), rng.integers(0, 2, 60)
    disputed = annotations[0] != annotations[1]
    changed = np.where(disputed, 1 - prediction, prediction)
    score = consensus_dice(prediction, annotations, labels=[1])
    assert 0 < score < 1
    assert consensus_dice(changed, annotations, labels=[1]) == score


def test_empty_classes():
    nothing, everything = np.zeros((2, 4), dtype=int), np.ones((2, 4), dtype=int)
    assert np.isnan(consensus_dice(nothing[0], nothing, labels=[1]))
    assert consensus_dice(everything[0], nothing, labels=[1]) == 0
    assert np.isnan(consensus_confidence(np.zeros(4), nothing, labels=[1]))
    assert np.isnan(consensus_confidence(np.ones(4), everything, labels=[1]))
    assert soft_dice_over_thresholds(np.zeros(4), nothing, labels=[1]) == 1
    assert soft_dice_over_thresholds(np.ones(4), nothing, labels=[1]) == 0


def test_bad_input():
    with pytest.raises(ValueError, match="no annotation"):
        consensus_mask(ANNOTATIONS[:0], labels=[1])
    with pytest.raises(ValueError, match="thresholds is empty"):
        soft_dice_over_thresholds(PROBABILITY, ANNOTATIONS, labels=[1], thresholds=())
    for metric in (consensus_dice, consensus_confidence, soft_dice_over_thresholds):
        with pytest.raises(ValueError, match="agree in"):
            metric(PROBABILITY[:4], ANNOTATIONS, labels=[1])
