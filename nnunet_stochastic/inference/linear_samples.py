"""Whole samples of Gaussian logits with shared noise, drawn from what one pass over the tiles leaves.

In tile t and view v the logits of LowRank, of bases in volume scope and of Diagonal are linear in their noise, and the
noise z1(n) of a voxel and z2 of the image are the same in all of them:

    η_tv(n) = μ_tv(n) + σ_tv(n) ∘ z1(n) + P_tv(n) z2

So the blend of samples is the sample of the blend. With Δ the linear map of logits to log-ratios, and the blended
fields, each Σ_t w_t (1/V) Σ_v (·)_tv / Σ_t w_t,

    x(n) = Δμ(n) + Δ(σ(n) ∘ z1(n)) + ΔP(n) z2

are the log-ratios that ``SampleBlend`` has of the same noise, up to rounding. Kept are D + C + D M numbers of a voxel,
whatever the number of samples, and neither the network nor a tile's noise is needed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nnunet_stochastic.distributions import GaussianLogits, LogitDistribution
from nnunet_stochastic.inference.samples import BYTES_OF_SAMPLES, SampleDraw, shared_noise
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import Tile, View
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.inference.voxel_noise import voxel_noise
from nnunet_stochastic.outcomes import OutcomeSpace

__all__ = ["LinearBlend", "fits_into_memory"]

_VOXELS = 1 << 17  # of a sample at once; on a CPU the temporaries stay in its cache
_VOXELS_ON_DEVICE = 1 << 22


def fits_into_memory(
    distribution: LogitDistribution, space: OutcomeSpace, shape: Sequence[int], *, members: int = 1
) -> bool:
    """Whether a member's samples can be drawn after the pass: noise of the form above, and fields within 2 GiB.

    Parameters
    ----------
    distribution
        Distribution p(η) of a tile.
    space
        Meaning of its logits.
    shape
        Spatial shape *S of the image.
    members
        Number of members whose fields are kept together.
    """
    if not (isinstance(distribution, GaussianLogits) and distribution.has_diagonal_noise):
        return False
    fields = _num_fields(space, distribution.shared_noise_channels)
    return members * 4 * fields * shape[0] * shape[1] * shape[2] <= BYTES_OF_SAMPLES


class LinearBlend:
    """Samples of one member, all of which are of the same views.

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
    num_shared
        Numbers M that all voxels of a sample share.
    """

    def __init__(
        self,
        draws: Sequence[SampleDraw],
        space: OutcomeSpace,
        stitching: Stitching,
        *,
        noise: NoiseKey,
        num_shared: int,
    ) -> None:
        self._draws, self._space, self._stitching, self._noise = draws, space, stitching, noise
        self._num_shared = num_shared
        self._fields = stitching.zeros(_num_fields(space, num_shared))

    def add_view(self, distribution: LogitDistribution, tile: Tile, view: View) -> None:
        """Add a view of a tile, if the samples are of it."""
        if view not in self._draws[0].views:
            return
        assert isinstance(distribution, GaussianLogits), "other distributions do not fit"
        space = self._space
        std, factor = distribution.noise_factors()
        fields = torch.cat(
            [space.log_ratios(distribution.mean_logits[0]), std[0].float(), space.log_ratios(factor[0]).flatten(0, 1)]
        )
        self._stitching.add(self._fields, tile, view.undo(fields) / len(self._draws[0].views))

    def samples(self) -> Iterator[tuple[int, Tensor]]:
        """Index of each sample and its log-ratios (D, *S), once all views of all tiles have been added; only once."""
        fields = self._stitching.finish(self._fields)
        free, logits = self._space.num_log_ratios, self._space.num_logits
        mean, std, factor = fields.split([free, logits, free * self._num_shared])
        factor = factor.unflatten(0, (free, self._num_shared))
        shape = fields.shape[1:]
        on_cpu = fields.device.type == "cpu"
        planes = max(1, (_VOXELS if on_cpu else _VOXELS_ON_DEVICE) // (shape[1] * shape[2]))
        for draw in self._draws:
            shared = shared_noise(self._num_shared, noise=self._noise, sample=draw.index).to(fields.device)
            sample = mean.clone()
            for start in range(0, shape[0], planes):
                slab = slice(start, min(start + planes, shape[0]))
                place = (slab, slice(0, shape[1]), slice(0, shape[2]))
                own = voxel_noise(place, logits, noise=self._noise, sample=draw.index, device=fields.device)
                part = sample[:, slab].add_(self._space.log_ratios(own.mul_(std[:, slab])))
                for number, column in zip(shared, factor.unbind(1), strict=True):
                    part.addcmul_(column[:, slab], number)
            yield draw.index, sample


def _num_fields(space: OutcomeSpace, num_shared: int) -> int:
    """D + C + D M."""
    return space.num_log_ratios * (1 + num_shared) + space.num_logits
