"""Temperature scaling of the predictive mean: q_c = p_c^(1/T) / sum_k p_k^(1/T), T minimising the NLL.

With z = ln max(p, 1e-8) and β = 1/T the NLL -β z_y + ln sum_c exp(β z_c) is convex in β, with

    gradient  E_q[z] - z_y        curvature  Var_q[z].

Summed over voxels and raters on a fixed grid of ln β they are all that is kept (``TemperatureStatistics``), so one pass
over the data is enough and sets of voxels add up. T is where the gradient's cubic Hermite interpolant crosses zero,
between 0.1 and 10, the ends of the grid, and within 2e-4 of the minimum, relatively.
Regions are yes/no events, q = p^(1/T) / (p^(1/T) + (1 - p)^(1/T)).
Policy: no voxels, or probabilities that are uniform everywhere and so the same at any T -> ValueError; a NaN among
them too.
Reference: Guo et al., On calibration of modern neural networks, ICML 2017, https://arxiv.org/abs/1706.04599.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicHermiteSpline
from scipy.optimize import brentq

from nnunet_stochastic.metrics._checks import check_binary, check_labels, check_probability
from nnunet_stochastic.metrics.nll import PROBABILITY_FLOOR

__all__ = ["TemperatureStatistics", "tempered"]

_LOG_INVERSE_TEMPERATURES = np.linspace(np.log(0.1), np.log(10.0), 17)

# Probabilities taken to float64 at a time, so that the temporary arrays stay in the cache whatever the image's size.
_CHUNK = 1 << 16


@dataclass(frozen=True)
class TemperatureStatistics:
    """Sums from which the temperature follows; ``a + b`` pools two sets of voxels.

    Attributes
    ----------
    gradient
        dNLL/dβ at each grid value of ln β, summed over voxels and raters, (17,), float64.
    curvature
        d²NLL/dβ² likewise.
    """

    gradient: np.ndarray
    curvature: np.ndarray

    @classmethod
    def of(cls, probabilities: np.ndarray, label: np.ndarray, *, regions: bool = False) -> TemperatureStatistics:
        """Sums over one image.

        Parameters
        ----------
        probabilities
            Predictive mean, (C, *S), in [0, 1], summing to 1 over classes unless ``regions``.
        label
            Label map, (*S), integers in [0, C), or (A, *S) for A raters. For regions whether a voxel is in each of
            them, bool, (C, *S) or (A, C, *S).
        regions
            Whether the channels are regions, each a yes/no event of its own.

        Returns
        -------
        TemperatureStatistics
            The sums of this image.
        """
        shape = probabilities.shape if regions else probabilities.shape[1:]
        raters = label if label.ndim > len(shape) else label[np.newaxis]
        for rater in raters:
            (check_binary if regions else check_labels)(probabilities, rater)
        inverse_temperatures = np.exp(_LOG_INVERSE_TEMPERATURES).astype(np.float32)
        gradient, curvature = np.zeros((2, len(inverse_temperatures)))
        flat = raters.reshape(len(raters), -1)
        for logs, voxels in _log_probabilities(probabilities, regions=regions):
            observed = sum(_at_label(logs, rater[voxels]).sum() for rater in flat)
            # The powers take most of the time, and their rounding averages out in sums that are in float64.
            logs = logs.astype(np.float32)
            for index, inverse_temperature in enumerate(inverse_temperatures):
                weights = _normalized_power(logs, inverse_temperature)
                mean = np.einsum("cn,cn->n", weights, logs)
                weights *= np.square(logs - mean)
                gradient[index] += len(flat) * mean.sum(dtype=np.float64) - observed
                curvature[index] += len(flat) * weights.sum(dtype=np.float64)
        return cls(gradient, curvature)

    def __add__(self, other: TemperatureStatistics) -> TemperatureStatistics:
        return TemperatureStatistics(self.gradient + other.gradient, self.curvature + other.curvature)

    def temperature(self) -> float:
        """T in [0.1, 10]; above 1 the predictive mean was overconfident."""
        if not (self.curvature > 0).any():
            raise ValueError(
                "temperature scaling needs voxels whose probabilities are not uniform, got none; leave it out"
            )
        grid = _LOG_INVERSE_TEMPERATURES
        if self.gradient[0] >= 0:
            return float(np.exp(-grid[0]))
        if self.gradient[-1] <= 0:
            return float(np.exp(-grid[-1]))
        # The gradient grows with β, so its sign changes once.
        right = int(np.argmax(self.gradient >= 0))
        slope = self.curvature * np.exp(grid)
        return float(np.exp(-brentq(CubicHermiteSpline(grid, self.gradient, slope), grid[right - 1], grid[right])))


def tempered(probabilities: np.ndarray, temperature: float, *, regions: bool = False) -> np.ndarray:
    """Probabilities at a temperature.

    Parameters
    ----------
    probabilities
        Predictive mean, (C, *S), in [0, 1].
    temperature
        Temperature T > 0; 1 leaves the probabilities as they are, up to the floor of 1e-8.
    regions
        Whether the channels are regions, each a yes/no event of its own.

    Returns
    -------
    np.ndarray
        Probabilities, (C, *S), of the same dtype; summing to 1 over classes unless ``regions``.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    check_probability(probabilities)
    scaled = np.empty_like(probabilities, order="C")
    flat = scaled.reshape(1 if regions else len(scaled), -1)
    for logs, voxels in _log_probabilities(probabilities, regions=regions):
        weights = _normalized_power(logs, 1 / temperature)
        flat[:, voxels] = weights[1:] if regions else weights
    return scaled


def _log_probabilities(probabilities: np.ndarray, *, regions: bool) -> Iterator[tuple[np.ndarray, slice]]:
    """Chunks of ln max(p, 1e-8), less its largest over classes, (C, n) in float64, and which voxels they are.

    The classes of a region are no and yes. Less the largest, uniform ones are exactly 0 and no power overflows.
    """
    flat = probabilities.reshape(1 if regions else len(probabilities), -1)
    length = max(_CHUNK // len(flat), 1)
    for start in range(0, flat.shape[1], length):
        voxels = slice(start, start + length)
        chunk = flat[:, voxels].astype(np.float64)
        if regions:
            chunk = np.concatenate([1 - chunk, chunk])
        logs = np.log(np.maximum(chunk, PROBABILITY_FLOOR))
        yield logs - logs.max(axis=0), voxels


def _at_label(logs: np.ndarray, label: np.ndarray) -> np.ndarray:
    return np.take_along_axis(logs, label[np.newaxis].astype(np.intp), axis=0)


def _normalized_power(logs: np.ndarray, inverse_temperature: float) -> np.ndarray:
    weights = np.exp(inverse_temperature * logs)
    weights /= weights.sum(axis=0)
    return weights
