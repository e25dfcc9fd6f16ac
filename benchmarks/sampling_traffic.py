"""Moments of the laws of an image's voxels, as a prediction takes them, against a copy of the bytes that must move.

From the blended fields of the law (mean and factor of the log-ratios) to E[p], E[H(p)] and E[Σ p²]: by 30 samples of a
lattice for 2 and 3 classes, and exactly for 2. The opponent is a copy, on the same device, of as many bytes as fields
and moments have together: no implementation can be faster. Means are those of an image most of which is certain, so
nine tenths of the voxels have log-ratios of ±10 and the others of around 0, in cubes.
"""

from __future__ import annotations

import torch
from measuring import Row, time_ratios
from torch import Tensor
from workload import workload_for

from nnunet_stochastic.inference.blending import LawBlend
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.moments import MomentSums
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.prediction_choices import SettledEstimator

__all__ = ["measure"]

SAMPLES = 30
WORK: tuple[tuple[int, SettledEstimator], ...] = ((2, "mc"), (3, "mc"), (2, "exact"))
CUBE = 16


@torch.inference_mode()
def measure(device: torch.device, repeats: int) -> list[Row]:
    shape = workload_for(device).grid_shape
    rows = []
    for classes, estimator in WORK:
        space = OutcomeSpace(classes)
        blend = _law(space, shape, estimator, device)

        def ours(space=space, blend=blend) -> object:
            sums = MomentSums(space, shape, adopts=blend.hands_over_moments, device=device)
            blend.add_moments_to(sums)
            return sums.moments()

        num_moments = space.num_channels + 2
        half = torch.empty((len(blend.fields) + num_moments + 1) // 2, *shape, device=device)  # a copy reads and writes
        other = torch.empty_like(half)
        ratios = time_ratios(ours, lambda half=half, other=other: other.copy_(half), repeats=repeats, device=device)
        kind = "exact moments" if estimator == "exact" else f"moments of {SAMPLES} samples"
        rows.append(Row(f"{classes} classes, {kind}", "copy of the bytes", "time", ratios, 1.5))
    return rows


def _law(space: OutcomeSpace, shape: tuple[int, ...], estimator: SettledEstimator, device: torch.device) -> LawBlend:
    weights = torch.ones(shape, device=device)
    blend = LawBlend(
        space,
        Stitching(weights, weights),
        num_views=1,
        has_samples=True,
        estimator=estimator,
        num_samples=SAMPLES,
        noise=NoiseKey(0),
    )
    torch.manual_seed(0)
    free = space.num_log_ratios
    blend.fields[:free] = _means(free, shape).to(device)
    blend.fields[free:] = torch.rand(blend.fields[free:].shape, device=device) + 0.3
    return blend


def _means(free: int, shape: tuple[int, ...]) -> Tensor:
    cubes = [-(-length // CUBE) for length in shape]
    certain = torch.where(torch.rand(1, *cubes) < 0.1, 0.0, -10.0)
    for axis in (1, 2, 3):
        certain = certain.repeat_interleave(CUBE, axis)
    inside = tuple(slice(0, length) for length in shape)
    return certain[(slice(None), *inside)] + torch.randn(free, *shape)
