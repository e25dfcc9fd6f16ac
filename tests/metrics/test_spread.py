"""Agreement, spread and coverage against literals."""

import numpy as np
import pytest

from nnunet_stochastic.metrics import co_occurrence, interval_coverage, pairwise_dice, volume_spread

NAN = float("nan")


@pytest.mark.parametrize(
    ("label_maps", "classes", "expected"),
    [
        ([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1]], [(1,)], (2 / 3 + 0 + 0) / 3),
        ([[1, 1, 2, 0], [1, 0, 2, 2]], [(1,), (2,)], (2 / 3 + 2 / 3) / 2),
        ([[1, 1, 2, 0], [1, 0, 2, 2]], [(1, 2), (2,)], (2 / 3 + 2 / 3) / 2),
        ([[1, 0, 0, 0], [1, 0, 0, 0]], [(1,), (2,)], 1),  # a class that both lack is left out
        ([[0, 0], [0, 0]], [(1,)], NAN),
        ([[1, 1]], [(1,)], NAN),
    ],
)
def test_pairwise_dice(label_maps, classes, expected):
    assert pairwise_dice(co_occurrence(np.array(label_maps), classes=classes)) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [([1, 3], 2**0.5 / 2), ([10, 20, 30], 0.5), ([5, 5], 0), ([5], NAN), ([0, 0], NAN), ([], NAN)],
)
def test_volume_spread(volumes, expected):
    assert volume_spread(np.array(volumes)) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("samples", "observations", "expected"),
    [
        (np.arange(101), [4, 5, 50, 95, 96], 3 / 5),  # the interval is [5, 95]
        ([7, 7], [7, 8], 1 / 2),
        ([], [1], NAN),
        ([1], [], NAN),
    ],
)
def test_interval_coverage(samples, observations, expected):
    found = interval_coverage(np.array(samples), np.array(observations), level=0.9)
    assert found == pytest.approx(expected, nan_ok=True)


def test_a_level_that_is_none():
    with pytest.raises(ValueError, match="the level must lie between 0 and 1, got 1"):
        interval_coverage(np.ones(1), np.ones(1), level=1)
