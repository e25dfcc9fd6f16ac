"""Philox4x32-10: four random words that are a function of a counter and a key, and normal numbers made of them.

A round replaces the words c of the counter, with the 32 high and low bits of products of 64 bits, by

    c0' = high(M1 c2) ^ c1 ^ k0     c1' = low(M1 c2)     c2' = high(M0 c0) ^ c3 ^ k1     c3' = low(M0 c0)

and then adds W0 and W1 to the words k of the key, modulo 2^32; there are 10 rounds. It is section 4.3 of *Parallel
Random Numbers: As Easy as 1, 2, 3* (Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405). Numbers need no
state, so any part of a field of noise can be made alone, and in any order. In integers the words are the same bits on
every device.

A pair of words (a, b) is made two independent normal numbers by Box and Muller's transform
(https://doi.org/10.1214/aoms/1177706645):

    u = (a + ½) / 2^32     θ = 2π b / 2^32     √(-2 ln u) cos θ     √(-2 ln u) sin θ        |z| <= 6.77

u and θ are rounded alike everywhere, and so is the root; logarithm, sine and cosine are those of the device's library,
within 4 units in the last place of float32. So the numbers of two devices differ by at most 1e-6 of themselves.
"""

from __future__ import annotations

import math

from torch import Tensor

__all__ = ["NUM_WORDS", "normal_numbers", "philox4x32"]

#: Words, and normal numbers, that a counter gives.
NUM_WORDS = 4

_ROUNDS = 10
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85  # what is added to the key: the golden ratio and √3 - 1, as fractions of 2^32
_LOW = 0xFFFFFFFF

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """The four words of each counter.

    Parameters
    ----------
    counter
        Four words, int64, each in [0, 2^32), of shapes that broadcast to one. Words that vary along few axes make the
        first rounds cheap: they are computed before they are broadcast.
    key
        Two words, each in [0, 2^32).

    Returns
    -------
    tuple of Tensor
        Four words, int64, each in [0, 2^32), of the shape to which those of the counter broadcast.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # Of a product that is beyond 2^63 int64 has the right 64 bits. c1 and c3 keep their high bits until the end,
        # since _mixed drops what they leave there.
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = _mixed(product1, c1, k0), product1, _mixed(product0, c3, k1), product0
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1 & _LOW, c2, c3 & _LOW


def normal_numbers(words: Words) -> Words:
    """Standard normal numbers of four words: four tensors, float32, of the words' shape."""
    return *_box_muller(*words[:2]), *_box_muller(*words[2:])


def _mixed(product: Tensor, word: Tensor, key: int) -> Tensor:
    return (product >> 32).bitwise_xor_(key).bitwise_xor(word).bitwise_and_(_LOW)


def _box_muller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    radius = first.float().add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
    angle = second.float().mul_(math.pi * 2.0**-31)
    cosine = angle.cos()
    return cosine.mul_(radius), angle.sin_().mul_(radius)
