"""SingleBasis and MoB (voxel scope): K samples and their gradients against Eq. 14 taken literally.

    η_p = μ_p + √d_p ∘ z1 + B_p (a_p ∘ z2),   z1 in R^C and z2 in R^R at every voxel of partition p

Eq. 14 of *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation* (MoB).
Same parameters, float32, C = 2, R = 16. The literal form draws all K samples at once and multiplies by the bases of all
partitions in one batched product.
"""

from __future__ import annotations

import torch
from measuring import Row, peak_tensor_bytes, time_ratios
from torch import Tensor
from workload import workload_for

from nnunet_stochastic.distributions import BasisGaussian

__all__ = ["measure"]

BATCH, CLASSES, RANK, SAMPLES = 2, 2, 16, 5


def measure(device: torch.device, repeats: int) -> list[Row]:
    return [row for name, grid in (("SingleBasis", 1), ("MoB", 4)) for row in _measure(name, grid, device, repeats)]


def _measure(name: str, grid: int, device: torch.device, repeats: int) -> list[Row]:
    patch = workload_for(device).patch_size
    torch.manual_seed(0)
    parameters = (
        torch.randn(BATCH, CLASSES, *patch, device=device),
        torch.rand(BATCH, CLASSES, *patch, device=device) + 0.05,
        torch.randn(BATCH, RANK, *patch, device=device),
        torch.randn(BATCH, grid, grid, grid, CLASSES, RANK, device=device) / RANK**0.5,
    )
    for parameter in parameters:
        parameter.requires_grad_()
    cotangent = torch.randn(SAMPLES, BATCH, CLASSES, *patch, device=device)

    def ours() -> tuple[Tensor, ...]:
        return torch.autograd.grad(BasisGaussian(*parameters).rsample(SAMPLES), parameters, cotangent)

    def theirs() -> tuple[Tensor, ...]:
        return torch.autograd.grad(_literal_samples(*parameters), parameters, cotangent)

    times = time_ratios(ours, theirs, repeats=repeats, device=device)
    memory = peak_tensor_bytes(ours, device) / peak_tensor_bytes(theirs, device)
    work, against = f"{name} sampling", "literal Eq. 14"
    return [Row(work, against, "time", times, 1 / 2.5), Row(work, against, "memory", (memory,), 1 / 4)]


def _literal_samples(mean: Tensor, diag_var: Tensor, basis_scale: Tensor, partition_bases: Tensor) -> Tensor:
    """Eq. 14 for partitions of equal size. Shapes as ``BasisGaussian`` takes them; returns (K, B, C, *S)."""
    first_noise = torch.randn(SAMPLES, *mean.shape, device=mean.device)
    second_noise = torch.randn(SAMPLES, *basis_scale.shape, device=mean.device)
    scaled = basis_scale * second_noise
    sizes = zip(mean.shape[2:], partition_bases.shape[1:4], strict=True)
    split = [number for length, blocks in sizes for number in (blocks, length // blocks)]
    blocked = scaled.reshape(*scaled.shape[:3], *split)
    projected = torch.einsum("bxyzcr,kbrxiyjzl->kbcxiyjzl", partition_bases, blocked)
    return mean + diag_var.sqrt() * first_noise + projected.reshape(first_noise.shape)
