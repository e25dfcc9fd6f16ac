"""STAPLE, and challenge scores of a case by hand."""

import numpy as np
import pytest

from nnunet_stochastic import metrics
from nnunet_stochastic.evaluation import ALL_CLASSES, EvaluatedCase, EvaluatedLabels
from nnunet_stochastic.evaluation.tasks.challenge import challenge_scores, staple

LABELS = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "liver": 1, "ignore": 2}})


def test_staple_trusts_the_raters_who_agree():
    rng = np.random.default_rng(0)
    truth = rng.random(4000) < 0.3
    good = [truth ^ (rng.random(4000) < 0.02) for _ in range(2)]
    bad = [truth ^ (rng.random(4000) < 0.4) for _ in range(3)]
    fused = staple(np.stack([*good, *bad]))
    majority = np.stack([*good, *bad]).sum(axis=0) > 2
    assert np.mean(fused == truth) > 0.96
    assert np.mean(majority == truth) < 0.94


@pytest.mark.parametrize("value", [False, True])
def test_staple_of_raters_who_agree_everywhere(value):
    masks = np.full((3, 10), value)
    np.testing.assert_array_equal(staple(masks), masks[0])


def test_scores_by_hand():
    foreground = np.array([[[0.9, 0.9, 0.6, 0.2, 0.1, 0.9]]], dtype=np.float32)
    raters = np.array([[[[1, 1, 1, 0, 0, 2]]], [[[1, 1, 0, 0, 0, 0]]]], dtype=np.uint8)
    grid = {"spacing": (1000.0, 1.0, 1.0), "sitk_stuff": {"spacing": (1.0, 1.0, 1000.0)}}  # 1 ml per voxel
    case = EvaluatedCase(
        "case",
        np.stack([1 - foreground, foreground]),
        (foreground > 0.5).astype(np.uint8),
        raters[0],
        (raters[0], raters[1]),
        grid,
    )
    # The last voxel is ignored.
    found = challenge_scores(case, LABELS)
    assert found["liver"]["agreement_dice"] == 1
    assert found["liver"]["agreement_confidence"] == pytest.approx((0.9 + 1 - 0.15) / 2)
    # Thresholds 0.1, 0.24, 0.38: voxels (4, 3, 3) of p, 3 of the raters; from 0.52 on 2 of the raters, of p 3, 2, 2.
    assert found["liver"]["soft_dice"] == pytest.approx(np.mean([6 / 7, 1, 1, 4 / 5, 1, 1]))
    # 2.7 ml against raters of 3 and 2 ml: mean 2.5, sd 0.5.
    assert 0 < found["liver"]["crps_ml"] < 0.2
    assert found[ALL_CLASSES]["crps_ml"] == found["liver"]["crps_ml"]
    # Bins of confidences 0.9 (three voxels), 0.6 and 0.8; the second rater is not on the third voxel.
    errors = [np.mean([0.1, 0.1, 0.4, 0.2, 0.1]), np.mean([0.1, 0.1, 0.6, 0.2, 0.1])]
    assert found[ALL_CLASSES]["ece"] == pytest.approx(np.mean(errors), rel=1e-5)


def test_needs_probabilities_and_two_raters():
    mask = np.ones((1, 2, 2), dtype=np.uint8)
    assert challenge_scores(EvaluatedCase("case", None, mask, mask, (mask, mask)), LABELS) == {}
    probabilities = np.full((2, 1, 2, 2), 0.5, dtype=np.float32)
    assert challenge_scores(EvaluatedCase("case", probabilities, mask, mask, (mask,)), LABELS) == {}


def test_calibration_error_in_the_region_of_the_raters():
    """As in the challenge's code, the slice from the first foreground voxel - 20 to the last + 20, cut at the image."""
    rng = np.random.default_rng(1)
    shape = (4, 70, 60)
    raters = np.zeros((2, *shape), dtype=np.uint8)
    raters[0, 1:3, 30:34, 5:9] = 1
    raters[1, 2, 28:31, 6:12] = 1
    noise = 0.1 * rng.random(shape) * (np.arange(60) < 35)
    foreground = np.clip(0.9 * raters.mean(axis=0) + noise, 0, 1).astype(np.float32)
    probabilities = np.stack([1 - foreground, foreground])
    case = EvaluatedCase("case", probabilities, (foreground > 0.5).astype(np.uint8), raters[0], tuple(raters))
    box = np.s_[:, :, 8:53, 0:31]
    expected = []
    for rater in raters:
        confidence, correct = metrics.predicted_class_confidence(probabilities[box], rater[box[1:]])
        expected.append(metrics.expected_calibration_error(metrics.reliability_bins(confidence, correct, num_bins=50)))
    found = challenge_scores(case, LABELS, margin=20)
    assert found[ALL_CLASSES]["ece"] == pytest.approx(np.mean(expected), rel=1e-6)
    whole = challenge_scores(case, LABELS)
    assert whole[ALL_CLASSES]["ece"] != pytest.approx(found[ALL_CLASSES]["ece"], rel=0.01)
    assert whole["liver"] == pytest.approx(found["liver"], nan_ok=True)


def test_without_any_foreground_there_is_no_region():
    empty = np.zeros((2, 1, 3, 4), dtype=np.uint8)
    probabilities = np.stack([np.full((1, 3, 4), 0.9), np.full((1, 3, 4), 0.1)]).astype(np.float32)
    case = EvaluatedCase("case", probabilities, empty[0], empty[0], tuple(empty))
    assert np.isnan(challenge_scores(case, LABELS, margin=20)[ALL_CLASSES]["ece"])
    assert challenge_scores(case, LABELS)[ALL_CLASSES]["ece"] == pytest.approx(0.1, rel=1e-5)
