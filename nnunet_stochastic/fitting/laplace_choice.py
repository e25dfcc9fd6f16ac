"""Temperature τ and prior precision δ of the last-layer Laplace approximation H = τ G + δ I.

``nll``, both together: the least negative log-likelihood of the predictive mean on validation voxels

    NLL(τ, δ) = -Σ_n w_n Σ_c t_nc ln E[p_nc]        W ~ N(W*, H^(-1)),  η_n ~ N(W φ̃_n, Σ_n)

For two classes and regions the logit is Gaussian with variance σ_n² + φ̃_nᵀ S φ̃_n, and E[p] an integral in one
dimension; for more classes E[p] is the mean over 32 draws of W, the same for all (τ, δ).

``marginal_likelihood``, δ alone: the largest evidence of the training cases under the Laplace approximation,

    ln p(δ) = const - ½ δ |W*|² - ½ ln det(τ G + δ I) + ½ K ln δ

for K weights (Daxberger et al., Laplace Redux, 2021, Eq. 5, https://arxiv.org/abs/2106.14806). It cannot choose τ: the
less of the data counts, the larger it is. τ is that of the scores of the cases, see ``curvature_pass``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from nnunet_stochastic.distributions import logistic_normal_moments
from nnunet_stochastic.fitting.validation_points import ValidationPoints
from nnunet_stochastic.fitting.voxel_likelihood import negative_log_likelihood
from nnunet_stochastic.inference.seeds import stream_generator
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.posteriors.curvature_spectrum import Spectrum
from nnunet_stochastic.posteriors.laplace import draw_weights
from nnunet_stochastic.voxel_law import law_with_noise

__all__ = ["LaplaceChoice", "PredictiveMean", "choose_by_marginal_likelihood", "choose_by_nll", "log_evidence"]

_NUM_DRAWS = 32
_VOXELS_AT_ONCE = 1 << 14
#: Decades that are searched: of τ, and of δ.
_TEMPERATURES = (-8, 0)
_PRIOR_PRECISIONS = (-6, 8)
_FINE_STEP = 0.25
#: Choices are equal whose NLL differs by less than this share of it.
_EQUAL = 1e-5


@dataclass(frozen=True)
class LaplaceChoice:
    """A choice.

    Parameters
    ----------
    temperature, prior_precision
        τ and δ.
    at_edge
        Whether a better choice may lie beyond what was searched: τ is the least, or δ the greatest. (With the least δ
        the prior has no effect.)
    """

    temperature: float
    prior_precision: float
    at_edge: bool = False


class PredictiveMean:
    """E[p] of validation voxels under W ~ N(W*, (τ G + δ I)^(-1)).

    Parameters
    ----------
    space
        Meaning of the logits.
    points
        The voxels.
    spectrum
        Spectrum of G.
    """

    def __init__(self, space: OutcomeSpace, points: ValidationPoints, spectrum: Spectrum) -> None:
        self._space, self._points, self._spectrum = space, points, spectrum
        self._has_variance = len(points.fields) > space.num_log_ratios

    def nll(self, temperature: float, prior_precision: float) -> float:
        """NLL(τ, δ), in nats; the weights of a voxel's mean are those of the points."""
        return self._mean_nll(self._probabilities(temperature, prior_precision))

    def nll_of_trained_weights(self) -> float:
        """NLL without uncertainty of W."""
        return self._mean_nll(self._probabilities(1.0, None))

    def _mean_nll(self, probabilities: Tensor) -> float:
        values = negative_log_likelihood(self._space, probabilities, self._points.targets)
        return float(values @ self._points.weights.double())

    def _probabilities(self, temperature: float, prior_precision: float | None) -> Tensor:
        """(P, n); a prior precision of ``None`` is infinite."""
        if self._space.scalar:
            return self._integrals(temperature, prior_precision)
        return self._means_over_draws(temperature, prior_precision)

    def _integrals(self, temperature: float, prior_precision: float | None) -> Tensor:
        space, points = self._space, self._points
        mean = points.fields[: space.num_log_ratios]
        variance = (
            points.fields[space.num_log_ratios :].square() if self._has_variance else torch.zeros_like(mean)
        ).clone()
        if prior_precision is not None:
            contrasts = torch.eye(space.num_logits) if space.regions else torch.tensor([[-1.0, 1.0]])
            covariance = self._spectrum.covariance_of(contrasts, temperature, prior_precision).float()
            for row, matrix in zip(variance, covariance, strict=True):
                row += ((points.inputs @ matrix) * points.inputs).sum(1).clamp_min(0)
        return logistic_normal_moments(mean, variance.sqrt())[0]

    def _means_over_draws(self, temperature: float, prior_precision: float | None) -> Tensor:
        space, points = self._space, self._points
        generator = stream_generator("predictive mean")
        size = (_NUM_DRAWS // 2, space.num_logits, points.inputs.shape[1])
        numbers = torch.randn(size, generator=generator, dtype=torch.float64)
        moved = torch.zeros(_NUM_DRAWS // 2, *size[1:])
        if prior_precision is not None:
            moved = draw_weights(
                self._spectrum,
                numbers,
                temperature=temperature,
                prior_precision=prior_precision,
                regions=space.regions,
            ).float()
        result = []
        for start in range(0, len(points.inputs), _VOXELS_AT_ONCE):
            part = slice(start, start + _VOXELS_AT_ONCE)
            fields, inputs = points.fields[:, part], points.inputs[part]
            noise_of_voxels = stream_generator("predictive mean", start)
            total = torch.zeros(space.num_channels, len(inputs))
            for draw in moved:
                shift = space.log_ratios((inputs @ draw.T).T)
                noise = None
                if self._has_variance:
                    noise = torch.randn((space.num_log_ratios, len(inputs)), generator=noise_of_voxels)
                for sign in (1, -1):
                    log_ratios = law_with_noise(space, fields, None if noise is None else sign * noise)
                    total += space.probabilities(log_ratios + sign * shift)
            result.append(total / _NUM_DRAWS)
        return torch.cat(result, dim=1)


def choose_by_nll(mean: PredictiveMean) -> LaplaceChoice:
    """The least NLL on a grid of whole decades, then step by step of a quarter of a decade.

    Where the NLL hardly depends on τ or δ, the most certain of the choices that are as good.
    """
    found: dict[tuple[float, float], float] = {}

    def search(temperatures: Iterable[float], precisions: Iterable[float]) -> tuple[float, float]:
        inside = [
            (temperature, precision)
            for temperature in temperatures
            if _TEMPERATURES[0] <= temperature <= _TEMPERATURES[1]
            for precision in precisions
            if _PRIOR_PRECISIONS[0] <= precision <= _PRIOR_PRECISIONS[1]
        ]
        for exponents in inside:
            if exponents not in found:
                found[exponents] = mean.nll(10 ** exponents[0], 10 ** exponents[1])
        least = min(found.values())
        equal = [exponents for exponents, nll in found.items() if nll <= least * (1 + _EQUAL)]
        return max(equal, key=sum)

    previous, best = None, search(_decades(_TEMPERATURES), _decades(_PRIOR_PRECISIONS))
    while best != previous:
        previous = best
        best = search(*([exponent + step for step in (-_FINE_STEP, 0, _FINE_STEP)] for exponent in best))
    temperature, precision = best
    at_edge = temperature == _TEMPERATURES[0] or precision == _PRIOR_PRECISIONS[1]
    return LaplaceChoice(10**temperature, 10**precision, at_edge)


def _decades(bounds: tuple[int, int]) -> list[float]:
    return [float(exponent) for exponent in range(bounds[0], bounds[1] + 1)]


def log_evidence(spectrum: Spectrum, squared_weights: float, temperature: float, prior_precision: float) -> float:
    """ln p(δ) up to a constant; ``squared_weights`` is |W*|²."""
    size = spectrum.eigenvalues.numel()
    return 0.5 * (
        size * math.log(prior_precision)
        - prior_precision * squared_weights
        - spectrum.log_determinant(temperature, prior_precision)
    )


def choose_by_marginal_likelihood(spectrum: Spectrum, squared_weights: float, temperature: float) -> LaplaceChoice:
    """The δ of the largest evidence, for a given τ."""
    bounds = [exponent * math.log(10) for exponent in _PRIOR_PRECISIONS]
    best = minimize_scalar(
        lambda logarithm: -log_evidence(spectrum, squared_weights, temperature, math.exp(logarithm)),
        bounds=bounds,
        method="bounded",
    )
    at_edge = bool(abs(best.x - bounds[1]) < 1e-2)
    return LaplaceChoice(temperature, math.exp(best.x), at_edge)
