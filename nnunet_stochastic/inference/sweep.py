"""One image and all members: sweep the tiles, collect the moments of the maps and the whole samples in one pass.

How tiles and views of a member become one prediction is chosen by the model: ``blending`` where the prediction is one
law per voxel, else ``averaging``. Members that differ in their last layer alone are swept together, on the features
that they share, as many as memory is set aside for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nnunet_stochastic.distributions import LogitDistribution
from nnunet_stochastic.inference.blending import LawBlend
from nnunet_stochastic.inference.collector import MemberCollector
from nnunet_stochastic.inference.linear_samples import LinearBlend, fits_into_memory
from nnunet_stochastic.inference.members import Member, share_features
from nnunet_stochastic.inference.model import Model
from nnunet_stochastic.inference.samples import SampleBlend, SampleDraw, groups_of_draws, samples_of_law
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import (
    Tile,
    View,
    fingerprint,
    predict_features,
    predict_logit_distribution,
    predict_of_features,
    tile_patch,
)
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.progress import progress_bar

__all__ = ["OnSample", "Sweep"]

#: Takes the index of a sample and its log-ratios (D, *S) on the network's grid. After a lack of device memory samples
#: come a second time, equal up to the rounding of the device.
OnSample = Callable[[int, Tensor], object]

#: Memory of the members that are swept together; one is always swept.
_TOGETHER_BYTES = 2 << 30


@dataclass(frozen=True)
class Sweep:
    """What is the same for all members of an image.

    Parameters
    ----------
    model
        Model whose network is on ``device``.
    device
        Device on which the network runs.
    image
        Preprocessed and padded image (channels, *S), on any device.
    tiles
        Tiles of the image.
    stitching
        How tiles become an image.
    views
        Views of each tile, for the maps.
    noise
        Key of the image's noise.
    on_sample
        Function that takes whole samples; ``None`` where there are none.
    """

    model: Model
    device: torch.device
    image: Tensor
    tiles: Sequence[Tile]
    stitching: Stitching
    views: Sequence[View]
    noise: NoiseKey
    on_sample: OnSample | None

    def run(
        self,
        members: Sequence[Member],
        draws_of_members: Sequence[Sequence[SampleDraw]],
        make_collector: Callable[[], MemberCollector],
        finish_member: Callable[[MemberCollector], object],
        *,
        progress: bool = False,
    ) -> list[Tensor]:
        """Predict every member.

        Parameters
        ----------
        members
            The members.
        draws_of_members
            Whole samples of each member.
        make_collector
            Function that makes what collects the tiles of a member; as many are made as members are swept together.
        finish_member
            Function that is called with a collector that has a member.
        progress
            Whether to show a bar over the tiles.

        Returns
        -------
        list of Tensor
            What an equal member would have in common with each member, see ``fingerprint``.
        """
        collectors = [make_collector()]
        most_together = max(1, _TOGETHER_BYTES // collectors[0].num_bytes)
        fingerprints = []
        with progress_bar(total=len(self.tiles) * len(members), description="tiles", leave=False, show=progress) as bar:
            for together in _swept_together(members, most_together):
                collectors += [make_collector() for _ in range(len(together) - len(collectors))]
                runs = [
                    _MemberRun(
                        self,
                        members[index],
                        index,
                        draws_of_members[index] if self.on_sample else (),
                        collector,
                        members_together=len(together),
                    )
                    for index, collector in zip(together, collectors, strict=False)
                ]
                self._run(runs, bar.update)
                for run in runs:
                    run.collector.finish()
                    finish_member(run.collector)
                    run.hand_over_samples()
                    fingerprints.append(torch.stack(run.fingerprints).cpu())
        return fingerprints

    def _run(self, runs: Sequence[_MemberRun], on_tiles: Callable[[int], object]) -> None:
        runs[0].member.activate(self.model)
        views = list(dict.fromkeys(view for run in runs for view in run.views))
        for tile in self.tiles:
            patch = tile_patch(self.image, tile, self.device)
            for view in views:
                self._add_view(runs, patch, tile, view)
            for run in runs:
                run.collector.close_tile(tile)
            on_tiles(len(runs))

    def _add_view(self, runs: Sequence[_MemberRun], patch: Tensor, tile: Tile, view: View) -> None:
        """In a call of its own, so that no p(η) is left when the network runs again: of many classes it is large."""
        distributions = self._predict(runs, view.of(patch).contiguous())
        for run, distribution in zip(runs, distributions, strict=True):
            run.add_view(distribution, tile, view)

    def _predict(self, runs: Sequence[_MemberRun], patch: Tensor) -> Iterator[LogitDistribution]:
        """p(η) of a patch by each member; the first is active."""
        network = self.model.network
        if len(runs) == 1:
            yield predict_logit_distribution(network, patch)
            return
        predict = predict_of_features(network, predict_features(network, patch))
        for run in runs:
            run.member.activate(self.model)
            yield predict()

    def blend_of(self, draws: Sequence[SampleDraw]) -> SampleBlend:
        """A blend of samples to which nothing has been added."""
        return SampleBlend(draws, self.model.space, self.stitching, noise=self.noise)


class _MemberRun:
    """A member on its way over the tiles."""

    def __init__(
        self,
        sweep: Sweep,
        member: Member,
        index: int,
        draws: Sequence[SampleDraw],
        collector: MemberCollector,
        *,
        members_together: int,
    ) -> None:
        self.sweep, self.member, self.collector = sweep, member, collector
        self._draws = draws
        groups = groups_of_draws(draws, sweep.model.space, sweep.image.shape[1:], members=members_together)
        self._first, *self._others = groups or [()]
        self._members_together = members_together
        self._blend: SampleBlend | LinearBlend | None = None
        self._samples_are_of_law = False
        self.views = list(dict.fromkeys([*sweep.views, *_views_of(self._first)]))
        """All views in which the member is predicted."""
        self.fingerprints: list[Tensor] = []
        collector.start(member.name, index)

    def add_view(self, distribution: LogitDistribution, tile: Tile, view: View) -> None:
        """Add a view of a tile."""
        if view == self.sweep.views[0]:
            if not self.fingerprints and self._first:
                self._start_samples(distribution)
            self.fingerprints.append(fingerprint(distribution))
        if view in self.sweep.views:
            blend, on_logits = self._blend, None
            if isinstance(blend, SampleBlend):
                on_logits = partial(blend.add_logits, tile=tile, view=view)
            self.collector.add_view(distribution, tile, view, on_logits=on_logits)
        if self._blend is not None:
            self._blend.add_view(distribution, tile, view)

    def _start_samples(self, distribution: LogitDistribution) -> None:
        """Choose how samples are made; the number of samples has no part in it, so that it does not change them."""
        sweep, num_shared = self.sweep, distribution.shared_noise_channels
        space, shape = sweep.model.space, sweep.image.shape[1:]
        self._samples_are_of_law = isinstance(self.collector, LawBlend) and not num_shared
        if self._samples_are_of_law:
            return
        of_all_views = self._first[0].of_all_views
        if of_all_views and fits_into_memory(distribution, space, shape, members=self._members_together):
            self._blend = LinearBlend(self._draws, space, sweep.stitching, noise=sweep.noise, num_shared=num_shared)
            self._others = []
        else:
            self._blend = sweep.blend_of(self._first)

    def hand_over_samples(self) -> None:
        """Hand over the whole samples, once all tiles have been added and the collector has finished."""
        sweep = self.sweep
        if sweep.on_sample is None:
            return
        if self._samples_are_of_law:
            samples = samples_of_law(
                self.collector.prediction,
                self._draws,
                sweep.model.space,
                noise=sweep.noise,
            )
            for index, sample in samples:
                sweep.on_sample(index, sample)
            return
        blend, self._blend = self._blend, None
        for draws in self._others:
            self._hand_over(blend)
            blend = self._sweep_again(draws)  # for the samples that memory had no room for
        self._hand_over(blend)

    def _hand_over(self, blend: SampleBlend | LinearBlend | None) -> None:
        if blend is not None and self.sweep.on_sample is not None:
            for index, sample in blend.samples():
                self.sweep.on_sample(index, sample)

    def _sweep_again(self, draws: Sequence[SampleDraw]) -> SampleBlend:
        sweep, blend = self.sweep, self.sweep.blend_of(draws)
        self.member.activate(sweep.model)
        for tile in sweep.tiles:
            patch = tile_patch(sweep.image, tile, sweep.device)
            for view in _views_of(draws):
                distribution = predict_logit_distribution(sweep.model.network, view.of(patch).contiguous())
                blend.add_view(distribution, tile, view)
        return blend


def _swept_together(members: Sequence[Member], most_together: int) -> Iterator[list[int]]:
    """Indices of the members of each pass over the tiles."""
    together: list[int] = []
    for index, member in enumerate(members):
        if together and not (len(together) < most_together and share_features(members[together[0]], member)):
            yield together
            together = []
        together.append(index)
    if together:
        yield together


def _views_of(draws: Sequence[SampleDraw]) -> list[View]:
    return list(dict.fromkeys(view for draw in draws for view in draw.views))
