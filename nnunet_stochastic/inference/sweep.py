"""One image and all members: sweep the tiles, collect the moments of the maps and the whole samples in one pass.

How tiles and views of a member become one prediction is chosen by the model: ``blending`` where the prediction is one
law per voxel, else ``averaging``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from nnunet_stochastic.distributions import LogitDistribution
from nnunet_stochastic.inference.averaging import ProbabilityAverage
from nnunet_stochastic.inference.blending import LawBlend
from nnunet_stochastic.inference.members import Member
from nnunet_stochastic.inference.model import Model
from nnunet_stochastic.inference.samples import SampleBlend, SampleDraw, groups_of_draws, samples_of_law
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import Tile, View, fingerprint, predict_logit_distribution, tile_patch
from nnunet_stochastic.inference.stitching import Stitching

__all__ = ["OnSample", "Sweep"]

#: Takes the index of a sample and its log-ratios (D, *S) on the network's grid. After a lack of device memory samples
#: come a second time, equal up to the rounding of the device.
OnSample = Callable[[int, Tensor], object]


@dataclass(frozen=True)
class Sweep:
    """What is the same for all members of an image.

    Parameters
    ----------
    model
        Its network is on ``device``.
    device
        Where the network runs.
    image
        Preprocessed and padded image (channels, *S), where the sums are kept.
    tiles
        Of the image.
    stitching
        Of the tiles.
    views
        Of each tile, for the maps.
    noise
        Key of the image's noise.
    on_sample
        Takes whole samples; ``None`` where there are none.
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
        collector: LawBlend | ProbabilityAverage,
        finish_member: Callable[[], object],
        *,
        progress: bool = False,
    ) -> list[Tensor]:
        """Predict every member.

        Parameters
        ----------
        members
            The members.
        draws_of_members
            Whole samples of each.
        collector
            Collects the tiles of one member after the other.
        finish_member
            Called when the collector has a member.
        progress
            Show a bar over the tiles.

        Returns
        -------
        list of Tensor
            Of each member what an equal one would have in common with it, see ``fingerprint``.
        """
        fingerprints = []
        bar = tqdm(total=len(self.tiles) * len(members), desc="tiles", leave=False, disable=not progress)
        with bar:
            for member, draws in zip(members, draws_of_members, strict=True):
                member.activate(self.model)
                collector.start(member.name)
                fingerprints.append(
                    self._run_member(draws if self.on_sample else (), collector, finish_member, bar.update)
                )
        return fingerprints

    def _run_member(
        self,
        draws: Sequence[SampleDraw],
        collector: LawBlend | ProbabilityAverage,
        finish_member: Callable[[], object],
        on_tile: Callable[[], object],
    ) -> Tensor:
        space = self.model.space
        first, *others = groups_of_draws(draws, space, self.image.shape[1:]) or [()]
        fingerprints: list[Tensor] = []
        blend: SampleBlend | None = None
        from_law = False

        def collect(distribution: LogitDistribution, tile: Tile, view: View) -> None:
            nonlocal blend, from_law
            if view == self.views[0]:
                if not fingerprints and first:
                    from_law = isinstance(collector, LawBlend) and distribution.shared_noise_channels == 0
                    blend = None if from_law else self._blend(first)
                fingerprints.append(fingerprint(distribution))
            if view in self.views:
                collector.add_view(distribution, tile, view)
            if blend is not None:
                blend.add_view(distribution, tile, view)

        for tile in self.tiles:
            self._predict_views(tile, self._views_of(first, also=self.views), collect)
            collector.close_tile(tile)
            on_tile()
        collector.finish()
        finish_member()
        if from_law:
            samples = samples_of_law(
                collector.fields,
                draws,
                space,
                noise=self.noise,
                patch_axes=len(self.model.configuration_manager.patch_size),
            )
            for index, sample in samples:
                self.on_sample(index, sample)
        elif blend is not None:
            self._hand_over(blend)
            for group in others:
                blend = self._blend(group)
                for tile in self.tiles:
                    self._predict_views(tile, self._views_of(group), blend.add_view)
                self._hand_over(blend)
        return torch.stack(fingerprints).cpu()

    def _predict_views(
        self, tile: Tile, views: Sequence[View], collect: Callable[[LogitDistribution, Tile, View], object]
    ) -> None:
        patch = tile_patch(self.image, tile, self.device)
        for view in views:
            collect(predict_logit_distribution(self.model.network, view.of(patch).contiguous()), tile, view)

    def _views_of(self, draws: Sequence[SampleDraw], *, also: Sequence[View] = ()) -> list[View]:
        return list(dict.fromkeys([*also, *(view for draw in draws for view in draw.views)]))

    def _blend(self, draws: Sequence[SampleDraw]) -> SampleBlend:
        return SampleBlend(draws, self.model.space, self.stitching, noise=self.noise)

    def _hand_over(self, blend: SampleBlend) -> None:
        for index, sample in blend.samples():
            self.on_sample(index, sample)
