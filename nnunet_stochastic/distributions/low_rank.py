"""Diagonal plus low-rank covariance over all voxels and classes of a patch: p(η) = N(μ, diag d + P Pᵀ).

The covariance of Stochastic Segmentation Networks (Monteiro et al. 2020, https://arxiv.org/abs/2006.06015, Eq. 3-4),
and the second baseline (Eq. 3, Fig. 2b) of *Structured Covariance Modeling Using Learned Mixture-of-Bases for
Uncertainty in 3D Segmentation* (MoB). A sample is η = μ + √d ∘ z1 + P z2 with z1 in R^(C·N) and one z2 in R^R
for the whole patch: exact, linear in the number of voxels, and free of the Cholesky factorisation by which
``torch.distributions.LowRankMultivariateNormal`` prepares its densities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_stochastic.distributions.base import GaussianLogits, SomeLogits, check_field, full_precision
from nnunet_stochastic.distributions.diagonal import DiagonalGaussian

__all__ = ["LowRankGaussian"]


class LowRankGaussian(GaussianLogits):
    """N(μ, diag d + P Pᵀ).

    Parameters
    ----------
    mean_logits
        Mean μ, shape (B, C, *S).
    diag_var
        Variances d, shape (B, C, *S), positive.
    cov_factor
        Factor P, shape (B, C, R, *S).
    """

    def __init__(self, mean_logits: Tensor, diag_var: Tensor, cov_factor: Tensor) -> None:
        super().__init__(mean_logits)
        check_field("diag_var", diag_var, mean_logits)
        batch, classes, *spatial = mean_logits.shape
        if cov_factor.ndim != mean_logits.ndim + 1 or cov_factor.shape[:2] + cov_factor.shape[3:] != mean_logits.shape:
            raise ValueError(
                f"cov_factor must have shape ({batch}, {classes}, R, {', '.join(map(str, spatial))}) to match "
                f"mean_logits, got {tuple(cov_factor.shape)}"
            )
        self.diag_var = diag_var
        self.cov_factor = cov_factor
        self._std = full_precision(diag_var).sqrt()

    @property
    def noise_channels(self) -> int:
        return self.mean_logits.shape[1]

    @property
    def shared_noise_channels(self) -> int:
        return self.cov_factor.shape[2]

    def transform(self, noise: Tensor, shared_noise: Tensor) -> Tensor:
        return torch.addcmul(self._means_given(shared_noise), self._std, noise)

    def given_shared_noise(self, shared_noise: Tensor) -> list[GaussianLogits]:
        return DiagonalGaussian.of_means(self._means_given(shared_noise), self.diag_var)

    def _means_given(self, shared_noise: Tensor) -> Tensor:
        """μ + P z2, shape (K, B, C, *S)."""
        of_images = shared_noise.to(self.cov_factor.dtype).transpose(0, 1)
        # Class by class: one product for all of them would copy P.
        low_rank = torch.stack([of_images @ factor for factor in self.cov_factor.flatten(3).unbind(1)], dim=2)
        return full_precision(self.mean_logits) + low_rank.transpose(0, 1).unflatten(3, self.shape[2:])

    @property
    def has_diagonal_noise(self) -> bool:
        return True

    def noise_factors(self) -> tuple[Tensor, Tensor]:
        return full_precision(self.diag_var).sqrt(), full_precision(self.cov_factor)

    def voxel_covariance(self) -> Tensor:
        factor = full_precision(self.cov_factor)
        # Row by row: one small matrix product per voxel, which einsum makes of it, takes ten times as long.
        rows = [(factor * factor[:, c, None]).sum(2) for c in range(factor.shape[1])]
        covariance = torch.stack(rows, dim=1)
        covariance.diagonal(dim1=1, dim2=2).add_(full_precision(self.diag_var).movedim(1, -1))
        return covariance

    def voxel_variance(self) -> Tensor:
        return torch.linalg.vector_norm(full_precision(self.cov_factor), dim=2).square() + full_precision(self.diag_var)

    def difference_variance(self, classes: Tensor) -> Tensor:
        own, k = full_precision(self.diag_var), classes[:, None]
        of_k = full_precision(torch.take_along_dim(self.cov_factor, k[:, None], dim=1)[:, 0])
        total = own + own.gather(1, k)
        for c in range(total.shape[1]):  # class by class: no temporary is larger than of_k
            total[:, c] += (full_precision(self.cov_factor[:, c]) - of_k).square_().sum(1)
        return total.scatter_(1, k, 0)

    def at(self, voxels: Tensor, classes: Tensor) -> SomeLogits:
        mean, std = (field[0].flatten(1)[classes, voxels] for field in (self.mean_logits, self._std))
        factor = self.cov_factor[0].flatten(2)[classes, :, voxels].T.contiguous()
        return SomeLogits(full_precision(mean), std, full_precision(factor))

    def difference_covariance(self) -> list[list[Tensor]]:
        factor, own = full_precision(self.cov_factor), full_precision(self.diag_var)
        differences = [factor[:, c] - factor[:, 0] for c in range(1, factor.shape[1])]
        triangle = [
            [(row * differences[j]).sum(1) + own[:, 0] for j in range(i + 1)] for i, row in enumerate(differences)
        ]
        for i, row in enumerate(triangle):
            row[i] += own[:, i + 1]
        return triangle
