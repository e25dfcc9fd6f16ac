"""LowRank: K samples and their gradients against torch.distributions.LowRankMultivariateNormal.

Same mean, variances and factor, float32. torch's class gets each in the layout that it takes without a copy.
"""

from __future__ import annotations

import torch
from measuring import Row, peak_tensor_bytes, time_ratios
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal
from workload import workload_for

from nnunet_stochastic.distributions import LowRankGaussian

__all__ = ["measure"]

BATCH, CLASSES, RANK, SAMPLES = 2, 2, 16, 5


def measure(device: torch.device, repeats: int) -> list[Row]:
    patch = workload_for(device).patch_size
    torch.manual_seed(0)
    mean = torch.randn(BATCH, CLASSES, *patch, device=device, requires_grad=True)
    diag_var = torch.rand(BATCH, CLASSES, *patch, device=device).add_(0.05).requires_grad_()
    cov_factor = torch.randn(BATCH, CLASSES, RANK, *patch, device=device).mul_(0.1).requires_grad_()
    cotangent = torch.randn(SAMPLES, BATCH, CLASSES, *patch, device=device)

    flat_mean, flat_var = (field.detach().flatten(1).requires_grad_() for field in (mean, diag_var))
    rows = cov_factor.detach().movedim(2, 1).flatten(2).contiguous().requires_grad_()  # (B, R, C·N)

    def ours() -> tuple[Tensor, ...]:
        samples = LowRankGaussian(mean, diag_var, cov_factor).rsample(SAMPLES)
        return torch.autograd.grad(samples, (mean, diag_var, cov_factor), cotangent)

    def theirs() -> tuple[Tensor, ...]:
        samples = LowRankMultivariateNormal(flat_mean, rows.mT, flat_var).rsample((SAMPLES,))
        return torch.autograd.grad(samples, (flat_mean, flat_var, rows), cotangent.flatten(2))

    times = time_ratios(ours, theirs, repeats=repeats, device=device)
    memory = peak_tensor_bytes(ours, device) / peak_tensor_bytes(theirs, device)
    work, against = "LowRank sampling", "torch's class"
    return [Row(work, against, "time", times, 1 / 3), Row(work, against, "memory", (memory,), 1.0)]
