"""Components compared with SciPy's, by size; matching compared with all assignments."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from nnunet_stochastic.decisions import components as module
from nnunet_stochastic.decisions.components import components, match_components
from tests.decisions.test_lesions import BIG, CORNER, SHAPE, SMALL, balls


def test_components_are_those_of_scipy():
    rng = np.random.default_rng(0)
    for shape, structure in (
        ((6, 7, 8), np.ones((3, 3, 3))),
        ((20, 20), np.ones((3, 3))),
        ((1, 20, 20), np.ones((3,) * 3)),
    ):
        mask = rng.random(shape) < 0.12
        expected, number = ndimage.label(mask, structure)
        found = components(mask, voxel_ml=None)
        assert found.max() == number > 5
        np.testing.assert_array_equal(found > 0, mask)
        assert len(np.unique(found[mask].astype(int) * 1000 + expected[mask])) == number
        sizes = np.bincount(found.ravel())[1:]
        assert (np.diff(sizes) <= 0).all()


def test_no_background_is_in_a_component():
    rng = np.random.default_rng(3)
    for _ in range(100):
        shape = tuple(rng.integers(1, 9, rng.choice([2, 3])))
        mask = rng.random(shape) < 0.3
        np.testing.assert_array_equal(components(mask, voxel_ml=None) > 0, mask)


def test_corners_connect_and_small_ones_do_not_count():
    mask = balls(SHAPE, BIG, CORNER, SMALL)
    assert components(mask, voxel_ml=None).max() == 2
    assert components(mask, voxel_ml=0.5, min_lesion_ml=1).max() == 2
    found = components(mask, voxel_ml=0.5, min_lesion_ml=1.01)
    np.testing.assert_array_equal(found, balls(SHAPE, BIG, CORNER))


def test_matching_is_the_best_of_all_assignments():
    rng = np.random.default_rng(2)
    for _ in range(20):
        found, reference = (rng.integers(0, 5, (6, 6)) * (rng.random((6, 6)) < 0.6) for _ in range(2))
        iou = np.array(
            [
                [
                    ((found == i) & (reference == j)).sum() / max(1, ((found == i) | (reference == j)).sum())
                    for j in range(1, 5)
                ]
                for i in range(1, 5)
            ]
        )
        pairs, values = match_components(found, reference)
        np.testing.assert_allclose(values, [iou[i - 1, j - 1] for i, j in pairs])
        assert (values > 0).all()
        best = max(sum(iou[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(4)))
        assert values.sum() == pytest.approx(best)


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 3), (1, 3, 1), (3, 1, 1), (1, 1, 65), (1, 9, 7), (9, 1, 7), (9, 7, 1), (3, 3, 3), (5, 5, 5), (1, 3)],
)
def test_as_many_lesions_as_there_can_be(shape):
    """Every second voxel along each axis is one; the box of two lesions may be as small as three voxels in a line."""
    mask = np.zeros(shape, bool)
    every_second = (slice(None, None, 2),) * len(shape)
    mask[every_second] = True
    numbers = components(mask, voxel_ml=1.0)
    assert numbers.shape == shape
    assert numbers[every_second].ravel().tolist() == list(range(1, 1 + np.count_nonzero(mask)))
    assert not numbers[~mask].any()


def test_matching_of_many_components(monkeypatch):
    """Noise has more pairs of components than fit into a table; the matching of overlapping pairs alone is as good."""
    rng = np.random.default_rng(3)
    for share in (0.03, 0.06, 0.1):
        found = rng.random((9, 10, 11)) < share
        reference = found ^ (rng.random(found.shape) < 0.1)
        found, reference = (components(mask, voxel_ml=1.0) for mask in (found, reference))
        _, expected = match_components(found, reference)
        with monkeypatch.context() as patched:
            patched.setattr(module, "_DENSE_PAIRS", 0)
            pairs, iou = match_components(found, reference)
        assert iou.sum() == pytest.approx(expected.sum())
        assert len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1])) == len(pairs) > 1
        for (i, j), value in zip(pairs, iou, strict=True):
            assert value == ((found == i) & (reference == j)).sum() / ((found == i) | (reference == j)).sum()
    speckled = rng.random((2, 60, 64, 64)) < 0.02
    pairs, iou = match_components(*(components(mask, voxel_ml=1.0) for mask in speckled))
    assert len(pairs) > 50
    assert (np.diff(pairs[:, 0]) > 0).all()


def test_matching_by_hand():
    """Two halves of one reference lesion: the larger one is it, the other is false."""
    reference, found = np.zeros((2, 10), int)
    reference[1:9] = 1
    found[1:3], found[4:9] = 1, 2
    pairs, iou = match_components(found, reference)
    assert pairs.tolist() == [[2, 1]]
    assert iou.tolist() == [5 / 8]
    assert len(match_components(found, np.zeros(10, int))[0]) == 0
