import math

import numpy as np
import pytest
import torch
from scipy import stats

from nnunet_stochastic.inference.philox import normal_numbers, philox4x32

ONES = 0xFFFFFFFF


def words_of(counter, key):
    return [int(word) for word in philox4x32(tuple(torch.tensor([word]) for word in counter), key)]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_known_answers_of_the_authors(counter, key, expected):
    """The vectors of philox4x32-10 that Random123 is published with."""
    assert words_of(counter, key) == list(expected)


def reference(counter, key):
    """In Python's integers, which have no limit."""
    c, k = list(map(int, counter)), list(key)
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [second >> 32 ^ c[1] ^ k[0], second & ONES, first >> 32 ^ c[3] ^ k[1], first & ONES]
        k = [(k[0] + 0x9E3779B9) & ONES, (k[1] + 0xBB67AE85) & ONES]
    return c


def test_counters_are_broadcast():
    generator = np.random.default_rng(0)
    values = [generator.integers(0, 1 << 32, size) for size in (3, 4, 1, 2)]
    shapes = [(3, 1, 1), (1, 4, 1), (1, 1, 1), (1, 1, 2)]
    counter = tuple(torch.from_numpy(value).view(shape) for value, shape in zip(values, shapes, strict=True))
    words = torch.stack(philox4x32(counter, (123, ONES - 5)))
    assert words.shape == (4, 3, 4, 2)
    for i, j, k in np.ndindex(3, 4, 2):
        expected = reference([values[0][i], values[1][j], values[2][0], values[3][k]], (123, ONES - 5))
        assert words[:, i, j, k].tolist() == expected


def uniform_words(count):
    counter = (torch.arange(count), torch.zeros(1, dtype=torch.int64), torch.tensor([7]), torch.tensor([9]))
    return philox4x32(counter, (1, 2))


def test_words_are_uniform():
    for word in uniform_words(1 << 18):
        for shift in (0, 8, 16, 24):
            observed = torch.bincount((word >> shift) & 0xFF, minlength=256).numpy()
            assert stats.chisquare(observed).pvalue > 1e-5


def test_normal_numbers_are_those_of_box_and_muller():
    """Within 8 units in the last place of float64's, of the same u and θ in float32, also at the ends of a word."""
    ends = torch.tensor([0, 1, 2, 3, 1 << 23, (1 << 31) - 1, 1 << 31, ONES - 1, ONES])
    words = tuple(torch.cat([word, ends.roll(index)]) for index, word in enumerate(uniform_words(1 << 14)))
    found = normal_numbers(words)
    for first in (0, 2):
        a, b = (word.numpy().astype(np.float32) for word in words[first : first + 2])
        radius = np.sqrt(-2 * np.log(((a + np.float32(0.5)) * np.float32(2**-32)).astype(np.float64)))
        assert radius.max() > 6.7
        angle = (b * np.float32(math.pi * 2.0**-31)).astype(np.float64)
        for numbers, of in zip(found[first : first + 2], (np.cos, np.sin), strict=True):
            assert numbers.dtype == torch.float32
            expected = radius * of(angle)
            np.testing.assert_allclose(numbers.numpy(), expected, rtol=8 * 2**-24, atol=0)
            assert numbers.abs().max() <= 6.77


def test_normal_numbers_do_not_depend_on_their_place():
    """Vectors and their tails are computed alike, or noise would depend on the tile."""
    words = uniform_words(4099)
    whole = torch.stack(normal_numbers(words))
    for start, stop in ((1, 4099), (3, 20), (17, 18), (2048, 4000)):
        part = torch.stack(normal_numbers(tuple(word[start:stop].clone() for word in words)))
        assert torch.equal(part, whole[:, start:stop])
