"""Tiles and views of a member, averaged as probabilities: where there is no law per voxel to blend, and on request.

The Prob. U-Net, diffusion, test-time augmentation, and Gaussian models of many classes have no such law. With K_tv
samples p_tvk in tile t and view v, and nnU-Net's weights w_t,

    p̄ = Σ_t w_t p̄_t / Σ_t w_t          p̄_t = Σ_v Σ_k p_tvk / Σ_v K_tv

The noise is a function of (case, tile, view) and, where it is one draw for a whole image, of (case, view): all members
have the same, so those that agree have no epistemic uncertainty, and no result depends on the order of anything.
Samples of a view come in antithetic pairs, z and -z. What H(p̄) still lacks because K is small is estimated to first
order.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping

import torch
from torch import Tensor

from nnunet_stochastic.distributions import GaussianLogits, LogitDistribution
from nnunet_stochastic.inference.collector import MemberCollector
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import Tile, View, tile_start
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.inference.voxel_noise import voxel_noise
from nnunet_stochastic.moments import MomentSums
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.prediction_choices import SettledEstimator
from nnunet_stochastic.sample_sums import SampleSums
from nnunet_stochastic.voxel_law import VoxelMoments, exact_moments, fields_of_law

__all__ = ["ProbabilityAverage"]

_SAMPLED_CHANNELS = 16  # channels of logits sampled at once


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
        estimator: SettledEstimator,
        corrected: bool,
        expected_entropy: bool,
        second_moment: bool,
        noise: NoiseKey,
    ) -> None:
        self.space, self._noise = space, noise
        self._stitching = stitching
        self._samples_of_views = samples_of_views
        self._exact, self._plug_in = estimator == "exact", estimator == "plug_in"
        self._mean = stitching.zeros(space.num_channels)
        self._entropy = stitching.zeros() if expected_entropy else None
        self._square = stitching.zeros() if second_moment else None
        self._lost = stitching.zeros() if corrected else None
        self._member = ""
        self._tile_sums: SampleSums | None = None
        self._tiles_share_noise = False

    def start(self, member: str) -> None:
        """Begin with a member."""
        self._member = member
        for total in (self._mean, self._entropy, self._square, self._lost):
            if total is not None:
                total.zero_()

    def add_view(self, distribution: LogitDistribution, tile: Tile, view: View) -> None:
        """Add the samples of a view of the tile at hand."""
        if self._tile_sums is None:
            self._tile_sums = SampleSums(
                self.space,
                square=self._square is not None,
                entropy=self._entropy is not None,
                lost_entropy=self._lost is not None,
            )
        if self._exact:
            assert isinstance(distribution, GaussianLogits), "other distributions have no exact moments"
            fields = view.undo(fields_of_law(distribution, self.space))
            self._tile_sums.add_expectation(exact_moments(self.space, fields))
            return
        self._tiles_share_noise = distribution.shared_noise_channels > 0
        for unit in self._units(distribution, tile, view):
            self._tile_sums.add(unit, flipped_axes=view.flipped_axes)
        self._tile_sums.close_view()

    def close_tile(self, tile: Tile) -> None:
        """Add the tile at hand, whose views have all been added."""
        assert self._tile_sums is not None, "a tile has at least one view"
        moments, self._tile_sums = self._tile_sums.moments(), None
        sums = ((self._mean, moments.mean), (self._entropy, moments.entropy), (self._square, moments.square))
        for total, values in sums:
            if total is not None and values is not None:
                self._stitching.add(total, tile, values)
        if self._lost is not None and moments.lost_entropy is not None:
            self._stitching_of_errors.add(self._lost, tile, moments.lost_entropy)

    def finish(self) -> None:
        """All tiles of the member have been added."""
        for total in (self._mean, self._entropy, self._square):
            if total is not None:
                self._stitching.finish(total)
        if self._lost is not None:
            self._stitching_of_errors.finish(self._lost)

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
        return self.space.log_ratios_of_probabilities(self._mean)

    def add_moments_to(self, sums: MomentSums) -> None:
        """Add the member."""
        moments = VoxelMoments(
            # Rounding may lift a weighted mean of ones above 1, where the binary entropy is minus infinity.
            self._mean.flatten(1).clamp_(max=1),
            *(None if total is None else total.view(-1) for total in (self._entropy, self._square, self._lost)),
        )
        sums.add(slice(0, moments.mean.shape[1]), moments)

    def _units(self, distribution: LogitDistribution, tile: Tile, view: View) -> Iterator[list[Tensor]]:
        """Logits (C, *T) of the samples of a view, independent ones apart and antithetic pairs together."""
        key = ("sample", *([self._member] if self._plug_in else []), view.flipped_axes, *view.shift)
        shared = self._noise.generator(*key)
        # A few samples at a time: all K at once would make the memory grow with K, but LowRank reads its factor only
        # once per call.
        at_once = max(1, _SAMPLED_CHANNELS // distribution.shape[1])
        at_once += at_once % 2
        num_samples, drawn = self._samples_of_views[view], 0
        for start in range(0, num_samples, at_once):
            count = min(at_once, num_samples - start)
            draws = count if self._plug_in else (count + 1) // 2
            noise = self._noise_of_tile(distribution, tile, (*key, tile_start(tile)), range(drawn, drawn + draws))
            shared_noise = _shared_noise(distribution, draws, shared)
            drawn += draws
            if not self._plug_in:
                noise, shared_noise = (
                    torch.stack([numbers, -numbers], dim=1).flatten(0, 1)[:count] for numbers in (noise, shared_noise)
                )
            logits = distribution.transform(noise, shared_noise)[:, 0]
            size = 1 if self._plug_in else 2
            for first in range(0, count, size):
                yield list(logits[first : first + size])

    def _noise_of_tile(
        self, distribution: LogitDistribution, tile: Tile, purpose: tuple[Hashable, ...], samples: Iterable[int]
    ) -> Tensor:
        """Numbers of the voxels of a tile, (K, 1, N, *T)."""
        channels, device = distribution.noise_channels, distribution.device
        drawn = [
            voxel_noise(tile, channels, noise=self._noise, sample=sample, purpose=purpose, device=device)
            for sample in samples
        ]
        return torch.stack(drawn)[:, None].to(distribution.dtype)


def _shared_noise(distribution: LogitDistribution, num_samples: int, generator: torch.Generator) -> Tensor:
    """Numbers that all voxels of a sample share, (K, 1, M), drawn on the CPU."""
    size = (num_samples, 1, distribution.shared_noise_channels)
    return torch.randn(size, generator=generator, dtype=distribution.dtype).to(distribution.device)
