"""Label maps of one case, kept to be compared with each other: whole samples, or the segmentations of the members.

They are compressed in memory (blosc2, bitshuffle and LZ4, lossless): about a fiftieth of a byte a voxel for a scan, an
eighth where two labels alternate as noise does. They come back in slabs of all N, or one at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import blosc2
import numpy as np

from nnunet_stochastic.decisions.overlaps import Overlaps
from nnunet_stochastic.labels import voxels_of

__all__ = ["LabelStore"]

_SLAB_VOXELS = 1 << 21  # of one label map


class LabelStore:
    """Label maps (z, y, x) of one shape, by index. Threads may add them in any order."""

    def __init__(self) -> None:
        self._maps: dict[int, blosc2.NDArray] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._maps)

    def add(self, index: int, labels: np.ndarray) -> None:
        """Keep a label map, integers; one that came before under the same index is replaced."""
        slab = (min(_slab_size(labels.shape), labels.shape[0]), *labels.shape[1:])
        parameters = {"codec": blosc2.Codec.LZ4, "filters": [blosc2.Filter.BITSHUFFLE], "nthreads": 1}
        compressed = blosc2.asarray(np.ascontiguousarray(labels), chunks=slab, cparams=parameters)
        with self._lock:
            self._maps[index] = compressed

    def overlaps(self, classes: Sequence[Sequence[int]]) -> Overlaps:
        """Overlaps of all pairs, of the structures with these label values."""
        return sum((Overlaps.of(slab, classes=classes) for slab in self._slabs()), start=_none(len(self), classes))

    def masks(self, labels: Sequence[int]) -> Sequence[np.ndarray]:
        """Voxels (z, y, x) that each label map gives one of these labels, bool, made when they are asked for."""
        return _Masks(self._in_order(), labels)

    def _in_order(self) -> list[blosc2.NDArray]:
        return [self._maps[index] for index in sorted(self._maps)]

    def _slabs(self) -> Iterator[np.ndarray]:
        maps = self._in_order()
        size = _slab_size(maps[0].shape)
        for start in range(0, maps[0].shape[0], size):
            yield np.stack([labels[start : start + size] for labels in maps])


class _Masks(Sequence):
    def __init__(self, maps: Sequence[blosc2.NDArray], labels: Sequence[int]) -> None:
        self._maps, self._labels = maps, list(labels)

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, index):  # of an index alone: a slice would be many masks at once
        return voxels_of(self._maps[index][:], self._labels)


def _slab_size(shape: Sequence[int]) -> int:
    return max(1, _SLAB_VOXELS // max(1, shape[1] * shape[2]))


def _none(num_maps: int, classes: Sequence[Sequence[int]]) -> Overlaps:
    return Overlaps(np.zeros((len(classes), num_maps, num_maps), dtype=np.int64))
