"""Sums over the samples of one member in one tile, for models whose probabilities have to be averaged.

Samples of a view come in units that are independent of each other: one sample, or a pair whose noise is z and -z
(antithetic). With S_u the sum of the probabilities of unit u, m_u its number of samples, p̄_v the mean of view v, U_v
the units and K_v the samples in it, and K samples in all,

    p̄ = (1/K) Σ_u S_u          Var[p̄] = (1/K²) Σ_v U_v / (U_v - 1) · Σ_(u in v) (S_u - m_u p̄_v)²

Views that disagree are no noise of sampling. A view of a single unit says nothing of it, and counts with the variance
per sample of the others; where there are none the variance is not known. It says how much H(p̄) is too small on average,
to first order (``OutcomeSpace.entropy_lost_by_sampling``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.voxel_law import VoxelMoments

__all__ = ["SampleSums", "ViewTotals"]


@dataclass(frozen=True)
class ViewTotals:
    """Sums over the samples of one view.

    Parameters
    ----------
    probability
        Σ_k p_k, (P, *T).
    square, entropy
        Σ_k Σ_c p_kc² and Σ_k H(p_k), (*T); ``None`` where they are not wanted.
    spread
        Estimate of Var[Σ_k p_k], (P, *T); ``None`` where it is not wanted or not known.
    count
        Number of samples.
    """

    probability: Tensor
    square: Tensor | None
    entropy: Tensor | None
    spread: Tensor | None
    count: int


class SampleSums:
    """Sums over samples.

    Parameters
    ----------
    space
        Meaning of the logits.
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
        self._spread: Tensor | None = None  # (P, *T), K² Var[p̄] of the views of several units
        self._spread_count = 0  # their samples
        self._view: _ViewSums | None = None  # of the view at hand

    def add(self, unit: Sequence[Tensor], *, flipped_axes: tuple[int, ...] = ()) -> None:
        """Add the samples of a unit.

        Parameters
        ----------
        unit
            Logits (C, *T) of one sample, or of two that are an antithetic pair.
        flipped_axes
            Spatial axes of the tile along which the view is flipped in which they were drawn.
        """
        total: Tensor | None = None
        for logits in unit:
            probabilities = self.space.probabilities(self.space.log_ratios(logits))
            if flipped_axes:
                probabilities = probabilities.flip([axis + 1 for axis in flipped_axes])
            if self._with_square:
                self._square = _accumulate(self._square, probabilities.square().sum(0))
            if self._with_entropy:
                self._entropy = _accumulate(self._entropy, self.space.entropy(probabilities))
            total = _accumulate(total, probabilities)
        if total is None:
            raise ValueError("a unit is one sample or an antithetic pair, got none")
        if self._with_lost_entropy:
            if self._view is None:
                self._view = _ViewSums(total, len(unit))
            else:
                self._view.add(total, len(unit))
        self._probability = _accumulate(self._probability, total)
        self.count += len(unit)

    def close_view(self) -> None:
        """Go on with another view: its samples may have another mean."""
        view, self._view = self._view, None
        if view is not None and view.num_units > 1:
            self._spread = _accumulate(self._spread, view.spread())
            self._spread_count += view.count

    def add_view(self, view: ViewTotals, *, flipped_axes: tuple[int, ...] = ()) -> None:
        """Add all samples of a view, with the sums of this one; axes as in ``add``."""

        def unflipped(values: Tensor) -> Tensor:
            axes = [axis - (view.probability.ndim - 1) for axis in flipped_axes]  # T is last
            return values.flip(axes) if axes else values

        self._probability = _accumulate(self._probability, unflipped(view.probability))
        if view.square is not None:
            self._square = _accumulate(self._square, unflipped(view.square))
        if view.entropy is not None:
            self._entropy = _accumulate(self._entropy, unflipped(view.entropy))
        if view.spread is not None:
            self._spread = _accumulate(self._spread, unflipped(view.spread))
            self._spread_count += view.count
        self.count += view.count

    def add_expectation(self, moments: VoxelMoments) -> None:
        """Add what a sample is expected to add: the moments (P, *T) and (*T) of its law."""
        self._probability = _accumulate(self._probability, moments.mean)
        if self._with_square:
            self._square = _accumulate(self._square, moments.of_samples("square"))
        if self._with_entropy:
            self._entropy = _accumulate(self._entropy, moments.of_samples("entropy"))
        self.count += 1

    def moments(self) -> VoxelMoments:
        """Averages over the samples, of shapes (P, *T) and (*T)."""
        self.close_view()
        if self._probability is None:
            raise ValueError("moments of no samples are not defined: add at least one")
        mean = self._probability / self.count
        lost_entropy = None
        if self._spread is not None:
            # Var[p̄] is that of the known views, as if all samples varied as theirs do: count / spread_count of it.
            variance = self._spread / (self.count * self._spread_count)
            lost_entropy = self.space.entropy_lost_by_sampling(mean, variance)
        return VoxelMoments(
            mean,
            None if self._entropy is None else self._entropy / self.count,
            None if self._square is None else self._square / self.count,
            lost_entropy,
        )


class _ViewSums:
    """Sums over the units of one view, (P, *T), from its first unit on."""

    def __init__(self, unit: Tensor, size: int) -> None:
        self.count, self.num_units = size, 1
        self._squared_sizes = size**2
        self._total = unit.clone()  # Σ_u S_u
        self._squares = unit.square()  # Σ_u S_u²
        self._weighted = unit * size  # Σ_u m_u S_u

    def add(self, unit: Tensor, size: int) -> None:
        self._total += unit
        self._squares += unit.square()
        self._weighted += unit * size
        self.count += size
        self.num_units += 1
        self._squared_sizes += size**2

    def spread(self) -> Tensor:
        """Estimate of Var[Σ_u S_u]."""
        mean = self._total / self.count
        deviations = self._squares - 2 * mean * self._weighted + self._squared_sizes * mean.square()
        # The difference of rounded terms may fall below 0 where all samples agree.
        return deviations.mul_(self.num_units / (self.num_units - 1)).clamp_(min=0)


def _accumulate(total: Tensor | None, term: Tensor) -> Tensor:
    return term if total is None else total.add_(term)
