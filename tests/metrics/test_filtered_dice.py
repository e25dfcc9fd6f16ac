"""Filtered Dice against literal tables and against masks filtered one threshold at a time."""

import numpy as np
import pytest

from nnunet_stochastic.metrics import FilteringSteps, filtered_dice


def test_by_hand():
    """TP 2, FP 1, FN 1, TN 4; the errors are the most uncertain."""
    predicted = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)
    reference = np.array([1, 1, 0, 1, 0, 0, 0, 0], bool)
    uncertainty = np.array([0.0, 0.5, 1.0, 0.6, 0.0, 0.0, 0.0, 0.5])
    steps = FilteringSteps.of(uncertainty, num_steps=2)
    assert steps.steps.tolist() == [0, 1, 2, 2, 0, 0, 0, 1]
    found = filtered_dice(predicted, reference, steps)
    assert found.thresholds.tolist() == [0, 0.5, 1]
    assert found.dice == pytest.approx([1, 1, 2 / 3])
    assert found.filtered_tp == pytest.approx([0.5, 0, 0])
    assert found.filtered_tn == pytest.approx([0.25, 0, 0])
    assert found.areas == pytest.approx([(1 + 5 / 6) / 2, 0.125, 0.0625])
    assert found.score == pytest.approx(((1 + 5 / 6) / 2 + 0.875 + 0.9375) / 3)


@pytest.mark.parametrize("num_steps", [1, 4, 40])
def test_agrees_with_masks_filtered_one_by_one(num_steps):
    rng = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        predicted, reference = rng.random((2, 4, 5, 6)) < share
        uncertainty = rng.random((4, 5, 6)).round(2)
        steps = FilteringSteps.of(3 * uncertainty.astype(np.float32), largest=3.0, num_steps=num_steps)
        found = filtered_dice(predicted, reference, steps)
        tp, tn = predicted & reference, ~predicted & ~reference
        for index, threshold in enumerate(np.linspace(0, 1, num_steps + 1)):
            kept = uncertainty <= threshold + 1e-9
            size = (predicted & kept).sum() + (reference & kept).sum()
            assert found.dice[index] == pytest.approx(2 * (tp & kept).sum() / size if size else 1)
            assert found.filtered_tp[index] == pytest.approx(1 - (tp & kept).sum() / tp.sum())
            assert found.filtered_tn[index] == pytest.approx(1 - (tn & kept).sum() / tn.sum())
        inside = predicted | reference
        cut = filtered_dice(predicted[inside], reference[inside], steps.inside(inside))
        np.testing.assert_array_equal(cut.filtered_tn, found.filtered_tn)
        np.testing.assert_array_equal(cut.dice, found.dice)
        assert found.areas == pytest.approx(
            [np.trapezoid(curve, found.thresholds) for curve in (found.dice, found.filtered_tp, found.filtered_tn)]
        )


def test_best_and_worst():
    """Errors at 1 and all else at 0: all errors are filtered, but at the last threshold; and the other way round."""
    predicted, reference = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], bool)
    wrong = predicted != reference
    steps = FilteringSteps.of(wrong.astype(np.float32))
    best = filtered_dice(predicted, reference, steps)
    assert best.areas == pytest.approx([(39 + 0.75) / 40, 0, 0])
    worst = filtered_dice(predicted, reference, FilteringSteps.of((~wrong).astype(np.float32)))
    assert worst.areas == pytest.approx([0.25 / 40, 39.5 / 40, 39.5 / 40])
    certain = filtered_dice(predicted, reference, FilteringSteps.of(np.zeros(4, np.float32)))
    assert certain.score == pytest.approx((0.5 + 2) / 3)


def test_thresholds_hold_their_own_value():
    values = (np.arange(41) / 40).astype(np.float32)
    assert FilteringSteps.of(values).steps.tolist() == list(range(41))
    assert FilteringSteps.of(values * np.float32(np.log(3)), largest=np.log(3)).steps.tolist() == list(range(41))
    assert FilteringSteps.of(np.array([1.5, 7.0])).steps.tolist() == [40, 40]


def test_what_does_not_exist():
    nothing, something = np.zeros(3, bool), np.array([0, 1, 1], bool)
    steps = FilteringSteps.of(np.zeros(3, np.float32))
    assert np.isnan(filtered_dice(nothing, nothing, steps).score)
    missed = filtered_dice(nothing, something, steps)
    assert missed.areas == (0, 0, 0)
    full = filtered_dice(~nothing, ~nothing, steps)
    assert full.areas == (1, 0, 0)


def test_bad_input():
    mask, steps = np.ones(3, bool), FilteringSteps.of(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="same shape"):
        filtered_dice(mask, mask[:2], steps)
    with pytest.raises(ValueError, match="boolean"):
        filtered_dice(mask, mask.astype(int), steps)
    with pytest.raises(ValueError, match="num_steps 1 to 255"):
        FilteringSteps.of(np.zeros(2), num_steps=256)
    for values in ([-0.1], [np.nan], [np.inf]):
        with pytest.raises(ValueError, match="finite and not negative"):
            FilteringSteps.of(np.array(values))
    with pytest.raises(ValueError, match="largest"):
        FilteringSteps.of(np.zeros(2), largest=0)
