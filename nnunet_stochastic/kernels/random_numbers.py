"""Random numbers in registers: Philox4x32-10, Box and Muller's transform, and the inverse of the normal distribution.

Words are those of ``inference.philox`` bit by bit; normal numbers differ from its by what it says of two devices, 1e-6
of themselves. Φ⁻¹ takes erf⁻¹ by the two polynomials of *Approximating the erfinv function* (Giles 2010,
https://people.maths.ox.ac.uk/gilesm/files/gems_erfinv.pdf, single precision), within 4e-7 of itself.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

__all__ = ["as_int32", "normal_pair", "normal_quantile", "philox_words", "uniform_number"]

_TWO_PI_OF_WORD = tl.constexpr(math.pi * 2.0**-31)
_TWO_BY_PI = tl.constexpr(2 / math.pi)
_WORD = tl.constexpr(2.0**-32)
_BOUND = tl.constexpr(1 - 2**-24)  # as in ``distributions.lattice``
_ROOT_OF_2 = tl.constexpr(math.sqrt(2))


def as_int32(word: int) -> int:
    """A word in [0, 2^32) as the int32 of the same bits: a kernel is compiled once for each type of its arguments."""
    return word - (1 << 32) if word >> 31 else word


@triton.jit
def philox_words(c0, c1, c2, c3, key0, key1):
    """The four words of counters, uint32, of one shape; the key's words are int32."""
    return tl.philox_impl(
        c0.to(tl.uint32),
        c1.to(tl.uint32),
        c2.to(tl.uint32),
        c3.to(tl.uint32),
        key0.to(tl.uint32, bitcast=True),
        key1.to(tl.uint32, bitcast=True),
    )


@triton.jit
def normal_pair(first, second):
    """Two independent normal numbers of two words."""
    radius = tl.sqrt_rn(-2.0 * tl.log((first.to(tl.float32) + 0.5) * _WORD))
    cosine, sine = _cosine_and_sine(second.to(tl.float32) * _TWO_PI_OF_WORD)
    return radius * cosine, radius * sine


@triton.jit
def _cosine_and_sine(angle):
    """Cosine and sine of an angle in [0, 2π], within 2 units in the last place, without the path for large ones.

    The angle is reduced to [-π/4, π/4] by multiples of π/2 in three parts (Cody and Waite); polynomials of the library
    Cephes, https://www.netlib.org/cephes/.
    """
    quarter = tl.floor(angle * _TWO_BY_PI + 0.5)
    rest = ((angle - quarter * 1.5703125) - quarter * 4.837512969970703125e-4) - quarter * 7.549789954891882e-8
    square = rest * rest
    sine = ((-1.9515295891e-4 * square + 8.3321608736e-3) * square - 1.6666654611e-1) * square * rest + rest
    cosine = ((2.443315711809948e-5 * square - 1.388731625493765e-3) * square + 4.166664568298827e-2) * square * square
    cosine = cosine - 0.5 * square + 1.0
    odd = (quarter == 1.0) | (quarter == 3.0)
    minus_cosine = (quarter == 1.0) | (quarter == 2.0)
    minus_sine = (quarter == 2.0) | (quarter == 3.0)
    of_angle = tl.where(odd, sine, cosine)
    other = tl.where(odd, cosine, sine)
    return tl.where(minus_cosine, -of_angle, of_angle), tl.where(minus_sine, -other, other)


@triton.jit
def uniform_number(word):
    """A number in [0, 1) of 24 bits of a word."""
    return (word >> 8).to(tl.float32) * (2.0**-24)


@triton.jit
def normal_quantile(uniform):
    """Φ⁻¹(frac(u)), |z| <= 5.42, as ``lattice_normals`` has it."""
    y = 2.0 * (uniform - tl.floor(uniform)) - 1.0
    y = tl.minimum(tl.maximum(y, -_BOUND), _BOUND)
    w = -tl.log((1.0 - y) * (1.0 + y))
    a = w - 2.5
    center = 2.81022636e-08
    center = 3.43273939e-07 + center * a
    center = -3.5233877e-06 + center * a
    center = -4.39150654e-06 + center * a
    center = 0.00021858087 + center * a
    center = -0.00125372503 + center * a
    center = -0.00417768164 + center * a
    center = 0.246640727 + center * a
    center = 1.50140941 + center * a
    b = tl.sqrt(tl.maximum(w, 5.0)) - 3.0
    tail = -0.000200214257
    tail = 0.000100950558 + tail * b
    tail = 0.00134934322 + tail * b
    tail = -0.00367342844 + tail * b
    tail = 0.00573950773 + tail * b
    tail = -0.0076224613 + tail * b
    tail = 0.00943887047 + tail * b
    tail = 1.00167406 + tail * b
    tail = 2.83297682 + tail * b
    return tl.where(w < 5.0, center, tail) * y * _ROOT_OF_2
