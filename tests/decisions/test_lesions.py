"""Lesions of volumes made by hand: components, places in a rotated image, existence, candidates, matching."""

import itertools
import json

import numpy as np
import pytest
from scipy import ndimage

from nnunet_stochastic.decisions import lesions
from nnunet_stochastic.decisions.lesions import Lesion, components, find_lesions, match_components

IDENTITY = np.eye(4)


def balls(shape, *boxes):
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[tuple(slice(*edges) for edges in box)] = True
    return mask


BIG, SMALL, CORNER = ((1, 4), (1, 4), (1, 4)), ((6, 7), (6, 8), (6, 7)), ((4, 5), (4, 5), (4, 5))
SHAPE = (8, 9, 10)


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


def test_places_and_shares_are_those_of_all_voxels_at_once(monkeypatch):
    monkeypatch.setattr(lesions, "_SLAB_VOXELS", 7)
    rng = np.random.default_rng(4)
    for shape in ((5, 6, 7), (9, 8), (1, 1, 3)):
        mask, sample = rng.random((2, *shape)) < 0.3
        affine = rng.normal(size=(4, len(shape) + 1))
        found, labelled = find_lesions("t", mask, affine=affine, voxel_ml=None, samples=[mask, sample])
        for lesion in (each for each in found if not each.candidate):
            index = np.argwhere(labelled == lesion.number)
            nearest = np.square(index - index.mean(axis=0)).sum(axis=1).argmin()
            assert lesion.num_voxels == len(index)
            assert lesion.centre_mm == pytest.approx(affine[:3] @ [*index.mean(axis=0), 1])
            assert lesion.centre_voxel == index[nearest].tolist()
            assert lesion.share_in_all_samples == sample[labelled == lesion.number].mean()
            assert lesion.existence == (1 + sample[labelled == lesion.number].any()) / 2


def test_corners_connect_and_small_ones_do_not_count():
    mask = balls(SHAPE, BIG, CORNER, SMALL)
    assert components(mask, voxel_ml=None).max() == 2
    assert components(mask, voxel_ml=0.5, min_lesion_ml=1).max() == 2
    found = components(mask, voxel_ml=0.5, min_lesion_ml=1.01)
    np.testing.assert_array_equal(found, balls(SHAPE, BIG, CORNER))


def test_place_in_a_rotated_image():
    angle = np.deg2rad(30)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = (rotation @ np.diag([0.7, 0.8, 2.5]))[:, ::-1]  # the array's axes are z, y, x
    affine[:3, 3] = (10, -20, 5)
    lesions, labelled = find_lesions(
        "tumour", balls(SHAPE, BIG, SMALL), affine=affine, voxel_ml=0.0014, min_lesion_ml=0.001
    )
    assert [lesion.num_voxels for lesion in lesions] == [27, 2]
    np.testing.assert_allclose(lesions[0].centre_mm, rotation @ (2 * 0.7, 2 * 0.8, 2 * 2.5) + (10, -20, 5))
    np.testing.assert_allclose(lesions[1].centre_mm, rotation @ (6 * 0.7, 6.5 * 0.8, 6 * 2.5) + (10, -20, 5))
    assert lesions[0].centre_voxel == [2, 2, 2]
    assert lesions[1].centre_voxel == [6, 6, 6]
    assert lesions[0].volume_ml == pytest.approx(27 * 0.0014)
    np.testing.assert_array_equal(labelled, balls(SHAPE, BIG) + 2 * balls(SHAPE, SMALL))
    assert lesions[0].existence is None
    assert lesions[0].share_in_all_samples is None


def test_the_centre_of_a_ring_is_one_of_its_voxels():
    mask = balls(SHAPE, ((2, 3), (2, 7), (2, 7))) & ~balls(SHAPE, ((2, 3), (3, 6), (3, 6)))
    lesion = find_lesions("ring", mask, affine=IDENTITY, voxel_ml=None)[0][0]
    assert lesion.centre_mm == [2, 4, 4]
    assert mask[tuple(lesion.centre_voxel)]


def test_existence_candidates_and_maps():
    rng = np.random.default_rng(1)
    mask, elsewhere = balls(SHAPE, BIG), ((6, 8), (0, 2), (0, 2))
    samples = np.zeros((20, *SHAPE), bool)
    samples[:15] |= balls(SHAPE, ((1, 3), (1, 3), (1, 3)))
    samples[15:19] |= balls(SHAPE, ((3, 4), (3, 4), (3, 4)))
    samples[:2] |= balls(SHAPE, elsewhere)
    samples[2:3] |= balls(SHAPE, SMALL)  # in one of twenty: no candidate
    probability, uncertainty = rng.random((2, *SHAPE))
    lesions, labelled = find_lesions(
        "tumour",
        mask,
        affine=IDENTITY,
        voxel_ml=1.0,
        probability=probability,
        maps={"EU": uncertainty},
        samples=samples,
    )
    assert [lesion.candidate for lesion in lesions] == [False, True]
    assert [lesion.existence for lesion in lesions] == [19 / 20, 2 / 20]
    assert [lesion.num_voxels for lesion in lesions] == [27, 8]
    np.testing.assert_array_equal(labelled, mask + 2 * balls(SHAPE, elsewhere))
    for lesion in lesions:
        inside = labelled == lesion.number
        assert lesion.mean_p == pytest.approx(probability[inside].mean())
        assert lesion.max_p == probability[inside].max()
        assert lesion.mean["EU"] == pytest.approx(uncertainty[inside].mean())
        assert lesion.share_in_all_samples == 0
    samples[:, 1, 1, 1] = True
    assert find_lesions("t", mask, affine=IDENTITY, voxel_ml=1.0, samples=samples)[0][0].share_in_all_samples == 1 / 27
    shuffled = samples[rng.permutation(20)]
    for one, other in zip(
        *(find_lesions("t", mask, affine=IDENTITY, voxel_ml=1.0, samples=each)[0] for each in (samples, shuffled)),
        strict=True,
    ):
        assert one == other
    assert Lesion(**json.loads(json.dumps(lesions[0].as_json(), allow_nan=False))) == lesions[0]
    assert lesions[0].as_columns().keys() == lesions[1].as_columns().keys()
    assert lesions[1].as_columns()["centre_z_mm"] == lesions[1].centre_mm[2]


def test_candidates_of_a_segmentation_without_lesions_and_nothing_at_all():
    empty, sample = np.zeros(SHAPE, bool), balls(SHAPE, BIG, SMALL)
    lesions, _ = find_lesions("t", empty, affine=IDENTITY, voxel_ml=1.0, samples=[sample, empty], min_lesion_ml=3)
    assert [(lesion.number, lesion.candidate, lesion.existence) for lesion in lesions] == [(1, True, 0.5)]
    for samples in ((), [empty, empty]):
        lesions, labelled = find_lesions("t", empty, affine=IDENTITY, voxel_ml=1.0, samples=samples)
        assert lesions == []
        assert not labelled.any()


def test_two_axes():
    mask = np.eye(5, dtype=bool)
    affine = np.array([[0, 0.5, 0], [2, 0, 0], [0, 0, 0], [0, 0, 1]])
    lesions, _ = find_lesions("t", mask, affine=affine, voxel_ml=None)
    assert len(lesions) == 1
    assert lesions[0].volume_ml is None
    assert lesions[0].centre_mm == [1, 4, 0]


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
            patched.setattr(lesions, "_DENSE_PAIRS", 0)
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


def test_bad_input():
    mask = balls(SHAPE, BIG)
    with pytest.raises(ValueError, match="mask must be boolean"):
        find_lesions("t", mask.astype(int), affine=IDENTITY, voxel_ml=1.0)
    with pytest.raises(ValueError, match="affine must be"):
        find_lesions("t", mask, affine=np.eye(3), voxel_ml=1.0)
    with pytest.raises(ValueError, match="min_lesion_ml"):
        find_lesions("t", mask, affine=IDENTITY, voxel_ml=None, min_lesion_ml=0.1)
    with pytest.raises(ValueError, match="t: EU"):
        find_lesions("t", mask, affine=IDENTITY, voxel_ml=1.0, maps={"EU": np.zeros(3)})
    with pytest.raises(ValueError, match="samples must be boolean"):
        find_lesions("t", mask, affine=IDENTITY, voxel_ml=1.0, samples=[mask.astype(int)])
    with pytest.raises(ValueError, match="same shape"):
        match_components(np.zeros(3, int), np.zeros(4, int))
