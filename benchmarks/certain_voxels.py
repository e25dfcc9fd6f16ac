"""What do 30 samples of a tile cost of the classes that matter at each voxel? Against samples of all 42 everywhere.

Sums of one view of 32 x 96 x 96 voxels, averaged as probabilities, as those of models of more than five classes
always are. Laws are made up: nine tenths of the voxels are certain of one of five classes, or none is, and elsewhere
these five matter, or all. On a GPU none is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from measuring import Row, time_ratios

from nnunet_stochastic.distributions import BasisGaussian, GaussianLogits, LowRankGaussian
from nnunet_stochastic.inference.averaging import ProbabilityAverage
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import View
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.outcomes import OutcomeSpace

__all__ = ["measure"]

CLASSES, SHAPE, SAMPLES, RANK = 42, (32, 96, 96), 30, 16
QUESTIONS = ((0.9, 42), (0.0, 5), (0.0, 42))


class _WholeLowRank(LowRankGaussian):
    def at(self, voxels: torch.Tensor, classes: torch.Tensor) -> None:
        return None


class _WholeBasis(BasisGaussian):
    def at(self, voxels: torch.Tensor, classes: torch.Tensor) -> None:
        return None


@dataclass(frozen=True)
class _Laws:
    """One law that can be taken at some voxels, and the same that cannot."""

    name: str
    ours: GaussianLogits
    theirs: GaussianLogits


def measure(device: torch.device, repeats: int) -> list[Row]:
    rows = []
    for share, relevant in QUESTIONS:
        for laws in _laws(share, relevant, device):
            times = time_ratios(
                lambda laws=laws: _average(laws.ours),
                lambda laws=laws: _average(laws.theirs),
                repeats=repeats,
                device=device,
            )
            work = f"{laws.name}, {CLASSES} classes, {share:.0%} certain, {relevant} matter elsewhere"
            rows.append(Row(work, "all voxels and classes", "time", times))
    return rows


def _laws(share: float, relevant: int, device: torch.device) -> list[_Laws]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device)

    mean, count = normal(1, CLASSES, *SHAPE), torch.Size(SHAPE).numel()
    chosen = (torch.rand(count, generator=generator) < share).to(device)
    voxels = torch.arange(count, device=device)
    mean.flatten(2)[0, voxels % 5, voxels] += 15 * chosen
    mean[:, relevant:] -= 20
    variance = 0.3 * torch.rand(1, CLASSES, *SHAPE, generator=generator).to(device)
    low_rank = mean, variance, 0.1 * normal(1, CLASSES, RANK, *SHAPE)
    basis = mean, variance, 0.1 * normal(1, RANK, *SHAPE), normal(1, 4, 4, 4, CLASSES, RANK)
    return [
        _Laws("MoB", BasisGaussian(*basis), _WholeBasis(*basis)),
        _Laws("LowRank", LowRankGaussian(*low_rank), _WholeLowRank(*low_rank)),
    ]


def _average(distribution: GaussianLogits) -> None:
    weights, view = torch.ones(SHAPE, device=distribution.device), View(())
    sums = ProbabilityAverage(
        OutcomeSpace(CLASSES),
        Stitching(weights, weights),
        samples_of_views={view: SAMPLES},
        num_members=1,
        num_views=1,
        estimator="mc",
        corrected=True,
        expected_entropy=True,
        second_moment=True,
        noise=NoiseKey(0),
    )
    sums.start("fold_0", 0)
    tile = tuple(slice(0, length) for length in SHAPE)
    sums.add_view(distribution, tile, view)
    sums.close_tile(tile)
    sums.finish()
