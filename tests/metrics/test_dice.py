"""Dice against counted values, scikit-learn's F1, and its policy for empty classes."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from nnunet_stochastic.metrics import dice, joint_label_counts

LABELS = [(1,), (2,), (3,)]


def test_counted_by_hand():
    prediction = np.array([[0, 1, 1, 1], [2, 2, 0, 0]])
    reference = np.array([[1, 1, 1, 0], [2, 0, 2, 2]])
    counts = joint_label_counts(prediction, reference, num_labels=4)
    np.testing.assert_array_equal(counts, [[0, 1, 2, 0], [1, 2, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]])
    # label 1: overlap 2 of 3 and 3; label 2: overlap 1 of 2 and 3; label 3: nowhere; labels 1 and 2 as one region
    np.testing.assert_allclose(dice(counts, [*LABELS, (1, 2)]), [2 / 3, 2 / 5, np.nan, 6 / 11])


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    prediction, reference = rng.integers(0, 4, (2, 5, 6, 7))
    counts = joint_label_counts(prediction.astype(np.uint8), reference.astype(np.uint8), num_labels=4)
    np.testing.assert_array_equal(counts, confusion_matrix(prediction.ravel(), reference.ravel()))
    expected = f1_score(reference.ravel(), prediction.ravel(), labels=[1, 2, 3], average=None)
    np.testing.assert_allclose(dice(counts, LABELS), expected)


def test_symmetric_and_blind_to_the_order_of_voxels():
    rng = np.random.default_rng(1)
    prediction, reference = rng.integers(0, 4, (2, 60))
    order = rng.permutation(60)
    scores = dice(joint_label_counts(prediction, reference, num_labels=4), LABELS)
    np.testing.assert_array_equal(dice(joint_label_counts(reference, prediction, num_labels=4), LABELS), scores)
    shuffled = joint_label_counts(prediction[order], reference[order], num_labels=4)
    np.testing.assert_array_equal(dice(shuffled, LABELS), scores)


def test_empty_in_one_is_zero_and_in_both_undefined():
    empty, full = np.zeros(5, dtype=int), np.ones(5, dtype=int)
    assert dice(joint_label_counts(empty, full, num_labels=2), [(1,)]) == [0]
    assert dice(joint_label_counts(full, empty, num_labels=2), [(1,)]) == [0]
    assert np.isnan(dice(joint_label_counts(empty, empty, num_labels=2), [(1,)])).all()


@pytest.mark.parametrize(
    ("prediction", "message"),
    [(np.array([0, 1, 2]), "labels from 0 to 1, got 0 to 2"), (np.array([0, 1]), "same shape")],
)
def test_bad_input(prediction, message):
    with pytest.raises(ValueError, match=message):
        joint_label_counts(prediction, np.array([0, 1, 1]), num_labels=2)
