"""Rounding of the mantissa, against decimal arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from nnunet_stochastic.inference.rounding import round_mantissa


def rounded_exactly(value: float, digits: int) -> float:
    """By fractions: the nearest multiple of 2^(exponent - digits), ties to even, as Python rounds."""
    if value == 0:
        return 0.0
    exponent = np.frexp(abs(value))[1] - 1
    unit = Fraction(2) ** (int(exponent) - digits)
    return float(round(Fraction(value) / unit) * unit)


@pytest.mark.parametrize("digits", [1, 2, 7, 10, 15, 22])
def test_the_nearest_number_is_taken_and_of_two_the_even_one(digits):
    generator = np.random.default_rng(0)
    values = np.concatenate(
        [
            generator.normal(size=500).astype(np.float32) * np.float32(10.0) ** generator.integers(-20, 20, 500),
            np.arange(-64, 65, dtype=np.float32) / 8,  # ties
            np.nextafter(np.float32(2), np.float32(0), dtype=np.float32)[None],  # carries into the exponent
        ]
    ).astype(np.float32)
    expected = [rounded_exactly(float(value), digits) for value in values]
    np.testing.assert_array_equal(round_mantissa(values, digits), np.array(expected, dtype=np.float32))


@pytest.mark.parametrize("digits", [3, 10, 23])
def test_the_error_is_bounded_and_rounding_twice_is_rounding_once(digits):
    values = np.random.default_rng(1).random((4, 5, 6)).astype(np.float32)
    rounded = round_mantissa(values, digits)
    assert rounded.shape == values.shape
    assert (np.abs(rounded.astype(float) - values) <= values * 2.0 ** -(digits + 1)).all()
    np.testing.assert_array_equal(round_mantissa(rounded, digits), rounded)
    np.testing.assert_array_equal(round_mantissa(-values, digits), -rounded)


@pytest.mark.parametrize("digits", [0, 24])
def test_other_numbers_of_digits_are_refused(digits):
    with pytest.raises(ValueError, match="digits must be 1 to 23"):
        round_mantissa(np.ones(1), digits)
