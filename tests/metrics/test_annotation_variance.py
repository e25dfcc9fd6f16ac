"""Variance over annotations against literal values and the dense one-hot form."""

import numpy as np
import pytest

from nnunet_stochastic.metrics import annotation_variance


def test_by_hand():
    # Four raters; the voxels have votes 4:0, 3:1, 2:2 and, for labels 0, 1, 2, 2:1:1.
    annotations = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 1, 1], [1, 1, 1, 2]])
    variance = annotation_variance(annotations, num_labels=3)
    assert variance.dtype == np.float32
    np.testing.assert_allclose(variance, [0, 3 / 8, 1 / 2, 5 / 8])
    codes = annotation_variance(annotations, num_labels=3, codes=True)
    np.testing.assert_allclose(codes, [0, 3 / 16, 1 / 4, 11 / 16])


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_against_the_dense_form(dtype):
    annotations = np.random.default_rng(0).integers(0, 5, (6, 4, 5, 3)).astype(dtype)
    one_hot = annotations == np.arange(5).reshape(5, 1, 1, 1, 1)
    np.testing.assert_allclose(
        annotation_variance(annotations, num_labels=5), one_hot.var(axis=1).sum(axis=0), rtol=1e-6
    )
    np.testing.assert_allclose(
        annotation_variance(annotations, num_labels=5, codes=True), annotations.var(axis=0), rtol=1e-6
    )


def test_two_labels_differ_by_a_factor_and_renumbering_changes_codes_only():
    annotations = np.random.default_rng(1).integers(0, 2, (4, 50))
    one_hot = annotation_variance(annotations, num_labels=2)
    assert one_hot.max() == 0.5
    np.testing.assert_array_equal(one_hot, 2 * annotation_variance(annotations, num_labels=2, codes=True))
    renumbered = np.array([0, 4])[annotations]
    np.testing.assert_array_equal(annotation_variance(renumbered, num_labels=5), one_hot)
    np.testing.assert_array_equal(annotation_variance(renumbered, num_labels=5, codes=True), 8 * one_hot)


def test_one_annotation_and_no_voxels():
    np.testing.assert_array_equal(annotation_variance(np.array([[0, 1, 2]]), num_labels=3), [0, 0, 0])
    assert annotation_variance(np.zeros((3, 0, 2), dtype=int), num_labels=2).shape == (0, 2)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        (np.zeros((0, 3), dtype=int), "no annotation"),
        (np.zeros((2, 3)), "integers"),
        (np.array([[0, 2]]), "labels from 0 to 1, got 0 to 2"),
        (np.array([[0, -1]]), "ignore label"),
    ],
)
def test_bad_input(annotations, message):
    with pytest.raises(ValueError, match=message):
        annotation_variance(annotations, num_labels=2)
