"""Tiles and mirrored views of a member, blended as laws: one law per voxel, of which moments are taken once.

With the fields μ and L of ``voxel_law`` in tile t and view v, and nnU-Net's weights w_t,

    μ = Σ_t w_t (1/V) Σ_v μ_tv / Σ_t w_t          L = Σ_t w_t (1/V) Σ_v L_tv / Σ_t w_t

so the mean of a deterministic network is nnU-Net's own. Noise is needed where moments are not exact, and there it
belongs to the voxel: a shifted lattice, the same for all members, or independent draws of a member. Voxels that are all
but certain of one of several classes take no samples of the lattice (``certain_voxels``).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nnunet_stochastic.certain_voxels import MOST_S, MOST_SH, certain_class, moments_of_certain
from nnunet_stochastic.distributions import GaussianLogits, LogitDistribution
from nnunet_stochastic.distributions.lattice import lattice_nodes, lattice_points, tail_spread
from nnunet_stochastic.inference.collector import MemberCollector, OnLogits
from nnunet_stochastic.inference.lattice_shifts import LATTICE, lattice_shifts
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import Tile, View
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.kernels import use_kernels
from nnunet_stochastic.moments import MomentSums
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.prediction_choices import SettledEstimator
from nnunet_stochastic.voxel_law import (
    MAX_CLASSES,
    VoxelMoments,
    exact_moments,
    fields_of_law,
    noise_free_moments,
    num_fields,
    sampled_moments,
)

__all__ = ["LawBlend", "has_voxel_law"]

_BLOCK = 1 << 17  # voxels whose noise is one draw; on a CPU the temporaries of a block stay in its cache
_BLOCKS_AT_ONCE = 16  # on other devices


def has_voxel_law(space: OutcomeSpace, *, has_samples: bool, gaussian: bool) -> bool:
    """Whether a member's prediction is one Gaussian law per voxel that can be kept."""
    return not has_samples or (gaussian and (space.scalar or space.num_logits <= MAX_CLASSES))


class LawBlend(MemberCollector):
    """The blended law of one member at a time.

    Parameters
    ----------
    space
        What the logits mean.
    stitching
        How tiles become an image.
    num_views
        Number of views V of each tile.
    has_samples
        False for deterministic networks.
    estimator
        How moments are taken: ``"exact"``, or from K samples, of a lattice that all members share (``"mc"``) or
        independent ones of each member (``"plug_in"``).
    num_samples
        Number of samples K.
    noise
        Key of the image's noise.
    """

    def __init__(
        self,
        space: OutcomeSpace,
        stitching: Stitching,
        *,
        num_views: int,
        has_samples: bool,
        estimator: SettledEstimator,
        num_samples: int,
        noise: NoiseKey,
    ) -> None:
        self.space, self._has_samples = space, has_samples
        self._estimator, self._num_samples, self._noise = estimator, num_samples, noise
        self._stitching, self._num_views = stitching, num_views
        self.fields = stitching.zeros(num_fields(space, has_samples=has_samples))
        """Fields of the law: (D + F, *S), weighted sums until ``finish`` is called."""
        self._views: Tensor | None = None
        self._member = ""

    def start(self, member: str, index: int) -> None:
        """Begin with a member, of a name and an index."""
        self._member = member
        self.fields.zero_()

    def add_view(
        self, distribution: LogitDistribution, tile: Tile, view: View, *, on_logits: OnLogits | None = None
    ) -> None:
        """Add a view of the tile at hand, which is Gaussian; no logits are drawn of it."""
        if not isinstance(distribution, GaussianLogits):
            raise TypeError(f"laws are blended where they are Gaussian, got {type(distribution).__name__}")
        fields = view.undo(fields_of_law(distribution, self.space))
        self._views = fields if self._views is None else self._views.add_(fields)

    def close_tile(self, tile: Tile) -> None:
        """Add the tile at hand, whose views have all been added."""
        assert self._views is not None, "a tile has at least one view"
        self._stitching.add(self.fields, tile, self._views / self._num_views)
        self._views = None

    def finish(self) -> None:
        """All tiles of the member have been added."""
        self._stitching.finish(self.fields)

    @property
    def num_bytes(self) -> int:
        """Memory of the fields."""
        return self.fields.nbytes

    @property
    def prediction(self) -> Tensor:
        """Of the member, once it has been finished: its law."""
        return self.fields

    @property
    def log_ratios(self) -> Tensor:
        """Of the member, once it has been finished: the mean μ of its law."""
        return self.fields[: self.space.num_log_ratios]

    @property
    def hands_over_moments(self) -> bool:
        """Where a kernel has them of all voxels at once, without temporaries of that size."""
        return self._has_samples and self._estimator != "plug_in" and use_kernels(self.fields)

    def add_moments_to(self, sums: MomentSums) -> None:
        """Take the moments of every voxel and add them."""
        fields = self.fields.flatten(1)
        voxels = fields.shape[1]
        if self.hands_over_moments and sums.adopts:
            sums.adopt(self._moments(fields, slice(0, voxels)))
            return
        step = _BLOCK * (1 if fields.device.type == "cpu" else _BLOCKS_AT_ONCE)
        for start in range(0, voxels, step):
            part = slice(start, min(start + step, voxels))
            sums.add(part, self._moments(fields[:, part], part))

    def _moments(self, piece: Tensor, part: slice) -> VoxelMoments:
        if not self._has_samples:
            return noise_free_moments(self.space, piece)
        if self._estimator == "exact":
            return exact_moments(self.space, piece)
        if self._estimator == "plug_in":
            return sampled_moments(self.space, piece, self._independent_draws(piece, part))
        if use_kernels(piece):
            return self._moments_by_kernel(piece, part)
        shift = lattice_shifts(
            range(part.start, part.stop), self.space.num_log_ratios, noise=self._noise, device=piece.device
        )
        if self.space.scalar:
            return sampled_moments(self.space, piece, self._lattice(shift))
        return self._moments_of_classes(piece, shift)

    def _moments_by_kernel(self, piece: Tensor, part: slice) -> VoxelMoments:
        """Moments by the samples of the lattice, in one pass over the fields."""
        from nnunet_stochastic.kernels.lattice_moments import lattice_moments

        dimensions = 1 if self.space.scalar else self.space.num_log_ratios
        return VoxelMoments(
            *lattice_moments(
                piece,
                lattice_points(self._num_samples, dimensions).to(piece),
                spread=tail_spread(self._num_samples, dimensions),
                first_voxel=part.start,
                key=self._noise.words(LATTICE),
                scalar=self.space.scalar,
                regions=self.space.regions,
                certain=(MOST_S, MOST_SH),
            )
        )

    def _moments_of_classes(self, piece: Tensor, shift: Tensor) -> VoxelMoments:
        """Moments in closed form where a class is all but certain, else by samples."""
        space, certain = self.space, certain_class(self.space, piece)
        if piece.device.type != "cpu":  # a GPU would wait until it is known which voxels these are
            moments = sampled_moments(space, piece, self._lattice(shift))
            for k in range(space.num_logits):
                moments = _replaced(moments, moments_of_certain(space, piece, k), certain == k)
            return moments
        if bool((certain < 0).all()):
            return sampled_moments(space, piece, self._lattice(shift))
        moments = VoxelMoments(piece.new_empty(space.num_channels, piece.shape[1]), *piece.new_empty(2, piece.shape[1]))
        for k in range(-1, space.num_logits):
            index = (certain == k).nonzero().squeeze(1)
            if not len(index):
                continue
            fields = piece.index_select(1, index)
            if k >= 0:
                found = moments_of_certain(space, fields, k)
            else:
                found = sampled_moments(space, fields, self._lattice(shift.index_select(1, index)))
            moments.mean[:, index] = found.mean
            moments.of_samples("entropy")[index] = found.of_samples("entropy")
            moments.of_samples("square")[index] = found.of_samples("square")
        return moments

    def _lattice(self, shift: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        if self.space.scalar:  # each log-ratio is looked at alone, so each is stratified by itself
            return ((numbers[0], weight) for numbers, weight in lattice_nodes(self._num_samples, shift[None]))
        return lattice_nodes(self._num_samples, shift)

    def _independent_draws(self, piece: Tensor, part: slice) -> Iterator[tuple[Tensor, float]]:
        free = self.space.num_log_ratios
        generators = [(self._noise.generator("voxel", self._member, block), size) for block, size in _blocks_of(part)]
        for _ in range(self._num_samples):
            draws = [torch.randn((free, size), generator=generator) for generator, size in generators]
            yield torch.cat(draws, dim=1).to(piece.device), 1.0


def _blocks_of(part: slice) -> Iterator[tuple[int, int]]:
    """Index and size of the blocks of a range of voxels that starts with a block."""
    for start in range(part.start, part.stop, _BLOCK):
        yield start // _BLOCK, min(_BLOCK, part.stop - start)


def _replaced(moments: VoxelMoments, by: VoxelMoments, where: Tensor) -> VoxelMoments:
    """Moments, of other ones the voxels ``where``, (n)."""
    return VoxelMoments(
        torch.where(where, by.mean, moments.mean),
        torch.where(where, by.of_samples("entropy"), moments.of_samples("entropy")),
        torch.where(where, by.of_samples("square"), moments.of_samples("square")),
    )
