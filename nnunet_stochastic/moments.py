"""Running sums over samples, tiles and members: E[p], E[p²] and E[H(p)] at each voxel.

With members e, samples k of a member, and tiles t that overlap at a voxel with stitching weights w_t,

    p̄_e = Σ_t w_t (1/K) Σ_k p_etk / Σ_t w_t        predictive mean of a member
    p̄   = (1/E) Σ_e p̄_e                            predictive mean
    E[H] = (1/E) Σ_e H(p̄_e)                        for E > 1
         = Σ_t w_t (1/K) Σ_k H(p_tk) / Σ_t w_t     for E = 1: the aleatoric samples stand in for members
    E[p²] likewise over members, samples and tiles; over members alone if the members are deterministic

All of these are averages with convex weights, hence H(p̄) >= E[H] and E[p²] >= p̄² hold at every voxel, whatever the
tiling. Only sums are kept, in float32: memory is the same for any K, any E and any number of tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nnunet_stochastic.distributions import GaussianLogits, logistic_normal_moments

__all__ = ["MomentSums", "Moments", "OutcomeSpace", "SampleSums"]


@dataclass(frozen=True)
class OutcomeSpace:
    """What a voxel's logits are logits of: C exclusive classes (softmax), or C regions that may overlap (sigmoid).

    Probabilities are kept in P channels. The softmax of two classes is the sigmoid of their difference, so there P = 1,
    the foreground; in every other case P = C.

    Parameters
    ----------
    num_logits
        C, the network's output channels.
    regions
        True for region-based training.
    """

    num_logits: int
    regions: bool = False

    def __post_init__(self) -> None:
        if self.num_logits < (1 if self.regions else 2):
            raise ValueError(
                f"{self.num_logits} class has no uncertainty: the softmax over it is 1 everywhere. "
                "The dataset needs the background and at least one foreground label"
            )

    @property
    def two_classes(self) -> bool:
        """Whether P = 1 stands for two exclusive classes."""
        return not self.regions and self.num_logits == 2

    @property
    def num_channels(self) -> int:
        """P."""
        return 1 if self.two_classes else self.num_logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits (C, *S) to probabilities (P, *S), float32."""
        logits = logits.float()
        if self.two_classes:
            return torch.sigmoid(logits[1:] - logits[:1])
        return torch.sigmoid(logits) if self.regions else torch.softmax(logits, dim=0)

    def all_probabilities(self, probabilities: Tensor) -> Tensor:
        """Probabilities (P, *S) to one channel per class or region, (C, *S)."""
        return torch.cat([1 - probabilities, probabilities]) if self.two_classes else probabilities

    def entropy(self, probabilities: Tensor) -> Tensor:
        """Entropy of probabilities (P, *S) in nats, shape (*S); for regions the mean of their binary entropies."""
        total = torch.zeros_like(probabilities[0])
        for channel in probabilities:
            total += torch.special.entr(channel)
            if self.regions or self.two_classes:
                total += torch.special.entr(1 - channel)
        return total / self.num_channels if self.regions else total


class SampleSums:
    """Sums over the samples of one member in one tile, drawn or integrated over.

    Parameters
    ----------
    space
        What the logits mean.
    square, entropy
        Whether to sum Σ_c p_c² and H(p) too.
    """

    def __init__(self, space: OutcomeSpace, *, square: bool = False, entropy: bool = False) -> None:
        self.space = space
        self.count = 0
        self.probability: Tensor | None = None  # (P, *T)
        self.square: Tensor | None = None  # (*T)
        self.entropy: Tensor | None = None  # (*T)
        self._with_square, self._with_entropy = square, entropy

    def add(self, logits: Tensor, *, flipped_axes: tuple[int, ...] = ()) -> None:
        """Add one sample's logits (C, *T), drawn in a view that is flipped along these spatial axes of the tile."""
        probabilities = self.space.probabilities(logits)
        if flipped_axes:
            probabilities = probabilities.flip([axis + 1 for axis in flipped_axes])
        self.probability = _accumulate(self.probability, probabilities)
        if self._with_square:
            self.square = _accumulate(self.square, probabilities.square().sum(0))
        if self._with_entropy:
            self.entropy = _accumulate(self.entropy, self.space.entropy(probabilities))
        self.count += 1

    def add_expectation(
        self, distribution: GaussianLogits, *, weight: int = 1, flipped_axes: tuple[int, ...] = ()
    ) -> None:
        """Add what ``weight`` samples of a view are expected to add: the limit of their average, by quadrature.

        The logit of the foreground of two classes, x = η_1 - η_0 with variance Σ_00 + Σ_11 - 2 Σ_01, and the logit of a
        region are scalar Gaussians at each voxel. The softmax of more classes is no function of one.

        Parameters
        ----------
        distribution
            p(η) of one tile, mean_logits (1, C, *T).
        weight
            The number of samples that it stands for, at least 1.
        flipped_axes
            As for ``add``.
        """
        mean, space = distribution.mean_logits, self.space
        if not (space.regions or space.two_classes):
            raise ValueError(
                f"the exact estimator is for two classes and for regions, here are {space.num_logits} exclusive "
                "classes: use Monte Carlo, the estimator 'mc'"
            )
        if tuple(mean.shape[:2]) != (1, space.num_logits):
            raise ValueError(f"mean_logits must be (1, {space.num_logits}, *T), one tile, got {tuple(mean.shape)}")
        if weight < 1:
            raise ValueError(f"weight must be at least 1, got {weight}")
        mean = mean[0].float()
        if space.two_classes:
            mean = mean[1:] - mean[:1]
            covariance = distribution.voxel_covariance()[0].float()
            # Where the logits are strongly correlated, the difference of rounded terms may fall below 0.
            std = (covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]).clamp_(min=0).sqrt_()[None]
        else:
            std = distribution.voxel_variance()[0].float().sqrt()
        probability, square, entropy = (
            moment.flip([axis + 1 for axis in flipped_axes]) if flipped_axes else moment
            for moment in logistic_normal_moments(mean, std)
        )
        self.probability = _accumulate(self.probability, probability.mul_(weight))
        if self._with_square:
            self.square = _accumulate(self.square, square.sum(0).mul_(weight))
        if self._with_entropy:
            self.entropy = _accumulate(self.entropy, entropy.sum(0).mul_(weight / space.num_channels))
        self.count += weight


@dataclass(frozen=True)
class Moments:
    """Moments of the probabilities at each voxel.

    Parameters
    ----------
    space
        What the channels mean.
    mean
        p̄, (P, *S), in [0, 1].
    expected_entropy
        E[H], (*S), in nats; ``None`` where it was not asked for.
    second_moment
        E[Σ_c p_c²] over the P channels, (*S); ``None`` where it was not asked for.
    """

    space: OutcomeSpace
    mean: Tensor
    expected_entropy: Tensor | None = None
    second_moment: Tensor | None = None


class MomentSums:
    """Sums over the tiles and members of one image.

    Add every tile of the first member, call ``finish_member``, go on with the next, and take ``moments`` at the end.

    Parameters
    ----------
    space
        What the logits mean.
    shape
        *S, the image's.
    num_members
        E.
    random
        Whether a member has aleatoric samples; False for deterministic networks.
    expected_entropy, second_moment
        Which moments to keep besides the mean.
    device
        Where the sums are kept.
    """

    def __init__(
        self,
        space: OutcomeSpace,
        shape: tuple[int, ...],
        *,
        num_members: int = 1,
        random: bool = True,
        expected_entropy: bool = True,
        second_moment: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        if num_members < 1:
            raise ValueError(f"num_members must be at least 1, got {num_members}")
        if num_members == 1 and not random and (expected_entropy or second_moment):
            raise ValueError("one deterministic member has neither aleatoric samples nor other members to compare with")
        self.space, self.num_members, self.random = space, num_members, random
        self._finished = 0
        self._probability = torch.zeros((space.num_channels, *shape), device=device)
        self._mean = torch.zeros_like(self._probability) if num_members > 1 else self._probability
        self._weight = torch.zeros(shape, device=device)
        self._entropy = torch.zeros(shape, device=device) if expected_entropy else None
        self._square = torch.zeros(shape, device=device) if second_moment else None

    def tile_sums(self) -> SampleSums:
        """Empty sums for the samples of a tile."""
        return SampleSums(
            self.space,
            square=self._square is not None and self.random,
            entropy=self._entropy is not None and self.num_members == 1,
        )

    def add_tile(self, tile: tuple[slice | int, ...], sums: SampleSums, weight: Tensor) -> None:
        """Add a tile's samples.

        Parameters
        ----------
        tile
            Index of the tile in (*S).
        sums
            Its samples, at least one.
        weight
            w, stitching weights (*T), positive.
        """
        weight = weight.to(self._weight)
        per_sample = weight / sums.count
        self._probability[(slice(None), *tile)] += (sums.probability * per_sample.to(sums.probability.device)).to(
            weight.device
        )
        if self._finished == 0:  # the tiles, and so Σ w, are the same for every member
            self._weight[tile] += weight
        if sums.square is not None:
            self._square[tile] += sums.square.to(weight.device) * per_sample
        if sums.entropy is not None:
            self._entropy[tile] += sums.entropy.to(weight.device) * per_sample

    def finish_member(self) -> None:
        """Close the sums of a member whose tiles have all been added."""
        if self._finished == 0 and not bool((self._weight > 0).all()):
            raise ValueError("the tiles do not cover the image")
        # Rounding may lift a weighted mean of ones above 1, where the binary entropy is minus infinity.
        self._probability.div_(self._weight).clamp_(max=1)
        self._finished += 1
        if self.num_members == 1:
            return
        self._mean += self._probability
        if self._entropy is not None:
            self._entropy += self.space.entropy(self._probability)
        if self._square is not None and not self.random:
            for channel in self._probability:
                self._square.addcmul_(channel, channel)
        self._probability.zero_()

    def moments(self) -> Moments:
        """The moments, once all members are finished. Uses the sums' memory: call it once."""
        if self._finished != self.num_members:
            raise ValueError(f"{self._finished} of {self.num_members} members are finished")
        if self.num_members > 1:
            self._mean.div_(self.num_members).clamp_(max=1)
        if self._entropy is not None:
            self._entropy /= self.num_members if self.num_members > 1 else self._weight
        if self._square is not None:
            self._square /= self.num_members
            if self.random:
                self._square /= self._weight
        return Moments(self.space, self._mean, self._entropy, self._square)


def _accumulate(total: Tensor | None, term: Tensor) -> Tensor:
    return term if total is None else total.add_(term)
