"""Mean pairwise Dice against Dice of one pair after another."""

from itertools import combinations

import numpy as np
import pytest

from nnunet_stochastic.decisions.overlaps import Overlaps

CLASSES = [[1], [2], [1, 2], [3]]


def brute_force(maps, labels):
    scores = []
    for a, b in combinations([np.isin(each, labels) for each in maps], 2):
        if a.any() or b.any():
            scores.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    return np.mean(scores) if scores else np.nan


@pytest.mark.parametrize("number", [1, 2, 5])
def test_against_brute_force(number):
    rng = np.random.default_rng(number)
    maps = rng.integers(0, 3, (number, 4, 5, 6)).astype(np.uint8)
    maps[0][maps[0] == 2] = 0
    overlaps = Overlaps.of(maps, classes=CLASSES)
    np.testing.assert_allclose(overlaps.mean_dice(), [brute_force(maps, labels) for labels in CLASSES])
    np.testing.assert_array_equal(overlaps.voxels, [[np.isin(m, labels).sum() for m in maps] for labels in CLASSES])
    parts = [Overlaps.of(maps[:, k : k + 2], classes=CLASSES) for k in (0, 2)]
    np.testing.assert_array_equal((parts[0] + parts[1]).counts, overlaps.counts)
    np.testing.assert_allclose(Overlaps.of(maps[::-1], classes=CLASSES).mean_dice(), overlaps.mean_dice())


def test_pairs_without_the_structure_are_left_out():
    maps = np.zeros((4, 3), np.uint8)
    maps[0, 0] = maps[1, :2] = 1
    # The pairs (0, 1): 2/3, four of one and nothing: 0, and one of nothing and nothing.
    assert Overlaps.of(maps, classes=[[1]]).mean_dice() == pytest.approx([2 / 3 / 5])
    assert np.isnan(Overlaps.of(maps[2:], classes=[[1]]).mean_dice()).all()


def test_parts_of_different_images():
    with pytest.raises(ValueError, match="same structures"):
        Overlaps.of(np.zeros((2, 3), int), classes=[[1]]) + Overlaps.of(np.zeros((3, 3), int), classes=[[1]])
