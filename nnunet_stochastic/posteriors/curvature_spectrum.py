"""The precision matrix of last-layer weights in the eigenvectors of the curvature.

    H = τ G + δ I = U diag(τ λ + δ) Uᵀ

with temperature τ and prior precision δ, both free to change without another decomposition. The symmetric root
H^(-1/2) = U diag(τ λ + δ)^(-1/2) Uᵀ is one matrix, whichever eigenvectors a library returns for equal eigenvalues, so
that what is drawn with it is the same on every machine up to rounding.

Weights are in the order (C, F + 1), flattened, see ``last_layer_curvature``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

__all__ = ["FullSpectrum", "KroneckerSpectrum", "Spectrum"]


class Spectrum(ABC):
    """U and λ of a curvature; everything in float64 on the CPU."""

    #: λ, at least 0, as many as there are weights, in the shape of the decomposition.
    eigenvalues: Tensor

    def precisions(self, temperature: float, prior_precision: float) -> Tensor:
        """Eigenvalues τ λ + δ of H."""
        return temperature * self.eigenvalues + prior_precision

    def log_determinant(self, temperature: float, prior_precision: float) -> float:
        """ln det H."""
        return float(self.precisions(temperature, prior_precision).log().sum())

    @abstractmethod
    def times_inverse_root(self, numbers: Tensor, temperature: float, prior_precision: float) -> Tensor:
        """H^(-1/2) z of numbers z, (…, C, F + 1)."""

    @abstractmethod
    def covariance_of(self, contrasts: Tensor, temperature: float, prior_precision: float) -> Tensor:
        """Covariance of the rows d of K W, Cov[(K W)_d], where W has covariance H^(-1).

        Parameters
        ----------
        contrasts
            K, (D, C).
        temperature, prior_precision
            τ and δ.

        Returns
        -------
        Tensor
            (D, F + 1, F + 1): the variance of (K η)_d at a voxel is φ̃ᵀ S_d φ̃.
        """


class FullSpectrum(Spectrum):
    """Of a whole matrix (C (F + 1), C (F + 1))."""

    def __init__(self, matrix: Tensor, num_logits: int) -> None:
        values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
        self.eigenvalues = values.clamp_min(0)
        self._vectors = vectors
        self._rows = vectors.unflatten(0, (num_logits, -1))

    def times_inverse_root(self, numbers: Tensor, temperature: float, prior_precision: float) -> Tensor:
        roots = self.precisions(temperature, prior_precision).rsqrt()
        coordinates = numbers.flatten(-2) @ self._vectors
        return ((coordinates * roots) @ self._vectors.T).unflatten(-1, numbers.shape[-2:])

    def covariance_of(self, contrasts: Tensor, temperature: float, prior_precision: float) -> Tensor:
        rows = torch.einsum("dc,cfk->dfk", contrasts.double(), self._rows)
        return (rows / self.precisions(temperature, prior_precision)) @ rows.mT


class KroneckerSpectrum(Spectrum):
    """Of factors (C, C) and (F + 1, F + 1)."""

    def __init__(self, outputs: Tensor, inputs: Tensor) -> None:
        (output_values, self._output_vectors), (input_values, self._input_vectors) = (
            torch.linalg.eigh((factor + factor.T) / 2) for factor in (outputs, inputs)
        )
        self.eigenvalues = torch.outer(output_values.clamp_min(0), input_values.clamp_min(0))

    def times_inverse_root(self, numbers: Tensor, temperature: float, prior_precision: float) -> Tensor:
        roots = self.precisions(temperature, prior_precision).rsqrt()
        coordinates = self._output_vectors.T @ numbers @ self._input_vectors
        return self._output_vectors @ (coordinates * roots) @ self._input_vectors.T

    def covariance_of(self, contrasts: Tensor, temperature: float, prior_precision: float) -> Tensor:
        squares = (contrasts.double() @ self._output_vectors).square()
        variances = squares @ (1 / self.precisions(temperature, prior_precision))
        return (self._input_vectors * variances[:, None]) @ self._input_vectors.T
