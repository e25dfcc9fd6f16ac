"""Tiles and views of a member, averaged as probabilities: where there is no law per voxel to blend, and on request.

The Prob. U-Net, diffusion, test-time augmentation, and Gaussian models of many classes have no such law. With K_tv
samples p_tvk in tile t and view v, and nnU-Net's weights w_t,

    p̄ = Σ_t w_t p̄_t / Σ_t w_t          p̄_t = Σ_v Σ_k p_tvk / Σ_v K_tv

The noise is a function of (case, tile, view) and, where it is one draw for a whole image, of (case, view): all members
have the same, so those that agree have no epistemic uncertainty, and no result depends on the order of anything.
Samples of a view come in antithetic pairs, z and -z. What H(p̄) still lacks because K is small is estimated to first
order.

Where a sample takes whole runs of the network (diffusion), z is the noise of whole samples, whether these are asked for
or not: with E members and V views, pair m of view v has that of the whole sample m mod E + E (v + V ⌊m / E⌋), which is
dealt to that view and to member m mod E. There it is not drawn again. Errors of tiles then do not average out where
they overlap. Independent samples of each member ("plug_in") have the noise of the whole samples of that member.

On a CPU a Gaussian over several classes is sampled at each voxel in the classes that matter there (``view_samples``).

Of more than five classes a GPU keeps Σ_t w_t p̄_t / Σ_t w_t in half precision, ``HALF_UNIT`` times, scalars never.
Where all noise is the voxels' own, samples and their sums are one kernel there.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping

import torch
from torch import Tensor

from nnunet_stochastic.distributions import GaussianLogits, LogitDistribution
from nnunet_stochastic.inference.collector import MemberCollector, OnLogits
from nnunet_stochastic.inference.samples import index_of_sample, noise_of_sample
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import Tile, View, tile_start
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.inference.tile_sums import TileSums, kernel_draws_samples
from nnunet_stochastic.inference.view_samples import NoiseOfView, sampled_view
from nnunet_stochastic.inference.voxel_noise import voxel_noise
from nnunet_stochastic.kernels import use_kernels
from nnunet_stochastic.moments import HALF_UNIT, MomentSums, normalised
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.prediction_choices import SettledEstimator
from nnunet_stochastic.sample_sums import SampleSums, ViewTotals
from nnunet_stochastic.voxel_law import MAX_CLASSES, VoxelMoments, exact_moments, fields_of_law

__all__ = ["ProbabilityAverage"]

_SAMPLED_CHANNELS = 16  # channels of logits sampled at once
_VOXELS_AT_ONCE = 1 << 20  # of a mean in half precision


class ProbabilityAverage(MemberCollector):
    """Averages of one member at a time.

    Parameters
    ----------
    space
        What the logits mean.
    stitching
        How tiles become an image.
    samples_of_views
        The number of samples in each view.
    num_members, num_views
        Number of members, and of the views of each to which whole samples are dealt; those of ``samples_of_views`` are
        the first.
    estimator
        ``"mc"``: samples that all members share; ``"plug_in"``: independent ones of each member; ``"exact"``: what the
        samples of a view are expected to give, where that has a law per voxel.
    corrected
        Whether the entropy that the mean lacks is to be estimated; not for passes that are no samples of a law.
    expected_entropy, second_moment
        Which averages to take besides that of p.
    noise
        Key of the image's noise.
    """

    def __init__(
        self,
        space: OutcomeSpace,
        stitching: Stitching,
        *,
        samples_of_views: Mapping[View, int],
        num_members: int,
        num_views: int,
        estimator: SettledEstimator,
        corrected: bool,
        expected_entropy: bool,
        second_moment: bool,
        noise: NoiseKey,
    ) -> None:
        self.space, self._noise = space, noise
        self._stitching = stitching
        self._samples_of_views = samples_of_views
        self._places = {view: place for place, view in enumerate(samples_of_views)}
        self._num_members, self._num_views = num_members, num_views
        self._exact, self._plug_in = estimator == "exact", estimator == "plug_in"
        many_classes = not space.scalar and space.num_logits > MAX_CLASSES
        self._in_half = many_classes and stitching.weights.device.type == "cuda"
        self._mean = stitching.zeros(space.num_channels, dtype=torch.half if self._in_half else None)
        self._entropy = stitching.zeros() if expected_entropy else None
        self._square = stitching.zeros() if second_moment else None
        self._lost = stitching.zeros() if corrected else None
        self._member, self._index = "", 0
        self._tile_sums: SampleSums | TileSums | None = None
        self._tiles_share_noise = False

    def start(self, member: str, index: int) -> None:
        """Begin with a member, of a name and an index."""
        self._member, self._index = member, index
        for total in (self._mean, self._entropy, self._square, self._lost):
            if total is not None:
                total.zero_()

    def add_view(
        self, distribution: LogitDistribution, tile: Tile, view: View, *, on_logits: OnLogits | None = None
    ) -> None:
        """Add the samples of a view of the tile at hand."""
        if self._uses_kernel(distribution):
            self._add_by_kernel(distribution, tile, view)
            return
        if self._tile_sums is None:
            self._tile_sums = self._new_sums()
        assert isinstance(self._tile_sums, SampleSums), "all views of a tile are of one model"
        if self._exact:
            assert isinstance(distribution, GaussianLogits), "other distributions have no exact moments"
            fields = view.undo(fields_of_law(distribution, self.space))
            self._tile_sums.add_expectation(exact_moments(self.space, fields))
            return
        self._tiles_share_noise = distribution.shared_noise_channels > 0 or distribution.repeats_network
        totals = self._sampled_view(distribution, tile, view)
        if totals is not None:
            self._tile_sums.add_view(totals, flipped_axes=view.flipped_axes)
            return
        for unit in self._units(distribution, tile, view, on_logits):
            self._tile_sums.add(unit, flipped_axes=view.flipped_axes)
        self._tile_sums.close_view()

    def _sampled_view(self, distribution: LogitDistribution, tile: Tile, view: View) -> ViewTotals | None:
        """Sums of the classes that matter at each voxel, where these can be sampled alone."""
        if self._plug_in or self.space.scalar or not isinstance(distribution, GaussianLogits):
            return None  # independent samples are asked for as they are
        if not distribution.has_samples or distribution.device.type != "cpu":
            return None  # a GPU would wait until it is known which voxels these are
        count, key = self._samples_of_views[view], self._purpose_of_noise(view)
        shared = self._shared_noise(distribution, (count + 1) // 2, key)
        return sampled_view(
            distribution,
            NoiseOfView(tile, self._noise, (*key, tile_start(tile)), shared[:, 0]),
            count=count,
            square=self._square is not None,
            entropy=self._entropy is not None,
            lost_entropy=self._lost is not None,
        )

    def _new_sums(self) -> SampleSums:
        return SampleSums(
            self.space,
            square=self._square is not None,
            entropy=self._entropy is not None,
            lost_entropy=self._lost is not None,
        )

    def close_tile(self, tile: Tile) -> None:
        """Add the tile at hand, whose views have all been added."""
        assert self._tile_sums is not None, "a tile has at least one view"
        tile_sums, self._tile_sums = self._tile_sums, None
        if isinstance(tile_sums, TileSums):
            entropy, square, lost = tile_sums.add_to(self._mean, self._weights_of_mean(tile), tile)
        else:
            moments = tile_sums.moments()
            entropy, square, lost = moments.entropy, moments.square, moments.lost_entropy
            self._mean[(..., *tile)] += moments.mean.to(self._mean.device) * self._weights_of_mean(tile)
        for total, values in ((self._entropy, entropy), (self._square, square)):
            if total is not None and values is not None:
                self._stitching.add(total, tile, values)
        if self._lost is not None and lost is not None:
            self._stitching_of_errors.add(self._lost, tile, lost)

    def finish(self) -> None:
        """All tiles of the member have been added."""
        for total in (None if self._in_half else self._mean, self._entropy, self._square):
            if total is not None:
                self._stitching.finish(total)
        if self._lost is not None:
            self._stitching_of_errors.finish(self._lost)

    def _weights_of_mean(self, tile: Tile) -> Tensor:
        """Weights (*T) with which a tile is added to the mean: in half precision no sum may leave its range."""
        return self._stitching.shares(tile) * HALF_UNIT if self._in_half else self._stitching.weights

    def _uses_kernel(self, distribution: LogitDistribution) -> bool:
        chosen = not self._exact and not self._plug_in and use_kernels(self._mean)
        return chosen and kernel_draws_samples(distribution, self.space)

    def _add_by_kernel(self, distribution: LogitDistribution, tile: Tile, view: View) -> None:
        if self._tile_sums is None:
            self._tile_sums = TileSums(
                distribution.mean_logits,
                num_samples=sum(self._samples_of_views.values()),
                in_half=self._in_half,
                square=self._square is not None,
                entropy=self._entropy is not None,
                lost_entropy=self._lost is not None,
            )
        assert isinstance(self._tile_sums, TileSums), "all views of a tile are of one model"
        self._tile_sums.add_view(
            distribution,
            tile,
            view,
            self._samples_of_views[view],
            noise=self._noise,
            purpose=self._purpose_of_noise(view),
        )

    def _purpose_of_noise(self, view: View) -> tuple[Hashable, ...]:
        return "sample", *([self._member] if self._plug_in else []), view.flipped_axes, *view.shift

    @property
    def _stitching_of_errors(self) -> Stitching:
        """Errors of tiles with noise of their own average out where they overlap."""
        return self._stitching if self._tiles_share_noise else self._stitching.of_variances

    @property
    def num_bytes(self) -> int:
        """Memory of the sums."""
        return sum(total.nbytes for total in (self._mean, self._entropy, self._square, self._lost) if total is not None)

    @property
    def prediction(self) -> Tensor:
        """Of the member, once it has been finished: its mean."""
        return self._mean

    @property
    def log_ratios(self) -> Tensor:
        """Of the member, once it has been finished: those of its mean."""
        return self.space.log_ratios_of_probabilities(normalised(self._mean) if self._in_half else self._mean)

    @property
    def hands_over_moments(self) -> bool:
        return self._in_half

    def add_moments_to(self, sums: MomentSums) -> None:
        """Add the member."""
        scalars = [None if total is None else total.view(-1) for total in (self._entropy, self._square, self._lost)]
        if self._in_half:
            mean = self._mean.flatten(1)
            if sums.adopts:
                sums.adopt(VoxelMoments(mean, *scalars))
                return
            for start in range(0, mean.shape[1], _VOXELS_AT_ONCE):
                part = slice(start, min(start + _VOXELS_AT_ONCE, mean.shape[1]))
                fields = (None if field is None else field[part] for field in scalars)
                sums.add(part, VoxelMoments(normalised(mean[:, part]), *fields))
            return
        moments = VoxelMoments(
            # Rounding may lift a weighted mean of ones above 1, where the binary entropy is minus infinity.
            self._mean.flatten(1).clamp_(max=1),
            *scalars,
        )
        sums.add(slice(0, moments.mean.shape[1]), moments)

    def _units(
        self, distribution: LogitDistribution, tile: Tile, view: View, on_logits: OnLogits | None
    ) -> Iterator[list[Tensor]]:
        """Logits (C, *T) of the samples of a view, independent ones apart and antithetic pairs together."""
        key = self._purpose_of_noise(view)
        # A few samples at a time: all K at once would make the memory grow with K, but LowRank reads its factor only
        # once per call.
        at_once = max(1, _SAMPLED_CHANNELS // distribution.shape[1])
        at_once += at_once % 2
        num_samples, drawn = self._samples_of_views[view], 0
        num_draws = num_samples if self._plug_in else (num_samples + 1) // 2
        shared = None if distribution.repeats_network else self._shared_noise(distribution, num_draws, key)
        for start in range(0, num_samples, at_once):
            count = min(at_once, num_samples - start)
            draws = count if self._plug_in else (count + 1) // 2
            orders, indices = range(drawn, drawn + draws), []
            if shared is None:
                indices = [self._index_of_sample(order, view) for order in orders]
                noise, shared_noise = self._noise_of_samples(distribution, tile, view, indices)
            else:
                noise = self._noise_of_tile(distribution, tile, (*key, tile_start(tile)), orders)
                shared_noise = shared[drawn : drawn + draws]
            drawn += draws
            if not self._plug_in:
                noise, shared_noise = (
                    torch.stack([numbers, -numbers], dim=1).flatten(0, 1)[:count] for numbers in (noise, shared_noise)
                )
            logits = distribution.transform(noise, shared_noise)[:, 0]
            size = 1 if self._plug_in else 2
            if on_logits is not None and indices:
                for index, of_sample in zip(indices, logits[::size], strict=True):
                    on_logits(index, of_sample)
            for first in range(0, count, size):
                yield list(logits[first : first + size])

    def _index_of_sample(self, order: int, view: View) -> int:
        """Index of the whole sample whose noise a unit has, of which ``order`` others of the view come first."""
        member = self._index
        if not self._plug_in:
            order, member = divmod(order, self._num_members)
        return index_of_sample(
            order,
            view=self._places[view],
            num_views=self._num_views,
            member=member,
            num_members=self._num_members,
        )

    def _noise_of_samples(
        self, distribution: LogitDistribution, tile: Tile, view: View, indices: Iterable[int]
    ) -> tuple[Tensor, Tensor]:
        """Noise of whole samples in a view of a tile, (K, 1, N, *T) and (K, 1, M)."""
        drawn = [noise_of_sample(distribution, tile, view, noise=self._noise, index=index) for index in indices]
        own, shared = (torch.stack(numbers)[:, None].to(distribution.dtype) for numbers in zip(*drawn, strict=True))
        return own, shared

    def _noise_of_tile(
        self, distribution: LogitDistribution, tile: Tile, purpose: tuple[Hashable, ...], samples: Iterable[int]
    ) -> Tensor:
        """Numbers of the voxels of a tile, (K, 1, N, *T)."""
        channels, device = distribution.noise_channels, distribution.device
        drawn = [
            voxel_noise(tile, channels, noise=self._noise, sample=n, purpose=purpose, device=device) for n in samples
        ]
        return torch.stack(drawn)[:, None].to(distribution.dtype)

    def _shared_noise(self, distribution: LogitDistribution, count: int, purpose: tuple[Hashable, ...]) -> Tensor:
        """Numbers that all voxels of a sample share, (K, 1, M), drawn on the CPU."""
        generator, size = self._noise.generator(*purpose), (1, distribution.shared_noise_channels)
        drawn = [torch.randn(size, generator=generator, dtype=distribution.dtype) for _ in range(count)]
        return torch.stack(drawn).to(distribution.device)
