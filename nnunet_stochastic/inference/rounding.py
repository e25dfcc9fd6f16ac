"""Fewer binary digits of a map's numbers: what is noise below them is most of what a compressed map takes."""

from __future__ import annotations

import numpy as np

from nnunet_stochastic.prediction_choices import MAX_MAP_DIGITS

__all__ = ["round_mantissa"]


def round_mantissa(array: np.ndarray, digits: int) -> np.ndarray:
    """Numbers rounded to the nearest with fewer binary digits, of two equally near to the even one.

    Parameters
    ----------
    array
        Finite numbers of any shape; float32, or cast to it.
    digits
        Binary digits behind the leading one that are kept, 1 to 23. The relative error is at most 2^-(digits + 1) (of
        subnormal numbers, below 1.2e-38, more).

    Returns
    -------
    numpy.ndarray
        float32 of the same shape; with 23 digits the array itself.
    """
    if not 1 <= digits <= MAX_MAP_DIGITS:
        raise ValueError(f"digits must be 1 to {MAX_MAP_DIGITS}, got {digits}")
    array = np.ascontiguousarray(array, dtype=np.float32)
    dropped = MAX_MAP_DIGITS - digits
    if not dropped:
        return array
    bits = array.view(np.uint32)
    # A carry out of the mantissa raises the exponent by one, as it should.
    half = np.uint32((1 << (dropped - 1)) - 1)
    odd = (bits >> np.uint32(dropped)) & np.uint32(1)
    kept = np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)
    return ((bits + half + odd) & kept).view(np.float32)
