"""Sums over the samples of one member in one tile, for models whose probabilities have to be averaged.

Samples come in units that are independent of each other: one sample, or a pair whose noise is z and -z (antithetic).
With S_u the sum of the probabilities of unit u, m_u its number of samples, U units and K samples,

    p̄ = (1/K) Σ_u S_u          Var[p̄] = U / (U - 1) · (1/K²) Σ_u (S_u - m_u p̄)²

The variance says how much H(p̄) is too small on average, to first order (``OutcomeSpace.entropy_lost_by_sampling``).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.voxel_law import VoxelMoments

__all__ = ["SampleSums"]


class SampleSums:
    """Sums over samples.

    Parameters
    ----------
    space
        What the logits mean.
    square, entropy
        Whether to sum Σ_c p_c² and H(p) too.
    lost_entropy
        Whether to estimate how much H(p̄) is too small.
    """

    def __init__(
        self, space: OutcomeSpace, *, square: bool = False, entropy: bool = False, lost_entropy: bool = False
    ) -> None:
        self.space = space
        self.count = 0
        self._with_square, self._with_entropy, self._with_lost_entropy = square, entropy, lost_entropy
        self._probability: Tensor | None = None  # (P, *T), Σ_k p_k
        self._square: Tensor | None = None  # (*T)
        self._entropy: Tensor | None = None  # (*T)
        self._unit_squares: Tensor | None = None  # (P, *T), Σ_u S_u²
        self._weighted_units: Tensor | None = None  # (P, *T), Σ_u m_u S_u
        self._num_units = self._squared_sizes = 0

    def add(self, unit: Sequence[Tensor], *, flipped_axes: tuple[int, ...] = ()) -> None:
        """Add the samples of a unit.

        Parameters
        ----------
        unit
            Logits (C, *T) of one sample, or of two that are an antithetic pair.
        flipped_axes
            Spatial axes of the tile along which the view is flipped in which they were drawn.
        """
        total = None
        for logits in unit:
            probabilities = self.space.probabilities(self.space.log_ratios(logits))
            if flipped_axes:
                probabilities = probabilities.flip([axis + 1 for axis in flipped_axes])
            if self._with_square:
                self._square = _accumulate(self._square, probabilities.square().sum(0))
            if self._with_entropy:
                self._entropy = _accumulate(self._entropy, self.space.entropy(probabilities))
            total = _accumulate(total, probabilities)
        if self._with_lost_entropy:
            self._unit_squares = _accumulate(self._unit_squares, total.square())
            self._weighted_units = _accumulate(self._weighted_units, total * len(unit))
        self._probability = _accumulate(self._probability, total)
        self.count += len(unit)
        self._num_units += 1
        self._squared_sizes += len(unit) ** 2

    def add_expectation(self, moments: VoxelMoments) -> None:
        """Add what a sample is expected to add: the moments (P, *T) and (*T) of its law."""
        self._probability = _accumulate(self._probability, moments.mean)
        if self._with_square:
            self._square = _accumulate(self._square, moments.square)
        if self._with_entropy:
            self._entropy = _accumulate(self._entropy, moments.entropy)
        self.count += 1

    def moments(self) -> VoxelMoments:
        """Averages over the samples, of shapes (P, *T) and (*T)."""
        mean = self._probability / self.count
        return VoxelMoments(
            mean,
            None if self._entropy is None else self._entropy / self.count,
            None if self._square is None else self._square / self.count,
            self._lost_entropy(mean) if self._with_lost_entropy and self._num_units > 1 else None,
        )

    def _lost_entropy(self, mean: Tensor) -> Tensor:
        deviations = self._unit_squares - 2 * mean * self._weighted_units + self._squared_sizes * mean.square()
        factor = self._num_units / (self._num_units - 1) / self.count**2
        # The difference of rounded terms may fall below 0 where all samples agree.
        return self.space.entropy_lost_by_sampling(mean, deviations.mul_(factor).clamp_(min=0))


def _accumulate(total: Tensor | None, term: Tensor) -> Tensor:
    return term if total is None else total.add_(term)
