"""Curvature of the cross-entropy in the weights of a network's last layer, summed over voxels.

The logits are linear in the weights, η_n = W φ̃_n with φ̃ = (φ, 1) and the bias as the last column of W, so the
generalised Gauss-Newton matrix is the Hessian:

    G = Σ_n w_n Λ_n ⊗ φ̃_n φ̃_nᵀ        Λ_n = diag(p_n) - p_n p_nᵀ        regions: Λ_n = diag(p_n (1 - p_n))

(Daxberger et al., Laplace Redux, 2021, section 3, https://arxiv.org/abs/2106.14806). It is kept whole, or as Kronecker
factors:

    G ≈ B / tr B ⊗ A        B = Σ_n w_n Λ_n        A = Σ_n w_n tr(Λ_n) φ̃_n φ̃_nᵀ

Other than the common Σ_n Λ_n ⊗ mean φ̃ φ̃ᵀ this sees that the features of uncertain voxels are not those of the many
certain ones: trace is that of G, and two classes, one voxel and a constant Λ are exact.

Weights are in the order (C, F + 1), flattened. Sums are in float64, whatever the number of voxels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from nnunet_stochastic.posteriors.curvature_spectrum import FullSpectrum, KroneckerSpectrum, Spectrum

__all__ = ["MAX_FULL_WEIGHTS", "FullCurvature", "KroneckerCurvature", "LastLayerCurvature", "curvature_for"]

#: The most weights whose matrix is kept whole.
MAX_FULL_WEIGHTS = 2000
_VOXELS_AT_ONCE = 1 << 12  # the products of so many are sums in the precision of the inputs


class LastLayerCurvature(ABC):
    """G of C logits and F + 1 inputs.

    Parameters
    ----------
    num_logits
        Number C of logits.
    num_inputs
        Number F + 1 of inputs, the constant 1 of the bias among them.
    """

    #: Name in files.
    structure: str

    def __init__(self, num_logits: int, num_inputs: int) -> None:
        self.num_logits, self.num_inputs = num_logits, num_inputs

    def add(self, inputs: Tensor, output_hessian: Tensor, voxel_weights: Tensor) -> None:
        """Add voxels.

        Parameters
        ----------
        inputs
            φ̃, (N, F + 1).
        output_hessian
            Λ, (N, C, C); for regions (N, C), its diagonal.
        voxel_weights
            How often each voxel counts, w, (N).
        """
        pieces = (tensor.split(_VOXELS_AT_ONCE) for tensor in (inputs, output_hessian, voxel_weights))
        for some_inputs, hessian, weights in zip(*pieces, strict=True):
            self._add(some_inputs, hessian * weights.view(-1, *[1] * (hessian.ndim - 1)))

    @abstractmethod
    def _add(self, inputs: Tensor, hessian: Tensor) -> None:
        """Add a few voxels, weighted."""

    @property
    @abstractmethod
    def trace(self) -> float:
        """tr G."""

    @property
    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The sums by name, float64, on the CPU."""

    @abstractmethod
    def spectrum(self) -> Spectrum:
        """Eigenvalues and eigenvectors of G."""

    def state(self) -> dict[str, Any]:
        """All that it consists of, as plain data."""
        return {"structure": self.structure, **self.tensors}

    @classmethod
    def of_state(cls, state: dict[str, Any], num_logits: int, num_inputs: int) -> LastLayerCurvature:
        """The curvature of a ``state``; ``ValueError`` if it is none of this size."""
        kinds = {kind.structure: kind for kind in (FullCurvature, KroneckerCurvature)}
        if not (isinstance(state, dict) and state.get("structure") in kinds):
            raise ValueError(f"structure must be one of {', '.join(kinds)}")
        curvature = kinds[state["structure"]](num_logits, num_inputs)
        for name, total in curvature.tensors.items():
            found = state.get(name)
            if not (isinstance(found, Tensor) and found.shape == total.shape and found.dtype == total.dtype):
                raise ValueError(f"{name} must be a tensor of shape {tuple(total.shape)} in {total.dtype}")
            if not bool(torch.isfinite(found).all()):
                raise ValueError(f"{name} has values that are not finite")
            total.copy_(found)
        return curvature


class FullCurvature(LastLayerCurvature):
    """The whole matrix."""

    structure = "full"

    def __init__(self, num_logits: int, num_inputs: int) -> None:
        super().__init__(num_logits, num_inputs)
        self._blocks = torch.zeros(num_logits, num_inputs, num_logits, num_inputs, dtype=torch.float64)

    def _add(self, inputs: Tensor, hessian: Tensor) -> None:
        # φ̃ᵀ (Λ_cd φ̃) for all d at once: one product of matrices per row of blocks.
        diagonal = hessian.ndim == 2
        for row in range(self.num_logits):
            columns = slice(row, row + 1) if diagonal else slice(row, None)
            scales = hessian[:, columns] if diagonal else hessian[:, row, columns]
            scaled = (scales[:, :, None] * inputs[:, None]).flatten(1)
            products = (inputs.T @ scaled).to("cpu", torch.float64)
            blocks = products.unflatten(1, (-1, self.num_inputs))
            self._blocks[row, :, columns] += blocks
            if not diagonal:
                self._blocks[row + 1 :, :, row] += blocks[:, 1:].permute(1, 2, 0)

    @property
    def matrix(self) -> Tensor:
        """G, (C (F + 1), C (F + 1))."""
        size = self.num_logits * self.num_inputs
        return self._blocks.reshape(size, size)

    @property
    def trace(self) -> float:
        return float(self.matrix.diagonal().sum())

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"matrix": self.matrix}

    def spectrum(self) -> FullSpectrum:
        return FullSpectrum(self.matrix, self.num_logits)


class KroneckerCurvature(LastLayerCurvature):
    """Two factors, C x C and (F + 1) x (F + 1)."""

    structure = "kronecker"

    def __init__(self, num_logits: int, num_inputs: int) -> None:
        super().__init__(num_logits, num_inputs)
        self._outputs = torch.zeros(num_logits, num_logits, dtype=torch.float64)
        self._inputs = torch.zeros(num_inputs, num_inputs, dtype=torch.float64)

    def _add(self, inputs: Tensor, hessian: Tensor) -> None:
        if hessian.ndim == 2:
            self._outputs += hessian.sum(0).to("cpu", torch.float64).diag()
            traces = hessian.sum(1)
        else:
            self._outputs += hessian.sum(0).to("cpu", torch.float64)
            traces = hessian.diagonal(dim1=1, dim2=2).sum(1)
        self._inputs += (inputs.T @ (traces[:, None] * inputs)).to("cpu", torch.float64)

    @property
    def trace(self) -> float:
        return float(self._inputs.diagonal().sum())

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"outputs": self._outputs, "inputs": self._inputs}

    def spectrum(self) -> KroneckerSpectrum:
        total = float(self._outputs.diagonal().sum())
        return KroneckerSpectrum(self._outputs / total if total > 0 else self._outputs, self._inputs)


def curvature_for(num_logits: int, num_inputs: int) -> LastLayerCurvature:
    """Nothing summed yet: the whole matrix up to ``MAX_FULL_WEIGHTS`` weights, else factors."""
    small = num_logits * num_inputs <= MAX_FULL_WEIGHTS
    return (FullCurvature if small else KroneckerCurvature)(num_logits, num_inputs)
