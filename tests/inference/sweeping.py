"""Sweeps over images by networks that are no trained models, and a network that sees a voxel's own intensity alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from nnunet_stochastic.distributions import BasisGaussian, DiagonalGaussian, LowRankGaussian
from nnunet_stochastic.inference.averaging import ProbabilityAverage
from nnunet_stochastic.inference.blending import LawBlend
from nnunet_stochastic.inference.samples import SampleDraw
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import (
    View,
    mirrored_views,
    spread_samples,
    sum_of_weights,
    tile_weights,
    tiles,
)
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.inference.sweep import Sweep
from nnunet_stochastic.moments import Moments, MomentSums
from nnunet_stochastic.outcomes import OutcomeSpace

KINDS = ["diagonal", "low rank", "voxel", "volume"]


class LocalNetwork(nn.Module):
    """Parameters that depend on a voxel's own intensity alone, so that all tiles and views agree on them.

    Parameters
    ----------
    kind
        Kind of network, of ``KINDS``.
    channels
        Number C of channels, up to 3.
    """

    def __init__(self, kind: str, channels: int = 2) -> None:
        super().__init__()
        self.kind, self.channels = kind, channels

    def logit_distribution(self, x):
        x, channels = x.double(), self.channels
        parameters = {
            "mean_logits": torch.cat([x.sin(), 1.5 * x, 0.8 - x], 1)[:, :channels],
            "diag_var": torch.cat([0.2 + x.square(), 0.5 + 0.3 * x.cos(), 0.9 - 0.5 * x], 1)[:, :channels],
        }
        if self.kind == "diagonal":
            return DiagonalGaussian(**parameters)
        if self.kind == "low rank":
            factors = [torch.cat([x + r, 1 - r * x, r - x.square()], 1)[:, :channels] for r in range(3)]
            return LowRankGaussian(**parameters, cov_factor=torch.stack(factors, 2))
        bases = torch.tensor([[0.6, -0.3, 0.8], [0.2, 0.9, -0.4], [-0.7, 0.1, 0.5]], dtype=torch.float64)[:channels]
        return BasisGaussian(
            **parameters,
            basis_scale=torch.cat([1 + 0.5 * x, 0.7 - x, x.cos()], 1),
            partition_bases=bases.view(1, 1, 1, 1, channels, 3),
            noise_scope=self.kind,
        )


@dataclass(frozen=True)
class Swept:
    """What a sweep gives.

    Parameters
    ----------
    moments
        Moments of all members; ``None`` for one deterministic network.
    samples
        Log-ratios (N, D, *S) of the whole samples.
    fingerprints
        Fingerprint of each member.
    collector
        Collector, as the last member left it.
    """

    moments: Moments | None
    samples: Tensor | None
    fingerprints: list[Tensor]
    collector: LawBlend | ProbabilityAverage


def make_collector(
    space: OutcomeSpace,
    stitching: Stitching,
    views: Sequence[View],
    noise: NoiseKey,
    *,
    estimator: str = "mc",
    num_samples: int = 1,
    blends_laws: bool = True,
    has_samples: bool = True,
    num_members: int = 1,
) -> LawBlend | ProbabilityAverage:
    """As a predictor makes it; averaged probabilities spread the samples over the views."""
    if blends_laws:
        return LawBlend(
            space,
            stitching,
            num_views=len(views),
            has_samples=has_samples,
            estimator=estimator,
            num_samples=num_samples,
            noise=noise,
        )
    counts = zip(views, spread_samples(num_samples, len(views)), strict=True)
    return ProbabilityAverage(
        space,
        stitching,
        samples_of_views={view: count for view, count in counts if count},
        num_members=num_members,
        num_views=len(views),
        estimator=estimator,
        corrected=estimator == "mc",
        expected_entropy=True,
        second_moment=True,
        noise=noise,
    )


def sweep(
    networks: nn.Module | Sequence[nn.Module],
    image: Tensor,
    space: OutcomeSpace,
    *,
    patch_size: Sequence[int] = (8, 8, 8),
    step_size: float = 0.5,
    mirror_axes: Sequence[int] = (),
    views: Sequence[View] | None = None,
    estimator: str = "mc",
    num_samples: int = 1,
    blends_laws: bool = True,
    has_samples: bool = True,
    draws: Sequence[SampleDraw] = (),
    seed: int = 0,
    case: str = "",
    reverse: bool = False,
) -> Swept:
    """Sweep an image (channels, *S) with networks that are its members, named ``fold_0``, ``fold_1``, ...

    ``reverse`` takes the tiles in the opposite order.
    """
    networks = [networks] if callable(networks) else list(networks)
    model = SimpleNamespace(
        network=None, space=space, configuration_manager=SimpleNamespace(patch_size=list(patch_size))
    )

    def member(index: int) -> SimpleNamespace:
        return SimpleNamespace(
            name=f"fold_{index}",
            posterior=None,
            activate=lambda model: setattr(model, "network", networks[index]),
        )

    shape = tuple(image.shape[1:])
    image_tiles = tiles(shape, patch_size, step_size)
    if reverse:
        image_tiles.reverse()
    weights = tile_weights(patch_size)
    stitching = Stitching(weights, sum_of_weights(image_tiles, weights, shape))
    views = mirrored_views(mirror_axes) if views is None else list(views)
    noise = NoiseKey(seed, case)
    make_one = partial(
        make_collector,
        space,
        stitching,
        views,
        noise,
        estimator=estimator,
        num_samples=num_samples,
        blends_laws=blends_laws,
        has_samples=has_samples,
        num_members=len(networks),
    )
    if not blends_laws:  # with fewer samples than views the last ones have none
        views = views[:num_samples]
    sums = None
    if has_samples or len(networks) > 1:
        sums = MomentSums(
            space,
            shape,
            num_members=len(networks),
            has_samples=has_samples,
            lost_entropy=not blends_laws and estimator == "mc",
        )
    samples: dict[int, Tensor] = {}
    collectors = []

    def finish_member(collector):
        collectors.append(collector)
        if sums is not None:
            collector.add_moments_to(sums)

    with torch.inference_mode():
        fingerprints = Sweep(
            model,
            torch.device("cpu"),
            image,
            image_tiles,
            stitching,
            views,
            noise,
            lambda index, sample: samples.__setitem__(index, sample.clone()),
        ).run(
            [member(index) for index in range(len(networks))],
            [[draw for draw in draws if draw.index % len(networks) == index] for index in range(len(networks))],
            make_one,
            finish_member,
        )
    return Swept(
        None if sums is None else sums.moments(),
        torch.stack([samples[draw.index] for draw in draws]) if draws else None,
        fingerprints,
        collectors[-1],
    )
