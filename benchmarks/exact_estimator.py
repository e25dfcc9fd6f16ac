"""Maps of one law per voxel, exact and from K = 30 samples: what they cost, and how far both are from K = ∞.

One tile of two classes, with all maps: from the parameters that the network gives to E[p], E[p²] and E[H(p)], by
quadrature, from a stratified lattice of 30 samples, and as it is done without a law of the voxel, from 30 samples of
all logits. The distance is the root mean square over voxels of the error of E[p]; the limit is the trapezoid rule in
float64 with 1000 nodes. A law's moments are taken once per voxel, samples without it once per tile and view that see
it: 8 to 64 times.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from measuring import Row, time_ratios
from torch import Tensor
from workload import workload_for

from nnunet_stochastic.distributions import BasisGaussian, GaussianLogits, LowRankGaussian
from nnunet_stochastic.distributions.lattice import lattice_nodes
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.sample_sums import SampleSums
from nnunet_stochastic.voxel_law import VoxelMoments, exact_moments, fields_of_law, sampled_moments

__all__ = ["measure"]

CLASSES, RANK, SAMPLES, SAMPLES_AT_ONCE = 2, 16, 30, 8
SPACE = OutcomeSpace(CLASSES)
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
def _measure(name: str, model: GaussianLogits, device: torch.device, repeats: int) -> list[Row]:
    def exact() -> VoxelMoments:
        return exact_moments(SPACE, fields_of_law(model, SPACE).flatten(1))

    def lattice() -> VoxelMoments:
        fields = fields_of_law(model, SPACE).flatten(1)
        return sampled_moments(SPACE, fields, lattice_nodes(SAMPLES, torch.rand_like(fields[:1])))

    def samples() -> VoxelMoments:
        sums = SampleSums(SPACE, square=True, entropy=True)
        for start in range(0, SAMPLES, SAMPLES_AT_ONCE):
            for logits in model.rsample(min(SAMPLES_AT_ONCE, SAMPLES - start)):
                sums.add(logits)
        return sums.moments()

    difference = (model.mean_logits[:, 1] - model.mean_logits[:, 0]).double()
    covariance = model.voxel_covariance().double()
    variance = covariance[:, 0, 0] + covariance[:, 1, 1] - 2 * covariance[:, 0, 1]
    limit = _mean_probability(difference, variance.sqrt()).flatten()

    def distance(moments: Callable[[], VoxelMoments]) -> float:
        return float((moments().mean.flatten() - limit).square().mean().sqrt())

    rows = []
    for kind, ours in (("exact", exact), ("stratified", lattice)):
        times = time_ratios(ours, samples, repeats=repeats, device=device)
        errors = tuple(distance(ours) / distance(samples) for _ in range(repeats))
        work, against = f"{name}, {kind} moments", f"K = {SAMPLES}"
        limit_of_time = 1.0 if kind == "exact" else None
        rows += [Row(work, against, "time", times, limit_of_time), Row(work, against, "distance", errors, 1.0)]
    return rows


def _mean_probability(mean: Tensor, std: Tensor) -> Tensor:
    """E[sigmoid(x)], x ~ N(mean, std²), one node at a time."""
    nodes = torch.linspace(-8, 8, LIMIT_NODES, dtype=torch.float64)
    weights = torch.softmax(-nodes.square() / 2, 0)
    total = torch.zeros_like(mean)
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        total += weight * torch.sigmoid(mean + node * std)
    return total
