"""Scores of a structure: literal numbers, and what there is of structures and images that lack something."""

import numpy as np
import pytest

from nnunet_stochastic.evaluation.structure_scores import STRUCTURE_METRICS, structure_scores


def masks(*boxes, shape=(6, 20, 20)):
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[tuple(slice(*edge) for edge in box)] = True
    return mask


LESION = ((1, 3), (2, 6), (2, 6))
OTHER = ((2, 5), (12, 18), (12, 16))


def test_lesions_count_the_same_whatever_their_size():
    """One lesion is found but for a quarter, a larger one is not, and there is one that is none."""
    predicted = masks(((1, 3), (2, 5), (2, 6)), ((5, 6), (0, 1), (19, 20)))
    found = structure_scores(predicted, masks(LESION, OTHER), spacing_mm=(2.0, 1.0, 1.0))
    assert found["lesion_dice"] == pytest.approx(2 * 24 / (24 + 32) / 3)


def test_shifted_lesion():
    predicted = masks(((1, 3), (3, 7), (2, 6)))
    found = structure_scores(predicted, masks(LESION), spacing_mm=(2.0, 1.5, 1.0), tolerance_mm=1.4)
    # All 32 voxels of each are surface; the row of 8 in front of the other is 1.5 mm away, the others are in both.
    assert found == pytest.approx({"hd95_mm": 1.5, "assd_mm": 0.375, "nsd": 0.75, "lesion_dice": 0.75})
    assert structure_scores(predicted, masks(LESION), spacing_mm=(2.0, 1.5, 1.0))["nsd"] == 1
    assert set(found) == set(STRUCTURE_METRICS)


def test_empty_structures():
    nothing, something = masks(), masks(LESION)
    both = structure_scores(nothing, nothing, spacing_mm=(1, 1, 1))
    assert np.isnan(list(both.values())).all()
    diagonal = np.sqrt(10**2 + 19**2 + 9.5**2)
    for one, other in ((nothing, something), (something, nothing)):
        found = structure_scores(one, other, spacing_mm=(2.0, 1.0, 0.5))
        assert list(found.values()) == pytest.approx([diagonal, diagonal, 0, 0])
    flat = structure_scores(nothing[:1], something[1:2], spacing_mm=(999.0, 1.0, 0.5))
    assert flat["hd95_mm"] == pytest.approx(np.sqrt(19**2 + 9.5**2))


def test_images_without_spacing_have_no_distances():
    found = structure_scores(masks(LESION), masks(LESION), spacing_mm=None)
    assert found.pop("lesion_dice") == 1
    assert np.isnan(list(found.values())).all()
