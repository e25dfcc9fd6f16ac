"""Normalized cross-correlation of two maps: NCC = sum_n (a_n - mean a)(b_n - mean b) / (N sd(a) sd(b)).

sd is the sample standard deviation (divisor N - 1), so NCC is Pearson's correlation times (N - 1)/N.
Policy: a constant map has NCC 0 with any other; no voxels -> NaN; a map with NaN or infinity -> ValueError.
Reference: Kahl et al., ValUES, ICLR 2024, https://arxiv.org/abs/2401.08501, ambiguity modelling.
"""

from __future__ import annotations

import numpy as np

__all__ = ["normalized_cross_correlation"]

# Voxels taken to float64 at a time, so that the temporary arrays stay small whatever the image's size.
_CHUNK = 1 << 20


def normalized_cross_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """NCC of two maps, for instance an uncertainty map and the variance over annotations.

    Parameters
    ----------
    a, b
        Maps of the same shape, finite, in any unit: NCC does not change with the scale of either.

    Returns
    -------
    float
        Correlation in (-1, 1); 1 is the limit for many voxels of maps that agree up to scale.
    """
    if a.shape != b.shape:
        raise ValueError(f"both maps must have the same shape, got {a.shape} and {b.shape}")
    if a.size == 0:
        return float("nan")
    for name, values in (("first", a), ("second", b)):
        if not np.isfinite(values.min()) or not np.isfinite(values.max()):
            raise ValueError(f"the {name} map must be finite, got values from {values.min()} to {values.max()}")
    # Asked of the values, not of the variance: rounding leaves a constant map a tiny variance.
    if a.min() == a.max() or b.min() == b.max():
        return 0.0
    a, b = a.ravel(), b.ravel()
    mean_a, mean_b = a.mean(dtype=np.float64), b.mean(dtype=np.float64)
    products = np.zeros((2, 2))
    for start in range(0, a.size, _CHUNK):
        chunk = slice(start, start + _CHUNK)
        centred = np.stack([a[chunk] - mean_a, b[chunk] - mean_b])
        products += centred @ centred.T
    correlation = products[0, 1] / np.sqrt(products[0, 0]) / np.sqrt(products[1, 1])
    return float(correlation * (a.size - 1) / a.size)
