import numpy as np
import pytest

from nnunet_stochastic.decisions.overlaps import Overlaps
from nnunet_stochastic.inference import label_store
from nnunet_stochastic.inference.label_store import LabelStore

CLASSES = [(1,), (2,), (1, 3)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("slab", [1, 60, 1 << 21])
def test_overlaps_are_those_of_all_voxels_whatever_the_slabs(monkeypatch, slab, dtype):
    monkeypatch.setattr(label_store, "_SLAB_VOXELS", slab)
    maps = np.random.default_rng(0).integers(0, 4, (5, 7, 6, 5)).astype(dtype)
    store = LabelStore()
    for index in (3, 0, 4, 1, 2):  # as threads finish
        store.add(index, maps[index])
    np.testing.assert_array_equal(store.overlaps(CLASSES).counts, Overlaps.of(maps, classes=CLASSES).counts)
    np.testing.assert_array_equal(np.stack(list(store.masks((1, 3)))), np.isin(maps, (1, 3)))
    assert len(store) == len(store.masks((2,))) == 5


def test_a_map_that_comes_again_counts_once():
    store = LabelStore()
    store.add(0, np.ones((2, 3, 4), np.uint8))
    store.add(0, np.full((2, 3, 4), 2, np.uint8))
    assert store.overlaps(CLASSES).counts[:, 0, 0].tolist() == [0, 24, 0]


def test_noise_takes_a_bit_a_voxel():
    labels = np.random.default_rng(0).integers(0, 2, (64, 64, 64)).astype(np.uint8)
    store = LabelStore()
    store.add(0, labels)
    assert store._maps[0].schunk.cbytes < labels.size / 7
    np.testing.assert_array_equal(store.masks((1,))[0], labels == 1)


def test_it_keeps_what_was_added_and_takes_less_memory():
    labels = np.zeros((64, 64, 64), np.uint8)
    labels[20:40, 20:40, 20:40] = 1
    store = LabelStore()
    store.add(0, labels)
    kept = store._maps[0]
    assert kept.schunk.cbytes < labels.nbytes / 20
    labels[:] = 0  # the caller's array is the caller's
    assert store.overlaps([(1,)]).counts.item() == 8000
