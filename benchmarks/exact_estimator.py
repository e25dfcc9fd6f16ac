"""The exact estimator against Monte Carlo with K = 30: what it costs, and how far both are from K = ∞.

One tile of two classes, with all maps: E[p], E[p²] and E[H(p)] by quadrature against 30 samples of the same model. The
distance is the root mean square over voxels of the error of E[p]; the limit is the trapezoid rule in float64 with 1000
nodes.
"""

from __future__ import annotations

import torch
from measuring import Row, time_ratios
from workload import workload_for

from nnunet_stochastic.distributions import (
    BasisGaussian,
    LogitDistribution,
    LowRankGaussian,
)
from nnunet_stochastic.moments import OutcomeSpace, SampleSums

__all__ = ["measure"]

CLASSES, RANK, SAMPLES, SAMPLES_AT_ONCE = 2, 16, 30, 8
LIMIT_NODES = 1000


def measure(device: torch.device, repeats: int) -> list[Row]:
    patch = workload_for(device).patch_size
    torch.manual_seed(0)
    mean = 3 * torch.randn(1, CLASSES, *patch, device=device)
    diag_var = torch.rand(1, CLASSES, *patch, device=device) + 0.05
    scale = torch.rand(1, RANK, *patch, device=device)
    models = {
        "LowRank": LowRankGaussian(mean, diag_var, 0.3 * torch.randn(1, CLASSES, RANK, *patch, device=device)),
        "MoB": BasisGaussian(mean, diag_var, scale, torch.randn(1, 4, 4, 4, CLASSES, RANK, device=device) / RANK**0.5),
    }
    return [row for name, model in models.items() for row in _measure(name, model, device, repeats)]


@torch.inference_mode()
def _measure(name: str, model: LogitDistribution, device: torch.device, repeats: int) -> list[Row]:
    def ours() -> SampleSums:
        sums = SampleSums(OutcomeSpace(CLASSES), square=True, entropy=True)
        sums.add_expectation(model)
        return sums

    def theirs() -> SampleSums:
        sums = SampleSums(OutcomeSpace(CLASSES), square=True, entropy=True)
        for start in range(0, SAMPLES, SAMPLES_AT_ONCE):
            for logits in model.rsample(min(SAMPLES_AT_ONCE, SAMPLES - start)):
                sums.add(logits[0])
        return sums

    difference = (model.mean_logits[:, 1] - model.mean_logits[:, 0]).double()
    covariance = model.voxel_covariance().double()
    variance = covariance[:, 0, 0] + covariance[:, 1, 1] - 2 * covariance[:, 0, 1]
    limit = _mean_probability(difference, variance.sqrt())

    def distance(sums: SampleSums) -> float:
        return float((sums.probability / sums.count - limit).square().mean().sqrt())

    times = time_ratios(ours, theirs, repeats=repeats, device=device)
    errors = tuple(distance(ours()) / distance(theirs()) for _ in range(repeats))
    work, against = f"{name}, exact estimator", f"K = {SAMPLES}"
    return [Row(work, against, "time", times, 1.0), Row(work, against, "distance", errors, 1.0)]


def _mean_probability(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """E[sigmoid(x)], x ~ N(mean, std²), one node at a time."""
    nodes = torch.linspace(-8, 8, LIMIT_NODES, dtype=torch.float64)
    weights = torch.softmax(-nodes.square() / 2, 0)
    total = torch.zeros_like(mean)
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        total += weight * torch.sigmoid(mean + node * std)
    return total
