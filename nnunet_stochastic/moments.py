"""Running sums over the members of an image: E[p], E[p²] and E[H(p)] at each voxel.

With p̄_e the predictive mean of member e, and E_e[·] the expectation over its aleatoric samples,

    p̄    = (1/E) Σ_e p̄_e                 predictive mean
    E[H] = (1/E) Σ_e H(p̄_e)              for E > 1
         = E_1[H(p)]                     for E = 1: the aleatoric samples stand in for members
    E[p²] = (1/E) Σ_e E_e[p²]            for members without samples that is (1/E) Σ_e p̄_e²

All are averages with convex weights, hence H(p̄) >= E[H] and E[p²] >= p̄² hold at every voxel. Only sums are kept, in
float32: memory is the same for any number of samples and members.

Where there are many classes a GPU keeps p̄ of one member in half precision, as numbers in proportion to p̄: they are
divided by their sum when p̄ is asked for. With ``HALF_UNIT`` for 1, each tile and view that sees a voxel rounds p̄ to
2^-11 of itself, and to 2e-12 K.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import EllipsisType

import torch
from torch import Tensor

from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.voxel_law import VoxelMoments

__all__ = ["HALF_UNIT", "MomentSums", "Moments", "normalised"]

#: What stands for probability 1 in half precision, whose greatest number is twice that.
HALF_UNIT = 2.0**15
_LEAST_HALF = 2.0**-24  # its least number, and what stands for 0


def normalised(parts: Tensor) -> Tensor:
    """Probabilities (P, …), float32, of numbers in half precision that are in proportion to them."""
    positive = parts.float().clamp_min_(_LEAST_HALF)
    return positive.div_(positive.sum(0))


@dataclass(frozen=True)
class Moments:
    """Moments of the probabilities at each voxel. The mean is given in one of two forms.

    Parameters
    ----------
    space
        Meaning of the channels.
    probabilities
        Predictive mean p̄, (P, *S), in [0, 1]; in half precision, numbers in proportion to it.
    log_ratios
        Log-ratios of p̄, (D, *S): what one deterministic network predicts.
    expected_entropy
        Expected entropy E[H], (*S), in nats; ``None`` where it was not asked for.
    second_moment
        Second moment E[Σ_c p_c²] over the P channels, (*S); ``None`` where it was not asked for.
    lost_entropy
        Estimate of what H(p̄) lacks because p̄ is a mean of a few samples, (*S), in nats; ``None`` is 0.
    samples_stand_in
        Whether E[H] is over the samples of one member.
    """

    space: OutcomeSpace
    probabilities: Tensor | None = None
    log_ratios: Tensor | None = None
    expected_entropy: Tensor | None = None
    second_moment: Tensor | None = None
    lost_entropy: Tensor | None = None
    samples_stand_in: bool = False

    def __post_init__(self) -> None:
        if (self.probabilities is None) == (self.log_ratios is None):
            raise ValueError("the predictive mean is given as probabilities or as log_ratios, one of the two")

    @property
    def shape(self) -> tuple[int, ...]:
        """*S."""
        field = self.log_ratios if self.probabilities is None else self.probabilities
        assert field is not None
        return tuple(field.shape[1:])

    @property
    def mean(self) -> Tensor:
        """p̄, (P, *S)."""
        if self.probabilities is None:
            return self.space.probabilities(self.mean_log_ratios)
        return normalised(self.probabilities) if self.in_half_precision else self.probabilities

    @property
    def in_half_precision(self) -> bool:
        """Whether the mean is kept in half precision: ``mean`` and ``mean_log_ratios`` take twice its memory anew."""
        return self.probabilities is not None and self.probabilities.dtype == torch.half

    @property
    def mean_log_ratios(self) -> Tensor:
        """Log-ratios of p̄, (D, *S), finite."""
        return self.space.log_ratios_of_probabilities(self.mean) if self.log_ratios is None else self.log_ratios

    def cropped(self, voxels: tuple[slice, ...]) -> Moments:
        """The moments of a part of the image."""
        index: tuple[EllipsisType | slice, ...] = (..., *voxels)

        def crop(field: Tensor | None) -> Tensor | None:
            return None if field is None else field[index]

        return replace(
            self,
            probabilities=crop(self.probabilities),
            log_ratios=crop(self.log_ratios),
            expected_entropy=crop(self.expected_entropy),
            second_moment=crop(self.second_moment),
            lost_entropy=crop(self.lost_entropy),
        )


class MomentSums:
    """Sums over the members of one image.

    Add all voxels of the first member, go on with the next, and take ``moments`` at the end.

    Parameters
    ----------
    space
        Meaning of the channels.
    shape
        Spatial shape *S of the image.
    num_members
        Number E of members, at least 1.
    has_samples
        Whether a member has aleatoric samples; False for deterministic networks.
    expected_entropy, second_moment, lost_entropy
        Whether to keep these moments besides the mean.
    adopts
        Whether the moments of the only member are kept where they are, see ``adopt``: no sums are made.
    device
        Device that keeps the sums.
    """

    def __init__(
        self,
        space: OutcomeSpace,
        shape: tuple[int, ...],
        *,
        num_members: int = 1,
        has_samples: bool = True,
        expected_entropy: bool = True,
        second_moment: bool = True,
        lost_entropy: bool = False,
        adopts: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        if num_members < 1:
            raise ValueError(f"num_members must be at least 1, got {num_members}")
        if num_members == 1 and not has_samples and (expected_entropy or second_moment):
            raise ValueError("one deterministic member has neither aleatoric samples nor other members to compare with")
        self.space, self.num_members, self.has_samples = space, num_members, has_samples
        self._shape = tuple(shape)
        self.adopts = adopts
        self._wants_entropy, self._wants_square, self._wants_lost = expected_entropy, second_moment, lost_entropy
        self._mean: Tensor | None = None
        self._entropy: Tensor | None = None
        self._square: Tensor | None = None
        self._lost: Tensor | None = None
        if not adopts:
            self._mean = torch.zeros((space.num_channels, *shape), device=device)
            self._entropy = torch.zeros(shape, device=device) if expected_entropy else None
            self._square = torch.zeros(shape, device=device) if second_moment else None
            self._lost = torch.zeros(shape, device=device) if lost_entropy else None
        self._added = 0

    def add(self, voxels: slice, moments: VoxelMoments) -> None:
        """Add some voxels of a member: a range of the image's voxels in the order of memory, and their moments."""
        if self._mean is None:
            raise ValueError("these sums were made to adopt the moments of a member (adopts): none can be added")
        self._mean.flatten(1)[:, voxels] += moments.mean
        if self._entropy is not None:
            entropy = moments.of_samples("entropy") if self.num_members == 1 else self.space.entropy(moments.mean)
            self._entropy.view(-1)[voxels] += entropy
        if self._square is not None:
            square = moments.of_samples("square") if self.has_samples else moments.mean.square().sum(0)
            self._square.view(-1)[voxels] += square
        if self._lost is not None and moments.lost_entropy is not None:
            self._lost.view(-1)[voxels] += moments.lost_entropy
        self._added += moments.mean.shape[1]

    def adopt(self, moments: VoxelMoments) -> None:
        """Take all voxels of the only member, whose moments stay where they are, the mean in half precision or not."""
        if self.num_members > 1 or self._mean is not None:
            raise ValueError("sums adopt the moments of one member, if they were made for that (adopts)")
        self._mean = moments.mean.view(-1, *self._shape)
        if self._wants_entropy:
            self._entropy = moments.of_samples("entropy").view(self._shape)
        if self._wants_square:
            self._square = moments.of_samples("square").view(self._shape)
        if self._wants_lost:
            lost = moments.lost_entropy
            self._lost = self._mean.new_zeros(self._shape, dtype=torch.float32) if lost is None else lost
            self._lost = self._lost.view(self._shape)
        self._added = moments.mean.shape[1]

    def moments(self) -> Moments:
        """The moments, once all voxels of all members have been added. Uses the sums' memory: call it once."""
        expected = self.num_members * math.prod(self._shape)
        if self._mean is None or self._added != expected:
            raise ValueError(f"{self._added} voxels of members were added, and {expected} are needed")
        for total in (self._mean, self._entropy, self._square, self._lost):
            if total is not None and self.num_members > 1:
                total /= self.num_members
        return Moments(
            self.space,
            # Rounding may lift a mean of ones above 1.
            probabilities=self._mean if self._mean.dtype == torch.half else self._mean.clamp_(max=1),
            expected_entropy=self._entropy,
            second_moment=self._square,
            lost_entropy=self._lost,
            samples_stand_in=self.num_members == 1,
        )
