"""Sums of the samples in one tile by a kernel: those of ``SampleSums``, for models with noise of each voxel."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from nnunet_stochastic.distributions import BasisGaussian, LogitDistribution
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import Tile, View, tile_start
from nnunet_stochastic.inference.voxel_noise import MAX_CHANNELS
from nnunet_stochastic.moments import HALF_UNIT
from nnunet_stochastic.outcomes import OutcomeSpace

__all__ = ["TileSums", "kernel_draws_samples"]


def kernel_draws_samples(distribution: LogitDistribution, space: OutcomeSpace) -> bool:
    """Whether the kernel has the samples of a distribution: exclusive classes of MoB or SingleBasis, all noise own.

    A voxel with more numbers than the noise has is left to ``voxel_noise``, which says so.
    """
    if not isinstance(distribution, BasisGaussian) or space.scalar:
        return False
    return distribution.projects_own_noise and distribution.noise_channels <= MAX_CHANNELS


class TileSums:
    """Sums over the antithetic samples of one tile.

    Parameters
    ----------
    like
        Mean logits of a view, (1, C, *T), whose shape and device the sums have.
    num_samples
        Number K of samples that the tile will have.
    in_half
        Whether Σ p is kept in half precision: ``HALF_UNIT`` / K times, so that it cannot leave its range.
    square, entropy, lost_entropy
        What to sum besides p, as for ``SampleSums``.
    """

    def __init__(
        self, like: Tensor, *, num_samples: int, in_half: bool, square: bool, entropy: bool, lost_entropy: bool
    ) -> None:
        shape, device = like.shape[1:], like.device
        self.tile_shape = shape[1:]
        self._shape = (shape[0], *(1,) * (4 - len(shape)), *shape[1:])
        self._unit = HALF_UNIT / num_samples if in_half else 1.0
        self._total = torch.zeros(self._shape, dtype=torch.half if in_half else torch.float32, device=device)
        # A correction of first order: eight binary digits suffice, with float32's range.
        self._spread = torch.zeros(self._shape, dtype=torch.bfloat16, device=device) if lost_entropy else None
        self._square = torch.zeros(self._shape[1:], device=device) if square else None
        self._entropy = torch.zeros(self._shape[1:], device=device) if entropy else None
        self._count = self._spread_count = 0

    def add_view(
        self,
        distribution: LogitDistribution,
        tile: Tile,
        view: View,
        num_samples: int,
        *,
        noise: NoiseKey,
        purpose: tuple[Hashable, ...],
    ) -> None:
        """Add the samples of a view."""
        from nnunet_stochastic.kernels.averaged_samples import add_samples_of_view

        assert isinstance(distribution, BasisGaussian)
        flat = len(self._shape) - 1 - len(self.tile_shape)  # 1 for a tile of a slice
        flipped = [False] * 3
        for axis in view.flipped_axes:
            flipped[axis + flat] = True
        bases = distribution.partition_bases[0].float()
        has_spread = self._spread is not None and num_samples > 2
        z, y, x = tile_start(tile)
        add_samples_of_view(
            self._total,
            self._spread if has_spread else None,
            self._square,
            self._entropy,
            parameters=(
                distribution.mean_logits[0].view(self._shape),
                distribution.diag_var[0].view(self._shape),
                distribution.basis_scale[0].view(-1, *self._shape[1:]),
                bases.view(*(1,) * flat, *bases.shape),
            ),
            num_samples=num_samples,
            start=(z, y, x),
            flipped=flipped,
            key=noise.words((*purpose, tile_start(tile))),
            numbers_of_sample=MAX_CHANNELS,
            unit=self._unit,
        )
        self._count += num_samples
        self._spread_count += num_samples if has_spread else 0

    def add_to(self, image: Tensor, weights: Tensor, tile: Tile) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Add the mean to the image's sum (C, *S) with weights (*T).

        Returns
        -------
        tuple of Tensor
            Averages of H(p) and Σ_c p_c², and what H(p̄) lacks, each (*T), ``None`` where not summed or not known.
        """
        from nnunet_stochastic.kernels.averaged_samples import add_tile_to_image

        z, y, x = tile_start(tile)
        lost = add_tile_to_image(
            image,
            self._total,
            self._spread if self._spread_count else None,
            weights.view(self._shape[1:]),
            (z, y, x),
            num_samples=self._count,
            num_spread=self._spread_count,
            unit=self._unit,
        )
        entropy, square = (None if field is None else field / self._count for field in (self._entropy, self._square))
        entropy, square, lost = (
            None if field is None else field.view(self.tile_shape) for field in (entropy, square, lost)
        )
        return entropy, square, lost
