"""Heads of SingleBasis (Eq. 4-5) and Mixture-of-Bases (Eq. 6-7).

Equations are those of *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D
Segmentation* (MoB).

Image -> a (R channels) and, with more than one basis, W (M probabilities per partition); B_1 … B_M are learned and do
not depend on the image. W is pooled features, a linear map and a softmax: MoB's 1x1 convolution in front of the pooling
commutes with it and merges with the linear map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_stochastic.distributions import (
    BasisGaussian,
    BasisSelection,
    NoiseScope,
    basis_entropy_loss,
    full_precision,
    orthogonality_loss,
    partition_grid,
    select_bases,
)
from nnunet_stochastic.networks.heads.base import (
    INITIAL_LOG_VARIANCE,
    Convolution,
    GaussianHeads,
    constant_convolution,
    weights_of,
)

__all__ = ["BasisHeads"]


class BasisHeads(GaussianHeads):
    """μ, d and a: C + C + R channels, whatever the number of bases.

    Parameters
    ----------
    segmentation_layer
        The layer that the heads replace.
    rank
        Columns R of a basis, at least 1.
    num_bases
        Number M of bases, at least 1. One is SingleBasis, which has neither partitions nor W.
    partitions
        Partitions per axis G, at least 1; fewer along axes with fewer voxels.
    noise_scope
        ``"voxel"``: z2 is drawn anew at each voxel; ``"volume"``: one z2 for the whole image.
    basis_selection
        How a partition gets its basis: ``"straight_through"``, ``"soft"`` or ``"argmax"``, see
        ``nnunet_stochastic.distributions.basis``.
    temperature
        Divisor of the logits of W in the softmax where ``basis_selection`` is ``"soft"``.
    initial_scale
        Value of a with which training starts. With a² in the covariance the gradient at 0 would be zero.
    log_variance_bias
        Log-variance with which training starts.
    """

    def __init__(
        self,
        segmentation_layer: Convolution,
        *,
        rank: int = 16,
        num_bases: int = 3,
        partitions: int = 4,
        noise_scope: NoiseScope = "voxel",
        basis_selection: BasisSelection = "straight_through",
        temperature: float = 0.3,
        initial_scale: float = 0.7,
        log_variance_bias: float = INITIAL_LOG_VARIANCE,
    ) -> None:
        if rank < 1 or num_bases < 1 or partitions < 1:
            raise ValueError(
                f"rank, num_bases and partitions must be at least 1, got {rank}, {num_bases}, {partitions}"
            )
        if initial_scale == 0:
            raise ValueError("initial_scale must not be 0: the gradient of the scales is zero there")
        super().__init__(segmentation_layer, log_variance_bias=log_variance_bias)
        self.num_bases = num_bases
        self.partitions = partitions
        self.noise_scope = noise_scope
        self.basis_selection = basis_selection
        self.temperature = temperature if basis_selection == "soft" else 1.0
        self.scale = constant_convolution(segmentation_layer, rank, initial_scale)
        self.bases = nn.Parameter(torch.randn(num_bases, segmentation_layer.out_channels, rank) / rank**0.5)
        self.basis_logits = nn.Linear(segmentation_layer.in_channels, num_bases) if num_bases > 1 else None

    def layers(self) -> dict[str, tuple[Tensor, Tensor]]:
        return super().layers() | {"basis_scale": weights_of(self.scale)}

    def distribution_parameters(self, features: Tensor) -> dict[str, Tensor]:
        return super().distribution_parameters(features) | {
            "bases": self.bases,
            "basis_log_weights": self._basis_log_weights(features),
        }

    def distribution(self, parameters: dict[str, Tensor]) -> BasisGaussian:
        return BasisGaussian(
            parameters["mean_logits"],
            parameters["diag_var"],
            parameters["basis_scale"],
            select_bases(parameters["bases"], parameters["basis_log_weights"].exp(), self.basis_selection),
            noise_scope=self.noise_scope,
        )

    def regularizers(self, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
        terms = super().regularizers(parameters)
        if self.num_bases == 1:
            return terms
        return terms | {
            "orthogonality": orthogonality_loss(parameters["bases"]),
            "basis_entropy": basis_entropy_loss(parameters["basis_log_weights"]),
        }

    def _basis_log_weights(self, features: Tensor) -> Tensor:
        """ln W, shape (B, M, *G), float32, finite also where W underflows; W sums to 1 over M."""
        dimensions = features.ndim - 2
        if self.basis_logits is None:
            return features.new_zeros(features.shape[0], 1, *(1,) * dimensions, dtype=torch.float32)
        grid = partition_grid(features.shape[2:], self.partitions)
        with torch.autocast(features.device.type, enabled=False):
            logits = self.basis_logits(_pooled(features, grid).movedim(1, -1))
            return torch.log_softmax(logits / self.temperature, dim=-1).movedim(-1, 1)


def _pooled(features: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Mean of the features (B, F, *S) over each partition, (B, F, *G), float32 or wider."""
    shape = features.shape[2:]
    if features.device.type == "cuda" and all(length % blocks == 0 for length, blocks in zip(shape, grid, strict=True)):
        return _mean_of_equal_blocks(features, grid)
    pool = functional.adaptive_avg_pool3d if len(shape) == 3 else functional.adaptive_avg_pool2d
    return full_precision(pool(features, grid))  # type: ignore[arg-type]  # torch wants the number of axes spelled out


def _mean_of_equal_blocks(features: Tensor, grid: tuple[int, ...]) -> Tensor:
    """The same where blocks are equal. On CUDA torch's pooling sums each block in one thread."""
    for axis, blocks in enumerate(grid):
        features = features.unflatten(2 + 2 * axis, (blocks, -1))
    within = tuple(3 + 2 * axis for axis in range(len(grid)))
    return features.mean(within, dtype=torch.promote_types(features.dtype, torch.float32))
