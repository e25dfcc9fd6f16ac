"""Noise of an image's voxels: normal numbers that are a function of the voxel and of what they are for.

    z_s(n, channel) = number y mod 4 of Philox(counter (z, x, 2^12 s + channel, ⌊y / 4⌋), key (purpose, seed, case))

with n = (z, y, x) in the image and s the sample. Whatever tile sees a voxel, and on whatever device, it has the same
noise. Four rows along y share a counter, which gives four numbers, so that only the border of a tile wastes some.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from nnunet_stochastic.inference.philox import NUM_WORDS, normal_numbers, philox4x32
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import Tile
from nnunet_stochastic.kernels import use_kernels

__all__ = ["MAX_CHANNELS", "MAX_SAMPLE", "NoiseOfVoxels", "voxel_noise"]

_CHANNEL_BITS, _SAMPLE_BITS = 12, 20
#: Most channels of a sample, and the greatest number of a sample.
MAX_CHANNELS, MAX_SAMPLE = 1 << _CHANNEL_BITS, (1 << _SAMPLE_BITS) - 1

# Counters at once: the dozen temporaries of 8 bytes each stay in the cache of a CPU, and are 100 MiB on other devices.
_COUNTERS = 1 << 16
_COUNTERS_ON_DEVICE = 1 << 20


def voxel_noise(
    tile: Tile,
    channels: int,
    *,
    noise: NoiseKey,
    sample: int,
    purpose: Hashable = "voxel noise",
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal numbers of the voxels of a tile.

    Parameters
    ----------
    tile
        Indices of the tile in the image: three slices, or a number and two slices for a tile of a slice.
    channels
        Numbers of each voxel, at most ``MAX_CHANNELS``.
    noise
        Key of the image's noise.
    sample
        Number of the sample, in [0, ``MAX_SAMPLE``].
    purpose
        What the noise is for: other purposes have independent noise.
    device
        Device that computes the numbers and keeps them. The bits of CPUs and of CUDA differ by what ``philox`` says.

    Returns
    -------
    Tensor
        (channels, *T), float32.
    """
    _check(channels, sample)
    z, y, x = _ranges(tile)
    key = noise.words(purpose)
    result = torch.empty((channels, len(z), len(y), len(x)), device=device)
    if use_kernels(result):
        from nnunet_stochastic.kernels.voxel_noise import fill_with_voxel_noise

        fill_with_voxel_noise(result, (z.start, y.start, x.start), sample << _CHANNEL_BITS, key)
        return result[:, 0] if isinstance(tile[0], int) else result
    columns = torch.arange(x.start, x.stop, device=device)
    quarters = range(y.start // NUM_WORDS, -(-y.stop // NUM_WORDS))
    limit = _COUNTERS if result.device.type == "cpu" else _COUNTERS_ON_DEVICE
    for planes in _pieces(z, limit // (len(quarters) * len(x))):
        for rows in _pieces(quarters, limit // len(x)):
            counter_z = torch.arange(planes.start, planes.stop, device=device).view(-1, 1, 1)
            counter_y = torch.arange(rows.start, rows.stop, device=device).view(1, -1, 1)
            first, last = max(y.start, NUM_WORDS * rows.start), min(y.stop, NUM_WORDS * rows.stop)
            for channel in range(channels):
                number = torch.full((1, 1, 1), (sample << _CHANNEL_BITS) + channel, device=device)
                words = philox4x32((counter_z, columns, number, counter_y), key)
                drawn = torch.stack(normal_numbers(words), dim=2).flatten(1, 2)
                result[channel, planes.start - z.start : planes.stop - z.start, first - y.start : last - y.start] = (
                    drawn[:, first - NUM_WORDS * rows.start : last - NUM_WORDS * rows.start]
                )
    return result[:, 0] if isinstance(tile[0], int) else result


class NoiseOfVoxels:
    """The same numbers at some voxels of a tile: a counter for every four neighbours along y of which one is wanted.

    Parameters
    ----------
    tile
        Indices of the tile in the image.
    voxels
        Indices of n voxels in the flattened tile, int64, on the device that computes the numbers.
    channels
        Channel of each, (n), int64; ``None`` for the first.
    """

    def __init__(self, tile: Tile, voxels: Tensor, channels: Tensor | None = None) -> None:
        z, y, x = _ranges(tile)
        column, row, plane = voxels % len(x), voxels // len(x) % len(y), voxels // (len(x) * len(y))
        quarter = (row + y.start) // NUM_WORDS - y.start // NUM_WORDS
        num_quarters = (y.stop - 1) // NUM_WORDS - y.start // NUM_WORDS + 1
        counters, self._last_channel = (plane * num_quarters + quarter) * len(x) + column, 0
        if channels is not None and len(channels):
            self._last_channel = int(channels.max())
            counters += channels * (len(z) * num_quarters * len(x))
        counters, place = counters.unique(return_inverse=True)
        self._column = counters % len(x) + x.start
        self._quarter = counters // len(x) % num_quarters + y.start // NUM_WORDS
        plane = counters // (len(x) * num_quarters)
        self._plane = plane % len(z) + z.start
        self._channel = plane // len(z)
        self._places = place * NUM_WORDS + (row + y.start) % NUM_WORDS

    def draw(self, channels: range, samples: range, *, noise: NoiseKey, purpose: Hashable = "voxel noise") -> Tensor:
        """Numbers of several channels, counted from each voxel's, and of several samples.

        Returns
        -------
        Tensor
            (samples, channels, n), float32: of each as ``voxel_noise``.
        """
        _check(self._last_channel + channels.stop, samples.stop - 1)
        key, device = noise.words(purpose), self._places.device
        numbers = [(sample << _CHANNEL_BITS) + channel for sample in samples for channel in channels]
        result = torch.empty((len(numbers), len(self._places)), device=device)
        for rows in _pieces(range(len(numbers)), _COUNTERS // max(1, len(self._plane))):
            part = slice(rows.start, rows.stop)
            number = self._channel + torch.tensor(numbers[part], device=device)[:, None]
            words = philox4x32((self._plane, self._column, number, self._quarter), key)
            drawn = torch.stack(normal_numbers(words), dim=-1).flatten(1)
            torch.index_select(drawn, 1, self._places, out=result[part])
        return result.unflatten(0, (len(samples), len(channels)))


def _check(channels: int, sample: int) -> None:
    if not 0 <= channels <= MAX_CHANNELS:
        raise ValueError(f"a voxel has noise of at most {MAX_CHANNELS} channels, got {channels}: predict fewer classes")
    if not 0 <= sample <= MAX_SAMPLE:
        raise ValueError(f"the number of a sample must be at least 0 and at most {MAX_SAMPLE}, got {sample}")


def _ranges(tile: Tile) -> tuple[range, ...]:
    return tuple(
        range(index, index + 1) if isinstance(index, int) else range(index.start, index.stop) for index in tile
    )


def _pieces(whole: range, size: int) -> list[range]:
    """Ranges of at most ``size`` numbers, and at least one."""
    size = max(1, size)
    return [whole[first : first + size] for first in range(0, len(whole), size)]
