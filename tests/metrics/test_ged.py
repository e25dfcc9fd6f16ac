"""GED against hand-computed distances, scipy's Jaccard and Dice pair by pair, and its identities."""

import numpy as np
import pytest
from scipy.spatial import distance as scipy_distance

from nnunet_stochastic.metrics import co_occurrence, generalized_energy_distance, pairwise_distance

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
    ],
)
def test_by_hand(samples, annotations, distance, expected):
    score = generalized_energy_distance(np.stack(samples), np.stack(annotations), classes=BINARY, distance=distance)
    assert score == pytest.approx(expected, abs=1e-12)


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
    assert both == pytest.approx(np.mean(each))


def test_same_sets_have_distance_zero_and_order_does_not_matter():
    rng = np.random.default_rng(2)
    samples, annotations = rng.integers(0, 2, (4, 3, 30)), rng.integers(0, 2, (3, 3, 30))
    assert generalized_energy_distance(samples, samples[::-1], classes=BINARY) == pytest.approx(0, abs=1e-12)
    score = generalized_energy_distance(samples, annotations, classes=BINARY)
    assert score > 0.01
    assert generalized_energy_distance(annotations, samples, classes=BINARY) == pytest.approx(score)
    assert generalized_energy_distance(samples[::-1], annotations[[2, 0, 1]], classes=BINARY) == pytest.approx(score)


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
        generalized_energy_distance(maps, maps, classes=BINARY, distance="hausdorff")
