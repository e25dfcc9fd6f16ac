"""Small distributions of every kind, beside their dense covariance written out from the papers' equations.

MoB: *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from nnunet_stochastic.distributions import BasisGaussian, DiagonalGaussian, LogitDistribution, LowRankGaussian

# 5 voxels in 2 partitions is uneven, 2 in 2 is even, and 1 has a single partition.
SPATIAL = (5, 2, 1)
GRID = (2, 2, 1)


@dataclass(frozen=True)
class Case:
    """A constructor, its tensors by name, and the dense covariance over (C, *S) flattened, for one image."""

    build: Callable[..., LogitDistribution]
    tensors: dict[str, Tensor]
    dense_covariance: Tensor

    def distribution(self, batch: int = 1) -> LogitDistribution:
        """The distribution of ``batch`` copies of the image."""
        return self.build(**{name: tensor.expand(batch, *tensor.shape[1:]) for name, tensor in self.tensors.items()})

    def samples(self, count: int, seed: int = 0, shared_seed: int | None = None) -> Tensor:
        """Independent samples of the image, shape (count, C·N): a few samples of many copies of it."""
        copies = self.distribution(batch=count // 10)
        own = torch.Generator().manual_seed(seed)
        shared = own if shared_seed is None else torch.Generator().manual_seed(shared_seed)
        samples = copies.transform(copies.draw_noise(10, generator=own), copies.draw_shared_noise(10, generator=shared))
        return samples.flatten(0, 1).flatten(1)


def voxel_positions() -> list[tuple[int, ...]]:
    return [tuple(position) for position in torch.cartesian_prod(*[torch.arange(n) for n in SPATIAL]).tolist()]


def basis_of(position: tuple[int, ...], partition_bases: Tensor) -> Tensor:
    """B̂ of the partition that holds a voxel: block floor(i G / L) along every axis."""
    return partition_bases[tuple(i * g // n for i, n, g in zip(position, SPATIAL, GRID, strict=True))]


def dense_of_basis(tensors: dict[str, Tensor], *, shared: bool) -> Tensor:
    """Eq. 4-7 of MoB voxel by voxel; with ``shared``, B̂_n diag(a_n) diag(a_m) B̂_mᵀ between voxels too."""
    positions = voxel_positions()
    classes = tensors["mean_logits"].shape[1]
    covariance = torch.zeros(classes, len(positions), classes, len(positions), dtype=torch.float64)
    for n, here in enumerate(positions):
        for m, there in enumerate(positions):
            if n == m or shared:
                left = basis_of(here, tensors["partition_bases"][0]) * tensors["basis_scale"][0][(slice(None), *here)]
                right = (
                    basis_of(there, tensors["partition_bases"][0]) * tensors["basis_scale"][0][(slice(None), *there)]
                )
                covariance[:, n, :, m] = left @ right.T
        for c in range(classes):
            covariance[c, n, c, n] += tensors["diag_var"][0][(c, *here)]
    return covariance.reshape(classes * len(positions), -1)


def make_case(name: str) -> Case:
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    classes, rank = {"voxel, factor": (2, 4), "voxel, basis": (4, 2)}.get(name, (3, 4))
    tensors = {
        "mean_logits": normal(1, classes, *SPATIAL),
        "diag_var": 0.2 + torch.rand(1, classes, *SPATIAL, generator=generator, dtype=torch.float64),
    }
    if name == "diagonal":
        return Case(DiagonalGaussian, tensors, torch.diag(tensors["diag_var"].flatten()))
    if name == "low rank":
        tensors["cov_factor"] = normal(1, classes, rank, *SPATIAL)
        factor = tensors["cov_factor"][0].movedim(1, -1).reshape(-1, rank)
        return Case(LowRankGaussian, tensors, factor @ factor.T + torch.diag(tensors["diag_var"].flatten()))
    tensors["basis_scale"] = normal(1, rank, *SPATIAL)
    tensors["partition_bases"] = normal(1, *GRID, classes, rank)
    shared = name == "volume"

    def build(**arguments: Tensor) -> BasisGaussian:
        return BasisGaussian(**arguments, noise_scope="volume" if shared else "voxel")

    return Case(build, tensors, dense_of_basis(tensors, shared=shared))


@pytest.fixture(params=["diagonal", "low rank", "voxel, factor", "voxel, basis", "volume"])
def case(request: pytest.FixtureRequest) -> Case:
    """Every covariance model; SingleBasis and MoB by both ways of drawing the voxel scope, and in the volume scope."""
    return make_case(request.param)
