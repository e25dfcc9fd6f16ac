"""Continuous ranked probability score, CRPS(F, y) = integral (F(x) - 1[x >= y])^2 dx, in the unit of y.

For samples X, X' of F it is E|X - y| - ½ E|X - X'|, self-pairs included, which is the score of the empirical
distribution. For F normal with z = (y - mean)/sd and the integral cut at mean ± h sd,

    sd (I(z) + I(-z) - 2 I(-h)),   I(t) = t Phi(t)^2 + 2 phi(t) Phi(t) - Phi(sqrt(2) t)/sqrt(pi),   I' = Phi^2,

z clipped to [-h, h]. The CURVAS challenge cuts at h = 3, where a point further out scores as one at the cut.
Policy: NaN in -> NaN out. sd = 0 -> |y - mean|, the score of a point mass, not cut.
Reference: Gneiting and Raftery, Strictly proper scoring rules, JASA 2007, section 4.2.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr

__all__ = ["crps_gaussian", "crps_samples"]


def crps_samples(samples: np.ndarray, observation: float) -> float:
    """CRPS of an empirical distribution.

    Parameters
    ----------
    samples
        Values, (K,), such as the volumes of K sampled segmentations in ml.
    observation
        What was observed, such as the volume of one annotation, in the same unit.

    Returns
    -------
    float
        Score >= 0 in that unit; 0 is best.
    """
    samples = np.sort(np.asarray(samples, dtype=np.float64))
    if samples.ndim != 1 or samples.size == 0:
        raise ValueError(f"samples must be (K,) with at least one value, got shape {samples.shape}")
    size = samples.size
    # In ascending order the k-th of K values is the larger of a pair k times and the smaller K - 1 - k times.
    spread = np.dot(2 * np.arange(size) - size + 1, samples) / size**2
    return float(np.abs(samples - observation).mean() - spread)


def crps_gaussian(point: float, mean: float, sd: float, *, half_width: float = 3.0) -> float:
    """CRPS between a point and a normal distribution, the integral cut to mean ± half_width sd.

    Parameters
    ----------
    point
        A value, such as the predicted volume, in ml.
    mean, sd
        The normal distribution, such as that of the raters' volumes, in the same unit.
    half_width
        Where the integral is cut, in standard deviations; ``math.inf`` gives the whole score.

    Returns
    -------
    float
        Score >= 0 in that unit; 0 is best.
    """
    if sd < 0:
        raise ValueError(f"sd must not be negative, got {sd}")
    if not half_width > 0:
        raise ValueError(f"half_width must be positive, got {half_width}")
    if sd == 0:
        return abs(float(point) - float(mean))
    z = float(np.clip((point - mean) / sd, -half_width, half_width))
    tail = 0.0 if math.isinf(half_width) else _integral_of_squared_normal(-half_width)
    return sd * (_integral_of_squared_normal(z) + _integral_of_squared_normal(-z) - 2 * tail)


def _integral_of_squared_normal(t: float) -> float:
    """Integral of Phi^2 from -infinity to t."""
    density = math.exp(-0.5 * t * t) / math.sqrt(2 * math.pi)
    below = float(ndtr(t))
    return t * below**2 + 2 * density * below - float(ndtr(math.sqrt(2) * t)) / math.sqrt(math.pi)
