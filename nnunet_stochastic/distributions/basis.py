"""Noise projected on learned bases: SingleBasis (Eq. 4-5) and Mixture-of-Bases (Eq. 6-7).

Equations are those of *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D
Segmentation* (MoB). At voxel n of partition p, with B̂_p in R^(C x R) the basis of the partition, a_n in R^R the
predicted scales and d_n in R^C the predicted variances,

    Σ_n = B̂_p diag(a_n)² B̂_pᵀ + diag(d_n).                                                            (Eq. 4, 7)

SingleBasis is the case of one basis for all partitions. ``noise_scope`` says what happens between voxels:

``"voxel"``
    z2 is drawn anew at every voxel (Eq. 14 as printed): logits of different voxels are independent. B̂(a ∘ z2) is then
    Gaussian in C dimensions, so where C is small the sample is drawn from C numbers through the Cholesky factor of Σ_n
    instead of from C + R: the same law at a fraction of the random numbers.
``"volume"``
    One z2 in R^R for the whole image: η_n = μ_n + √d_n ∘ z1 + B̂_n (a_n ∘ z2). The covariance at a voxel is the same,
    and Cov(η_n, η_m) = B̂_n diag(a_n) diag(a_m) B̂_mᵀ between voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from nnunet_stochastic.distributions.base import GaussianLogits, SomeLogits, check_field, full_precision
from nnunet_stochastic.distributions.cholesky import cholesky_of_field
from nnunet_stochastic.distributions.diagonal import DiagonalGaussian
from nnunet_stochastic.distributions.partitions import apply_per_partition, partition_of_voxels
from nnunet_stochastic.io.names import shown

__all__ = ["BasisGaussian", "BasisSelection", "NoiseScope", "select_bases"]

NoiseScope = Literal["voxel", "volume"]
BasisSelection = Literal["straight_through", "soft", "argmax"]


def select_bases(bases: Tensor, basis_weights: Tensor, selection: BasisSelection) -> Tensor:
    """B̂ of every partition.

    Parameters
    ----------
    bases
        Learned bases B_1 … B_M, shape (M, C, R).
    basis_weights
        Probabilities W of the bases, shape (B, M, *G).
    selection
        ``"argmax"`` takes the most probable basis (MoB), through which no gradient reaches W; ``"straight_through"``
        takes the same and lets the gradient of the mixture pass; ``"soft"`` is the mixture Σ_i W_i B_i.

    Returns
    -------
    Tensor
        shape (B, *G, C, R).
    """
    if selection not in get_args(BasisSelection):
        raise ValueError(f"selection must be one of {get_args(BasisSelection)}, got {shown(selection)}")
    if basis_weights.shape[1] != bases.shape[0]:
        raise ValueError(f"basis_weights has {basis_weights.shape[1]} bases along axis 1, bases has {bases.shape[0]}")
    weights = basis_weights.movedim(1, -1)
    if selection != "soft":
        chosen = torch.nn.functional.one_hot(weights.argmax(-1), weights.shape[-1]).to(weights.dtype)
        weights = chosen if selection == "argmax" else chosen + weights - weights.detach()
    return torch.tensordot(weights, bases.to(weights.dtype), dims=1)


class BasisGaussian(GaussianLogits):
    """N(μ, Σ) with Σ_n = B̂ diag(a_n)² B̂ᵀ + diag(d_n) at every voxel.

    Parameters
    ----------
    mean_logits
        Mean μ, shape (B, C, *S).
    diag_var
        Variances d, shape (B, C, *S), positive.
    basis_scale
        Scales a, shape (B, R, *S).
    partition_bases
        Basis B̂ of every partition, shape (B, *G, C, R); every axis of G is 1 for SingleBasis.
    noise_scope
        Whether z2 is one draw per voxel or per volume, see the module.
    """

    def __init__(
        self,
        mean_logits: Tensor,
        diag_var: Tensor,
        basis_scale: Tensor,
        partition_bases: Tensor,
        *,
        noise_scope: NoiseScope = "voxel",
    ) -> None:
        super().__init__(mean_logits)
        check_field("diag_var", diag_var, mean_logits)
        check_field("basis_scale", basis_scale, mean_logits, channels=partition_bases.shape[-1])
        batch, classes = mean_logits.shape[:2]
        if (
            partition_bases.ndim != mean_logits.ndim + 1
            or partition_bases.shape[0] != batch
            or partition_bases.shape[-2] != classes
        ):
            raise ValueError(
                f"partition_bases must be (B, *G, C, R) with B = {batch}, C = {classes} and {mean_logits.ndim - 2} "
                f"axes of partitions, got {tuple(partition_bases.shape)}"
            )
        if noise_scope not in get_args(NoiseScope):
            raise ValueError(f"noise_scope must be one of {get_args(NoiseScope)}, got {shown(noise_scope)}")
        self.diag_var = diag_var
        self.basis_scale = basis_scale
        self.partition_bases = partition_bases
        self.noise_scope = noise_scope
        if torch.is_grad_enabled() and self._is_cheaper_by_factor:
            # Computed here and not at the first sample: a sample may be drawn under activation checkpointing, where
            # what the first one left behind would be missing from the graph of the others.
            _ = self._cholesky

    @property
    def noise_channels(self) -> int:
        classes, rank = self.partition_bases.shape[-2:]
        return classes + rank if self.projects_own_noise else classes

    @property
    def shared_noise_channels(self) -> int:
        return self.basis_scale.shape[1] if self.noise_scope == "volume" else 0

    @property
    def projects_own_noise(self) -> bool:
        """Whether each voxel draws C + R numbers: η = μ + √d ∘ z1 + B̂ (a ∘ z2) with z1 and z2 of its own."""
        return self.noise_scope == "voxel" and not self._is_cheaper_by_factor

    def transform(self, noise: Tensor, shared_noise: Tensor) -> Tensor:
        if self._is_cheaper_by_factor:
            return self._transform_by_factor(noise)
        std = full_precision(self.diag_var).sqrt()
        if self.noise_scope == "volume":
            return torch.addcmul(self._means_given(shared_noise), std, noise)
        mean, classes = full_precision(self.mean_logits), self.mean_logits.shape[1]
        return torch.stack(
            [
                torch.addcmul(mean, std, numbers[:, :classes])
                + apply_per_partition(self.partition_bases, self.basis_scale * numbers[:, classes:])
                for numbers in noise
            ]
        )

    def given_shared_noise(self, shared_noise: Tensor) -> Sequence[GaussianLogits] | None:
        if self.noise_scope != "volume":
            return super().given_shared_noise(shared_noise)
        return DiagonalGaussian.of_means(self._means_given(shared_noise), self.diag_var)

    def _means_given(self, shared_noise: Tensor) -> Tensor:
        """μ + B̂ (a ∘ z2), shape (K, B, C, *S), in volume scope."""
        grid_axes = (1,) * (self.mean_logits.ndim - 2)
        of_samples = shared_noise.transpose(0, 1).unflatten(0, (-1, *grid_axes))[..., None, :]
        scaled_bases = (of_samples * self.partition_bases[..., None, :, :]).flatten(-3, -2)
        projected = apply_per_partition(scaled_bases, self.basis_scale).unflatten(1, (len(shared_noise), -1))
        return full_precision(self.mean_logits) + projected.transpose(0, 1)

    @property
    def has_diagonal_noise(self) -> bool:
        return self.noise_scope == "volume"

    def noise_factors(self) -> tuple[Tensor, Tensor]:
        if not self.has_diagonal_noise:
            return super().noise_factors()
        with torch.autocast(self.mean_logits.device.type, enabled=False):
            bases, scale = full_precision(self.partition_bases), full_precision(self.basis_scale)
            columns = [apply_per_partition(bases[..., r, None], scale[:, r, None]) for r in range(scale.shape[1])]
        return full_precision(self.diag_var).sqrt(), torch.stack(columns, dim=2)

    def voxel_covariance(self) -> Tensor:
        classes = self.mean_logits.shape[1]
        entries = self._projected_covariance(full_precision(self.partition_bases))
        rows = [[entries[max(i, j)][min(i, j)] for j in range(classes)] for i in range(classes)]
        covariance = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
        covariance.diagonal(dim1=1, dim2=2).add_(full_precision(self.diag_var).movedim(1, -1))
        return covariance

    def difference_variance(self, classes: Tensor) -> Tensor:
        k = classes[:, None]
        with torch.autocast(self.mean_logits.device.type, enabled=False):
            bases, scale = full_precision(self.partition_bases), full_precision(self.basis_scale)
            squared = scale.square()
            of_k = [
                rows[self._partition, of_image].movedim(-1, 0)
                for rows, of_image in zip(bases.flatten(1, -3), classes, strict=True)
            ]
            variance = apply_per_partition(bases.square(), squared)
            own = full_precision(self.diag_var)
            variance += variance.gather(1, k) + own + own.gather(1, k)
            variance -= apply_per_partition(bases, squared.mul_(torch.stack(of_k))).mul_(2)
        return variance.scatter_(1, k, 0)

    def at(self, voxels: Tensor, classes: Tensor) -> SomeLogits:
        mean = full_precision(self.mean_logits)[0].flatten(1)[classes, voxels]
        if self._is_cheaper_by_factor:
            factor = mean.new_zeros(len(self._cholesky), len(mean))
            for i, row in enumerate(self._cholesky):
                places = (classes == i).nonzero().squeeze(1)
                for j, entry in enumerate(row):
                    factor[j, places] = entry[0].flatten()[voxels[places]]
            return SomeLogits(mean, None, factor, first_channel=0)
        bases, num_classes = full_precision(self.partition_bases[0].flatten(0, -3)), self.mean_logits.shape[1]
        factor = bases[self._partition.flatten()[voxels], classes].T * self.basis_scale[0].flatten(1)[:, voxels]
        std = full_precision(self.diag_var[0].flatten(1)[classes, voxels]).sqrt_()
        return SomeLogits(mean, std, factor, first_channel=num_classes if self.projects_own_noise else None)

    def difference_covariance(self) -> list[list[Tensor]]:
        bases, own = full_precision(self.partition_bases), full_precision(self.diag_var)
        triangle = self._projected_covariance(bases[..., 1:, :] - bases[..., :1, :])
        return [
            [entry + own[:, 0] + own[:, i + 1] if i == j else entry + own[:, 0] for j, entry in enumerate(row)]
            for i, row in enumerate(triangle)
        ]

    def voxel_variance(self) -> Tensor:
        with torch.autocast(self.mean_logits.device.type, enabled=False):
            bases, scale = full_precision(self.partition_bases), full_precision(self.basis_scale)
            return apply_per_partition(bases.square(), scale.square()) + full_precision(self.diag_var)

    @cached_property
    def _partition(self) -> Tensor:
        """Number of the partition of every voxel, (*S)."""
        return partition_of_voxels(self.mean_logits.shape[2:], self.partition_bases.shape[1:-2], self.device)

    @property
    def _is_cheaper_by_factor(self) -> bool:
        """Whether a sample is cheaper through the factor: its C(C+1)/2 products against C + R random numbers."""
        classes, rank = self.partition_bases.shape[-2:]
        return self.noise_scope == "voxel" and classes * (classes + 1) // 2 <= classes + rank

    @cached_property
    def _cholesky(self) -> list[list[Tensor]]:
        """Factor of Σ_n, lower triangle, entries (B, *S)."""
        triangle = self._projected_covariance(full_precision(self.partition_bases))
        for i, row in enumerate(triangle):
            row[i] = row[i] + full_precision(self.diag_var[:, i])
        return cholesky_of_field(triangle)

    def _projected_covariance(self, rows: Tensor) -> list[list[Tensor]]:
        """Lower triangle of Q diag(a_n²) Qᵀ, entry [i][j] of shape (B, *S), float32 or wider.

        Entry (i, j) is Σ_r a_r² Q_ir Q_jr: one matrix per partition with a row for each entry, applied to a².

        Parameters
        ----------
        rows
            Matrix Q of every partition, (B, *G, D, R), float32 or wider.
        """
        with torch.autocast(self.mean_logits.device.type, enabled=False):
            count = rows.shape[-2]
            pairs = [(i, j) for i in range(count) for j in range(i + 1)]
            products = torch.stack([rows[..., i, :] * rows[..., j, :] for i, j in pairs], dim=-2)
            entries = apply_per_partition(products, _Square.apply(full_precision(self.basis_scale)))
            triangle: list[list[Tensor]] = [[] for _ in range(count)]
            for channel, (i, _) in enumerate(pairs):
                triangle[i].append(entries[:, channel])
            return triangle

    def _transform_by_factor(self, noise: Tensor) -> Tensor:
        channels = []
        for i, row in enumerate(self._cholesky):
            value = full_precision(self.mean_logits[:, i])
            for j, entry in enumerate(row):
                value = torch.addcmul(value, entry, noise[:, :, j])
            channels.append(value)
        return torch.stack(channels, dim=2)


class _Square(torch.autograd.Function):
    """x², whose gradient 2 g x is made in one temporary. torch's own makes three, each with the R channels of a."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return (gradient * x).mul_(2)
