"""The fixture: counts, sizes and split, and three nodules against literals computed with pylidc's own code."""

from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from nnunet_stochastic.datasets.lidc_nodules import load_nodules


@pytest.fixture(scope="module")
def nodules():
    return load_nodules()


def test_counts_and_split_by_patient(nodules):
    assert len(nodules) == 100
    test_patients = {nodule.patient for nodule in nodules if nodule.is_test}
    train_patients = {nodule.patient for nodule in nodules if not nodule.is_test}
    assert sum(nodule.is_test for nodule in nodules) == 24
    assert test_patients.isdisjoint(train_patients)
    assert len(test_patients | train_patients) == 81
    assert len({nodule.annotation_ids for nodule in nodules}) == 100


def test_four_overlapping_masks_of_the_promised_size(nodules):
    for nodule in nodules:
        assert nodule.masks.dtype == bool
        assert len(nodule.masks) == 4
        assert len(set(nodule.annotation_ids)) == 4
        assert nodule.masks.all(0).any(), nodule.patient
        volumes_mm3 = nodule.masks.sum((1, 2, 3)) * np.prod(nodule.spacing_mm)
        diameters_mm = (6 * volumes_mm3 / np.pi) ** (1 / 3)
        assert diameters_mm.min() >= 6
        assert nodule.masks.any((2, 3)).sum(1).min() >= 5
        assert (np.array(nodule.masks.shape[1:]) * nodule.spacing_mm).max() <= 25
        assert nodule.spacing_mm[0] in (1.0, 1.25)
        assert nodule.spacing_mm[1] == nodule.spacing_mm[2]


def test_masks_are_cropped_to_their_union(nodules):
    for nodule in nodules:
        union = nodule.masks.any(0)
        for axis in range(3):
            occupied = union.any(tuple({0, 1, 2} - {axis}))
            assert occupied[0]
            assert occupied[-1]


@pytest.mark.parametrize(
    ("index", "patient", "annotation_ids", "spacing_mm", "voxels"),
    [
        (0, "LIDC-IDRI-0850", (5499, 5501, 5503, 5506), (1.25, 0.626953, 0.626953), [4699, 4658, 4305, 3785]),
        (1, "LIDC-IDRI-0377", (2708, 2709, 2712, 2714), (1.25, 0.664062, 0.664062), [2694, 2762, 2402, 2232]),
        (2, "LIDC-IDRI-0358", (2588, 2590, 2598, 2600), (1.0, 0.642578, 0.642578), [428, 389, 386, 508]),
    ],
)
def test_known_nodules(nodules, index, patient, annotation_ids, spacing_mm, voxels):
    nodule = nodules[index]
    assert (nodule.patient, nodule.annotation_ids, nodule.spacing_mm) == (patient, annotation_ids, spacing_mm)
    assert nodule.masks.sum((1, 2, 3)).tolist() == voxels


def test_raters_differ_as_lidc_raters_do(nodules):
    overlaps = [(a & b).sum() / (a | b).sum() for nodule in nodules for a, b in combinations(nodule.masks, 2)]
    assert np.mean(overlaps) == pytest.approx(0.6834, abs=5e-5)


def test_characteristics_are_in_range(nodules):
    for nodule in nodules:
        for name, marks in nodule.characteristics.items():
            assert marks.shape == (4,)
            assert set(marks) <= set(range(1, 7 if name == "calcification" else 6)), name
    assert len(nodules[0].characteristics) == 9


def test_fixture_is_small_and_attributed():
    folder = files("nnunet_stochastic.datasets")
    assert len(folder.joinpath("lidc_nodules.npz").read_bytes()) < 400_000
    text = folder.joinpath("lidc_nodules.txt").read_text(encoding="utf-8")
    for words in ("LIDC-IDRI", "Creative Commons Attribution 3.0", "Armato", "Hancock", "simulated"):
        assert words in text
