"""GED against hand-computed distances, scipy's Jaccard and Dice pair by pair, and its identities."""

import numpy as np
import pytest
from scipy.spatial import distance as scipy_distance

from nnunet_stochastic.metrics import GED_DISTANCES, co_occurrence, generalized_energy_distance, pairwise_distance

BINARY = [(1,)]
SAMPLE = np.array([1, 1, 1, 0, 0])
ANNOTATION = np.array([0, 1, 1, 1, 0])
EMPTY = np.zeros(5, dtype=int)


@pytest.mark.parametrize(
    ("samples", "annotations", "distance", "expected"),
    [
        ([SAMPLE], [ANNOTATION], "iou", 2 * (1 - 2 / 4)),
        ([SAMPLE], [ANNOTATION], "dice", 2 * (1 - 4 / 6)),
        ([SAMPLE], [EMPTY], "iou", 2.0),
        ([EMPTY], [EMPTY], "iou", 0.0),
        # E[d(s,y)] = 1/2 (0 + 1/2); E[d(s,s')] = 0; E[d(y,y')] = 1/4 (0 + 1/2 + 1/2 + 0)
        ([SAMPLE], [SAMPLE, ANNOTATION], "iou", 0.5 - 0.25),
        # E[d(s,y)] = 1/2 (1/2 + 1); E[d(s,s')] = 1/4 (1 + 1); E[d(y,y')] = 0
        ([SAMPLE, EMPTY], [ANNOTATION], "iou", 1.5 - 0.5),
        # distances s-y: 1/2, 0, 1, 0; both sides hold one empty mask: E[d(s,s')] = E[d(y,y')] = 1/2
        ([SAMPLE, EMPTY], [ANNOTATION, EMPTY], "iou", 2 * (0.5 + 1 + 1 + 0) / 4 - 0.5 - 0.5),
        ([SAMPLE], [ANNOTATION], "pooled_dice", 2 * (1 - 4 / 6)),
        # Of pairs: s-y overlaps 2 + 3, sizes 6 + 6; y-y' 3 + 2 + 2 + 3, sizes 4 x 6
        ([SAMPLE], [SAMPLE, ANNOTATION], "pooled_dice", 2 * (1 - 10 / 12) - (1 - 20 / 24)),
        # Overlaps 2 + 0, sizes 6 + 3, and s-s' 3 of 6 + 3 + 3 + 0: a pair with an empty mask counts by its size.
        ([SAMPLE, EMPTY], [ANNOTATION], "pooled_dice", 2 * (1 - 4 / 9) - (1 - 6 / 12)),
        ([EMPTY], [EMPTY], "pooled_dice", 0.0),
        # ValUES takes the distance of nothing from nothing as 1: that of the samples from themselves is 1 here.
        ([EMPTY], [SAMPLE], "pooled_dice", 2 * 1 - 1 - 0),
    ],
)
def test_by_hand(samples, annotations, distance, expected):
    scores = generalized_energy_distance(np.stack(samples), np.stack(annotations), classes=BINARY)
    assert scores[distance] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("distance", "oracle"), [("iou", scipy_distance.jaccard), ("dice", scipy_distance.dice)])
def test_pairs_against_scipy(distance, oracle):
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 4, (5, 4, 6, 7))
    classes = [(1,), (2,), (1, 3)]
    distances = pairwise_distance(co_occurrence(maps, classes=classes), distance=distance)
    for c, labels in enumerate(classes):
        masks = np.isin(maps, labels).reshape(5, -1)
        expected = [[oracle(a, b) for b in masks] for a in masks]
        np.testing.assert_allclose(distances[c], expected, atol=1e-12)


def test_several_classes_are_averaged():
    rng = np.random.default_rng(1)
    samples, annotations = rng.integers(0, 3, (4, 50)), rng.integers(0, 3, (3, 50))
    each = [generalized_energy_distance(samples, annotations, classes=[(c,)]) for c in (1, 2)]
    both = generalized_energy_distance(samples, annotations, classes=[(1,), (2,)])
    for distance in ("iou", "dice"):
        assert both[distance] == pytest.approx(np.mean([found[distance] for found in each]))


def test_pooled_dice_is_that_of_all_pairs_laid_side_by_side():
    rng = np.random.default_rng(5)
    samples, annotations = rng.integers(0, 3, (4, 50)), rng.integers(0, 3, (3, 50))

    def distance(one, other):
        pairs = [(a, b) for a in one for b in other]
        a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
        hits = [np.sum((a == c) & (b == c)) for c in (1, 2)]
        return 1 - 2 * np.sum(hits) / (np.sum(a > 0) + np.sum(b > 0))

    expected = 2 * distance(samples, annotations) - distance(samples, samples) - distance(annotations, annotations)
    scores = generalized_energy_distance(samples, annotations, classes=[(1,), (2,)])
    assert scores["pooled_dice"] == pytest.approx(expected)
    assert scores["pooled_dice"] != pytest.approx(scores["dice"], rel=1e-3)


def test_same_sets_have_distance_zero_and_order_does_not_matter():
    rng = np.random.default_rng(2)
    samples, annotations = rng.integers(0, 2, (4, 3, 30)), rng.integers(0, 2, (3, 3, 30))
    same = generalized_energy_distance(samples, samples[::-1], classes=BINARY)
    assert same == pytest.approx(dict.fromkeys(GED_DISTANCES, 0), abs=1e-12)
    scores = generalized_energy_distance(samples, annotations, classes=BINARY)
    assert min(scores["iou"], scores["dice"]) > 0.01
    assert generalized_energy_distance(annotations, samples, classes=BINARY) == pytest.approx(scores)
    assert generalized_energy_distance(samples[::-1], annotations[[2, 0, 1]], classes=BINARY) == pytest.approx(scores)


def test_a_class_may_hold_the_background():
    maps = np.random.default_rng(4).integers(0, 3, (3, 40))
    maps[:, :10] = 0
    counts = co_occurrence(maps[:1], maps[1:], classes=[(0, 2), (1,)])
    outside = (maps != 1).astype(int)
    np.testing.assert_array_equal(counts[0], outside @ outside.T)
    np.testing.assert_array_equal(counts[1], (1 - outside) @ (1 - outside).T)


def test_counts_do_not_depend_on_the_chunk(monkeypatch):
    maps = np.random.default_rng(3).integers(0, 3, (4, 100))
    whole = co_occurrence(maps, classes=[(1,), (2,)])
    np.testing.assert_array_equal(whole[0], [[((a == 1) & (b == 1)).sum() for b in maps] for a in maps])
    monkeypatch.setattr("nnunet_stochastic.metrics.ged._CHUNK", 7)
    np.testing.assert_array_equal(co_occurrence(maps, classes=[(1,), (2,)]), whole)


def test_bad_input():
    maps = np.zeros((2, 5), dtype=int)
    with pytest.raises(ValueError, match="needs samples and annotations"):
        generalized_energy_distance(maps[:0], maps, classes=BINARY)
    with pytest.raises(ValueError, match="agree after axis 0"):
        generalized_energy_distance(maps, maps[:, :4], classes=BINARY)
    with pytest.raises(ValueError, match="classes is empty"):
        generalized_energy_distance(maps, maps, classes=[])
    with pytest.raises(ValueError, match="'iou' or 'dice'"):
        pairwise_distance(co_occurrence(maps, classes=BINARY), distance="hausdorff")
