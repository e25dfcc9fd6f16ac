"""Tiles to an image: means with weights, Σ_t w_t x_t / Σ_t w_t, in sums that stay where they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nnunet_stochastic.inference.sliding_window import Tile, send

__all__ = ["Stitching"]

_PLANES_AT_ONCE = 16  # of the weights on their way to the sums' device


@dataclass(frozen=True)
class Stitching:
    """The weights of the tiles of an image.

    Parameters
    ----------
    weights
        Weights w of a tile, (*T), where the sums are kept.
    total_weight
        Sum Σ_t w_t of the weights, (*S), positive. It may lie elsewhere: on the host it takes none of a GPU's memory.
    """

    weights: Tensor
    total_weight: Tensor

    @cached_property
    def of_variances(self) -> Stitching:
        """For variances of tiles whose errors are independent: Σ_t w_t² x_t / (Σ_t w_t)²."""
        return Stitching(self.weights.square(), self.total_weight.square())

    def zeros(self, *channels: int, dtype: torch.dtype | None = None) -> Tensor:
        """An empty sum, (*channels, *S), float32 by default."""
        return self.weights.new_zeros((*channels, *self.total_weight.shape), dtype=dtype)

    def shares(self, tile: Tile) -> Tensor:
        """w_t / Σ_t w_t of a tile, (*T)."""
        return self.weights / send(self.total_weight[tile], self.weights.device)

    def add(self, total: Tensor, tile: Tile, values: Tensor) -> None:
        """Add a tile (…, *T), on any device, to a sum (…, *S)."""
        index = (..., *tile)
        total[index] += values.to(self.weights.device) * self.weights

    def finish(self, total: Tensor) -> Tensor:
        """The mean, in the memory of the sum, once all tiles have been added."""
        planes = total.split(_PLANES_AT_ONCE, dim=-self.total_weight.ndim)
        for part, weight in zip(planes, self.total_weight.split(_PLANES_AT_ONCE), strict=True):
            part.div_(weight.to(total.device))
        return total
