"""Independent Gaussian noise on every logit: p(η) = N(μ, diag d).

The first baseline of *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation*
(MoB, Fig. 2a): Eq. 3 without its low-rank term. ``diag_var`` holds variances d, not standard deviations.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_stochastic.distributions.base import GaussianLogits, SomeLogits, check_field, full_precision

__all__ = ["DiagonalGaussian"]


class DiagonalGaussian(GaussianLogits):
    """N(μ, diag d).

    Parameters
    ----------
    mean_logits
        Mean μ, shape (B, C, *S).
    diag_var
        Variances d, shape (B, C, *S), positive.
    """

    def __init__(self, mean_logits: Tensor, diag_var: Tensor) -> None:
        super().__init__(mean_logits)
        check_field("diag_var", diag_var, mean_logits)
        self.diag_var = diag_var
        self._std = full_precision(diag_var).sqrt()

    @classmethod
    def of_means(cls, means: Tensor, diag_var: Tensor) -> list[GaussianLogits]:
        """One law around each of K means (K, B, C, *S), all of the same variances."""
        first = cls(means[0], diag_var)
        return [first.with_mean(mean) for mean in means.unbind()]

    @property
    def noise_channels(self) -> int:
        return self.mean_logits.shape[1]

    def transform(self, noise: Tensor, shared_noise: Tensor) -> Tensor:
        return torch.addcmul(full_precision(self.mean_logits), self._std, noise)

    @property
    def has_diagonal_noise(self) -> bool:
        return True

    def noise_factors(self) -> tuple[Tensor, Tensor]:
        std = full_precision(self.diag_var).sqrt()
        return std, std.new_zeros((*std.shape[:2], 0, *std.shape[2:]))

    def voxel_covariance(self) -> Tensor:
        return torch.diag_embed(self.voxel_variance().movedim(1, -1)).movedim((-2, -1), (1, 2))

    def voxel_variance(self) -> Tensor:
        return full_precision(self.diag_var)

    def difference_variance(self, classes: Tensor) -> Tensor:
        own, k = self.voxel_variance(), classes[:, None]
        return (own + own.gather(1, k)).scatter_(1, k, 0)

    def at(self, voxels: Tensor, classes: Tensor) -> SomeLogits:
        mean, std = (field[0].flatten(1)[classes, voxels] for field in (self.mean_logits, self._std))
        return SomeLogits(full_precision(mean), std, std.new_zeros(0, len(std)))

    def difference_covariance(self) -> list[list[Tensor]]:
        own = self.voxel_variance()
        return [
            [own[:, 0] + own[:, i] if i == j else own[:, 0] for j in range(1, i + 1)] for i in range(1, own.shape[1])
        ]
