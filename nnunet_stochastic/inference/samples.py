"""Whole segmentations: samples that are one plausible outcome for the image, not a patchwork of tiles.

A sample belongs to one member. With the standard normal numbers z(n) of its voxels and z2 of the image, both the same
in every tile t and view v that see a voxel n, and nnU-Net's weights w_t,

    x(n) = Σ_t w_t(n) (1/V) Σ_v x_tv(n; z(n), z2) / Σ_t w_t(n):

log-ratios are blended as nnU-Net blends logits. z(n) depends on (seed, case, sample, voxel) alone, see
``voxel_noise``. So where two tiles predict the same parameters they give the same logits, and noise does not average
out in the overlaps. Where all noise is the voxels' own and their laws are blended, the sample is drawn from the blended
law, which needs no sums; where logits are linear in their noise ``linear_samples`` draws it after the pass, too. Where
p(η) is not Gaussian, a sample is of one view: a mirrored image gives other outcomes, not other parameters of the same
ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nnunet_stochastic.distributions import LogitDistribution
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import Tile, View
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.inference.voxel_noise import voxel_noise
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.voxel_law import law_with_noise

__all__ = [
    "BYTES_OF_SAMPLES",
    "SampleBlend",
    "SampleDraw",
    "draws_of_members",
    "groups_of_draws",
    "index_of_sample",
    "noise_of_sample",
    "samples_of_law",
    "shared_noise",
]

#: Memory of what one pass over the tiles keeps for whole samples: their sums, or the fields that all are drawn from.
BYTES_OF_SAMPLES = 2 << 30


@dataclass(frozen=True)
class SampleDraw:
    """Which sample, and in which views of its member it is drawn: in all, or in some to which samples are dealt."""

    index: int
    views: tuple[View, ...]
    of_all_views: bool = True


def draws_of_members(
    num_samples: int, num_members: int, views: Sequence[View], *, has_samples: bool, blend_views: bool
) -> list[list[SampleDraw]]:
    """Deal samples to the members in turn and, unless views are blended, a member's samples to its views in turn.

    Parameters
    ----------
    num_samples
        Number of samples N.
    num_members
        Number of members E.
    views
        Views of a member.
    has_samples
        Whether a member and a view can give several different samples.
    blend_views
        Whether a sample is of all views of its member.

    Returns
    -------
    list
        The draws of each member.

    Raises
    ------
    ValueError
        If a model without randomness has fewer than N different outcomes.
    """
    outcomes = num_members * (1 if blend_views else len(views))
    if not has_samples and num_samples > outcomes:
        count = f"{num_members}" if blend_views else f"{num_members} x {len(views)}"
        raise ValueError(
            f"{num_samples} samples were asked for, but a deterministic network has one per member"
            f"{'' if blend_views else ' and view'}, here {count}: ask for fewer, use test-time augmentation "
            "(--aleatoric tta), more members, or a stochastic trainer such as nnUNetTrainerMoB"
        )
    return [
        [
            SampleDraw(index, tuple(views))
            if blend_views or len(views) == 1
            else SampleDraw(index, (views[index // num_members % len(views)],), of_all_views=False)
            for index in range(member, num_samples, num_members)
        ]
        for member in range(num_members)
    ]


def index_of_sample(order: int, *, view: int, num_views: int, member: int, num_members: int) -> int:
    """Index of the whole sample that is dealt to a member and one of its views after ``order`` others."""
    return member + num_members * (view + num_views * order)


def groups_of_draws(
    draws: Sequence[SampleDraw], space: OutcomeSpace, shape: Sequence[int], *, members: int = 1
) -> list[Sequence[SampleDraw]]:
    """Draws that are blended in one pass over the tiles: as many as 2 GiB hold, of each member at least one.

    The first are of the pass that makes the maps, which runs all views. Each further pass runs the views of its own
    draws, and so those of one view come together.
    """
    volume = 4 * space.num_log_ratios * shape[0] * shape[1] * shape[2]
    at_once = max(1, BYTES_OF_SAMPLES // (volume * members))
    places = {views: place for place, views in enumerate(dict.fromkeys(draw.views for draw in draws))}
    ordered = [*draws[:at_once], *sorted(draws[at_once:], key=lambda draw: places[draw.views])]
    return [ordered[first : first + at_once] for first in range(0, len(ordered), at_once)]


def shared_noise(channels: int, *, noise: NoiseKey, sample: int) -> Tensor:
    """Standard normal numbers that all voxels of a sample share, (channels)."""
    return torch.randn(channels, generator=noise.generator("shared noise", sample))


def noise_of_sample(
    distribution: LogitDistribution, tile: Tile, view: View, *, noise: NoiseKey, index: int
) -> tuple[Tensor, Tensor]:
    """Noise of a whole sample in a view of a tile: numbers of its voxels (N, *T), and those that all share, (M)."""
    device = distribution.device
    own = voxel_noise(tile, distribution.noise_channels, noise=noise, sample=index, device=device)
    shared = shared_noise(distribution.shared_noise_channels, noise=noise, sample=index)
    return view.undo(own), shared.to(device)


class SampleBlend:
    """Samples of one member that are blended over tiles and views.

    Parameters
    ----------
    draws
        The samples.
    space
        What the logits mean.
    stitching
        How tiles become an image.
    noise
        Key of the image's noise.
    """

    def __init__(
        self,
        draws: Sequence[SampleDraw],
        space: OutcomeSpace,
        stitching: Stitching,
        *,
        noise: NoiseKey,
    ) -> None:
        self._draws, self._space, self._noise = draws, space, noise
        self._stitching = stitching
        # Each in memory of its own, which is free again as soon as the sample has been exported.
        self._sums = [stitching.zeros(space.num_log_ratios) for _ in draws]
        self._places = {draw.index: place for place, draw in enumerate(draws)}
        self._given: set[int] = set()  # in the view of a tile that is added next

    def add_logits(self, index: int, logits: Tensor, tile: Tile, view: View) -> None:
        """Add logits (C, *T) of the view that ``add_view`` adds next: it does not draw them again."""
        place = self._places.get(index)
        if place is not None and view in self._draws[place].views:
            self._add(place, logits, tile, view)
            self._given.add(index)

    def add_view(self, distribution: LogitDistribution, tile: Tile, view: View) -> None:
        """Add a view of a tile to the samples that are of it."""
        for place, draw in enumerate(self._draws):
            if view in draw.views and draw.index not in self._given:
                own, shared = noise_of_sample(distribution, tile, view, noise=self._noise, index=draw.index)
                self._add(place, distribution.transform(own[None, None], shared[None, None])[0, 0], tile, view)
        self._given.clear()

    def samples(self) -> Iterator[tuple[int, Tensor]]:
        """Index of each sample and its log-ratios (D, *S), once all views of all tiles have been added; only once."""
        for draw in self._draws:
            yield draw.index, self._stitching.finish(self._sums.pop(0))

    def _add(self, place: int, logits: Tensor, tile: Tile, view: View) -> None:
        log_ratios = view.undo(self._space.log_ratios(logits))
        self._stitching.add(self._sums[place], tile, log_ratios / len(self._draws[place].views))


def samples_of_law(
    fields: Tensor, draws: Sequence[SampleDraw], space: OutcomeSpace, *, noise: NoiseKey
) -> Iterator[tuple[int, Tensor]]:
    """Samples whose noise is the voxels' own.

    Parameters
    ----------
    fields
        Fields of the member's blended law, (D + F, *S).
    draws
        The samples.
    space
        What the log-ratios are.
    noise
        Key of the image's noise.

    Yields
    ------
    tuple
        Index of the sample and its log-ratios (D, *S), in memory of its own: ``fields`` are the next member's while a
        thread still exports it.
    """
    has_samples = fields.shape[0] > space.num_log_ratios
    whole = tuple(slice(0, size) for size in fields.shape[1:])
    for draw in draws:
        if not has_samples:
            yield draw.index, fields.clone()
            continue
        numbers = voxel_noise(whole, space.num_log_ratios, noise=noise, sample=draw.index, device=fields.device)
        yield draw.index, law_with_noise(space, fields, numbers)
