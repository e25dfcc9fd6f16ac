import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from nnunet_stochastic.inference import voxel_noise as module
from nnunet_stochastic.inference.philox import normal_numbers, philox4x32
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.voxel_noise import MAX_CHANNELS, MAX_SAMPLE, voxel_noise
from nnunet_stochastic.seeds import stream_seed

CUBE = (slice(0, 32), slice(0, 48), slice(0, 40))


def noise_of(tile, channels=1, *, seed=3, sample=4, case="", **options):
    return voxel_noise(tile, channels, noise=NoiseKey(seed, case), sample=sample, **options)


def correlation(first, second) -> float:
    return np.corrcoef(first.flatten(), second.flatten())[0, 1]


def test_a_voxel_has_the_numbers_of_its_counter():
    numbers = noise_of((slice(5, 8), slice(6, 15), slice(2, 4)), 3, seed=11, sample=2, case="a", purpose="x")
    seed = stream_seed("x", 11, "a")
    for channel, z, y, x in itertools.product(range(3), (5, 7), range(6, 15), (2, 3)):
        counter = tuple(torch.tensor([word]) for word in (z, x, (2 << 12) + channel, y // 4))
        expected = normal_numbers(philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32)))[y % 4]
        assert torch.equal(numbers[channel, z - 5, y - 6, x - 2], expected[0])


@pytest.mark.parametrize("counters", [1, 100, 1 << 16])
def test_overlapping_tiles_have_the_same_noise(monkeypatch, counters):
    """To the bit, however many voxels are computed at once."""
    first = noise_of((slice(0, 40), slice(5, 30), slice(17, 33)), 2)
    monkeypatch.setattr(module, "_COUNTERS", counters)
    second = noise_of((slice(9, 20), slice(0, 16), slice(10, 50)), 2)
    assert torch.equal(first[:, 9:20, :11], second[:, :, 5:, 7:23])
    assert torch.equal(first[:, 39:, 24:, 15:], noise_of((slice(39, 40), slice(29, 30), slice(32, 33)), 2))


def test_slices_are_parts_of_the_image():
    whole = noise_of((slice(0, 4), slice(0, 70), slice(60, 130)), 3)
    part = noise_of((2, slice(35, 66), slice(64, 100)), 3)
    assert part.shape == (3, 31, 36)
    assert torch.equal(part, whole[:, 2, 35:66, 4:40])


def test_numbers_are_normal():
    numbers = noise_of(CUBE, 2).flatten().numpy()
    count = len(numbers)
    assert stats.kstest(numbers, "norm").pvalue > 1e-4
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((numbers**power).mean() - moment) < 4 * (variance / count) ** 0.5
    # each of the rows that share a counter alone, too
    for row in range(4):
        assert stats.kstest(noise_of(CUBE)[0, :, row::4].flatten().numpy(), "norm").pvalue > 1e-4


@pytest.mark.parametrize("distance", [(1, 0, 0), (0, 1, 0), (0, 2, 0), (0, 3, 0), (0, 4, 0), (0, 0, 1), (0, 1, 1)])
def test_neighbours_are_independent(distance):
    numbers = noise_of(CUBE)[0]
    here = numbers[tuple(slice(0, size - step) for size, step in zip(numbers.shape, distance, strict=True))]
    there = numbers[tuple(slice(step, None) for step in distance)]
    for first, second in ((here, there), (here.abs(), there.abs())):
        assert abs(correlation(first, second)) < 4 / here.numel() ** 0.5


def test_channels_samples_seeds_cases_and_purposes_are_independent():
    here, other_channel = noise_of(CUBE, 2)
    others = [noise_of(CUBE, **key)[0] for key in ({"seed": 4}, {"sample": 5}, {"case": "b"}, {"purpose": "x"})]
    for other in (other_channel, *others):
        assert abs(correlation(here, other)) < 4 / here.numel() ** 0.5
        assert abs(correlation(here.abs(), other.abs())) < 4 / here.numel() ** 0.5


def test_channels_do_not_depend_on_their_number():
    assert torch.equal(noise_of(CUBE, 1), noise_of(CUBE, 3)[:1])
    assert noise_of(CUBE, 0).shape == (0, 32, 48, 40)


def test_channels_and_samples_that_a_counter_cannot_tell_apart_are_refused():
    voxel = (slice(0, 1),) * 3
    largest = noise_of(voxel, MAX_CHANNELS, sample=MAX_SAMPLE)
    assert len(largest.unique()) == MAX_CHANNELS
    with pytest.raises(ValueError, match=f"at most {MAX_CHANNELS} channels, got {MAX_CHANNELS + 1}"):
        noise_of(voxel, MAX_CHANNELS + 1)
    for sample in (-1, MAX_SAMPLE + 1):
        with pytest.raises(ValueError, match=f"at most {MAX_SAMPLE}, got {sample}"):
            noise_of(voxel, sample=sample)


@pytest.mark.gpu
def test_devices_have_the_same_noise():
    on_cuda = noise_of(CUBE, 3, device="cuda")
    assert on_cuda.is_cuda
    torch.testing.assert_close(on_cuda.cpu(), noise_of(CUBE, 3), rtol=1e-6, atol=0)
