"""What collects the tiles of a member, and gives their moments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from nnunet_stochastic.distributions import LogitDistribution
from nnunet_stochastic.inference.sliding_window import Tile, View
from nnunet_stochastic.moments import MomentSums

__all__ = ["MemberCollector", "OnLogits"]

#: Takes the index of a whole sample and its logits (C, *T) in a view of a tile.
OnLogits = Callable[[int, Tensor], object]


class MemberCollector(ABC):
    """Collects one member after the other: ``start``, then for each tile its views and ``close_tile``, ``finish``."""

    @abstractmethod
    def start(self, member: str, index: int) -> None:
        """Begin with a member, of a name and an index."""

    @abstractmethod
    def add_view(
        self, distribution: LogitDistribution, tile: Tile, view: View, *, on_logits: OnLogits | None = None
    ) -> None:
        """Add a view of the tile at hand; ``on_logits`` is called with what whole samples can be made of."""

    @abstractmethod
    def close_tile(self, tile: Tile) -> None:
        """Add the tile at hand, whose views have all been added."""

    @abstractmethod
    def finish(self) -> None:
        """All tiles of the member have been added."""

    @property
    @abstractmethod
    def num_bytes(self) -> int:
        """Memory of what it keeps of an image."""

    @property
    @abstractmethod
    def prediction(self) -> Tensor:
        """Prediction of the member, once it has been finished, (channels, *S)."""

    @property
    @abstractmethod
    def log_ratios(self) -> Tensor:
        """Log-ratios (D, *S) that the segmentation of the member is of, once it has been finished."""

    @property
    def hands_over_moments(self) -> bool:
        """Whether sums of one member can adopt its moments, which are tensors that nobody else needs."""
        return False

    @abstractmethod
    def add_moments_to(self, sums: MomentSums) -> None:
        """Add the member's moments, once it has been finished."""
