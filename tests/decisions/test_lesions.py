"""Lesions of volumes made by hand: components, places in a rotated image, existence, candidates, matching."""

import json

import numpy as np
import pytest

from nnunet_stochastic.decisions import components
from nnunet_stochastic.decisions.lesions import Lesion, find_lesions

IDENTITY = np.eye(4)


def balls(shape, *boxes):
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[tuple(slice(*edges) for edges in box)] = True
    return mask


BIG, SMALL, CORNER = ((1, 4), (1, 4), (1, 4)), ((6, 7), (6, 8), (6, 7)), ((4, 5), (4, 5), (4, 5))
SHAPE = (8, 9, 10)


def test_places_and_shares_are_those_of_all_voxels_at_once(monkeypatch):
    monkeypatch.setattr(components, "_SLAB_VOXELS", 7)
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
        components.match_components(np.zeros(3, int), np.zeros(4, int))
