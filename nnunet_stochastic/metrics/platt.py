"""Platt scaling of an uncertainty u to a confidence: P(correct | u) = 1 / (1 + exp(a (-u) + b)).

(a, b) minimise the cross-entropy over all voxels and raters of validation data, without a penalty, against Platt's
targets (N₊ + 1)/(N₊ + 2) for the N₊ correct and 1/(N₋ + 2) for the N₋ wrong predictions, which keep the fit finite
where u separates them. A bin of the histogram enters with its mean uncertainty and its counts. The minimum is found by
Newton steps in a trust region (scipy), which ends where steps are rounding: a line search fails there.
Policy: no voxels, or a constant uncertainty, which has no slope -> ValueError. The confidence of NaN
is NaN.
Reference: Platt, Probabilistic outputs for support vector machines, Advances in Large Margin Classifiers 1999.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from nnunet_stochastic.metrics.uncertainty_histogram import UncertaintyHistogram

__all__ = ["PlattScaling"]


@dataclass(frozen=True)
class PlattScaling:
    """Confidence sigmoid(-(a (-u) + b)); a < 0 where uncertain voxels are wrong more often."""

    a: float
    b: float

    @classmethod
    def fit(cls, histogram: UncertaintyHistogram) -> PlattScaling:
        """Fit to all voxels of a histogram."""
        if not histogram.count.any():
            raise ValueError("Platt scaling needs voxels, the histogram holds none")
        if histogram.is_constant:
            value = float(histogram.uncertainty_sum.sum() / histogram.count.sum())
            raise ValueError(
                f"Platt scaling needs uncertainties that differ, got {value:g} in all voxels; leave this measure out"
            )
        filled = histogram.count > 0
        count = histogram.count[filled].astype(np.float64)
        correct = histogram.correct_count[filled].astype(np.float64)
        wrong = count - correct
        target_of_correct = (correct.sum() + 1) / (correct.sum() + 2)
        target_of_wrong = 1 / (wrong.sum() + 2)
        for_correct = correct * target_of_correct + wrong * target_of_wrong
        score = -histogram.uncertainty_sum[filled] / count
        # Centred and scaled, so that the solver's tolerance means the same whatever the size of the uncertainty.
        centre = np.average(score, weights=count)
        scale = np.sqrt(np.average(np.square(score - centre), weights=count))
        total = count.sum()
        slope, intercept = _logistic_regression(
            (score - centre) / scale, for_correct / total, (count - for_correct) / total
        )
        slope /= scale
        return cls(a=float(-slope), b=float(slope * centre - intercept))

    def confidence(self, uncertainty: np.ndarray) -> np.ndarray:
        """Confidence in [0, 1] at each voxel of an uncertainty map, any shape; float32 for a float32 map."""
        return expit(self.a * uncertainty - self.b)


def _logistic_regression(feature: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Slope and intercept, (2,), by maximum likelihood.

    Parameters
    ----------
    feature
        Feature of n groups, (n,), not all equal.
    positive, negative
        Shares of all observations that are positive and negative in each group, (n,), each above 0 somewhere.
    """
    weight = positive + negative

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        score = parameters[0] * feature + parameters[1]
        residual = negative * expit(score) - positive * expit(-score)
        value = -(positive @ log_expit(score) + negative @ log_expit(-score))
        return float(value), np.array([residual @ feature, residual.sum()])

    def curvature(parameters: np.ndarray) -> np.ndarray:
        score = parameters[0] * feature + parameters[1]
        spread = weight * expit(score) * expit(-score)
        mixed = spread @ feature
        return np.array([[spread @ feature**2, mixed], [mixed, spread.sum()]])

    # The gradient is that of a mean, so the tolerance is rounding.
    options = {"gtol": 1e-14, "maxiter": 1000}
    return minimize(loss, np.zeros(2), jac=True, hess=curvature, method="trust-exact", options=options).x
