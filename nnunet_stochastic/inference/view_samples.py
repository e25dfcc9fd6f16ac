"""Samples of a view of a tile, of the classes that matter at each voxel.

Voxels that are all but certain of a class take no samples (``certain_voxels``), the others those of their relevant
classes (``relevant_classes``): logits are drawn of pairs of a voxel and a class, from the numbers that the voxel has
for that class in any case. Voxels of as many classes are summed together.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nnunet_stochastic.certain_voxels import are_certain, differences, moments_of_differences
from nnunet_stochastic.distributions import GaussianLogits, SomeLogits
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import Tile
from nnunet_stochastic.inference.voxel_noise import NoiseOfVoxels
from nnunet_stochastic.relevant_classes import relevant_classes
from nnunet_stochastic.sample_sums import ViewTotals

__all__ = ["NoiseOfView", "sampled_view"]

#: Picking out the classes of each voxel takes as long as so many samples of all logits, if all are picked.
_SAMPLES_TO_PICK = 16

_LOGITS_AT_ONCE = 1 << 20  # of all samples of some voxels: a few temporaries of this size are alive


@dataclass(frozen=True)
class NoiseOfView:
    """Noise of a view of a tile.

    Parameters
    ----------
    tile
        Indices of the tile in the image.
    key
        Key of the image's noise.
    purpose
        What the voxels' own numbers are for.
    shared
        Numbers of each antithetic pair of samples that all voxels share, (U, M).
    """

    tile: Tile
    key: NoiseKey
    purpose: Hashable
    shared: Tensor

    def own(self, voxels: Tensor, channels: Tensor) -> Tensor:
        """Numbers of voxels of the flattened tile in a channel each, (U, n)."""
        return self._drawn(NoiseOfVoxels(self.tile, voxels, channels), range(1))[:, 0]

    def own_channels(self, voxels: Tensor, channels: range) -> Tensor:
        """Numbers of voxels of the flattened tile in several channels, (U, channels, n)."""
        return self._drawn(NoiseOfVoxels(self.tile, voxels), channels)

    def _drawn(self, voxels: NoiseOfVoxels, channels: range) -> Tensor:
        return voxels.draw(channels, range(len(self.shared)), noise=self.key, purpose=self.purpose)


def sampled_view(
    distribution: GaussianLogits,
    noise: NoiseOfView,
    *,
    count: int,
    square: bool,
    entropy: bool,
    lost_entropy: bool,
) -> ViewTotals | None:
    """Sums over the samples of a view, antithetic pairs of which the last may be half.

    Parameters
    ----------
    distribution
        p(η) over exclusive classes, (1, C, *T), C at least 3.
    noise
        Noise of U pairs.
    count
        Number of samples, 2 U or 2 U - 1.
    square, entropy, lost_entropy
        What to sum besides p, as for ``SampleSums``.

    Returns
    -------
    ViewTotals
        ``None`` where the distribution has no law of some logits alone, or samples of all are cheaper.
    """
    _, num_classes, *shape = distribution.shape
    none = torch.zeros(0, dtype=torch.int64)
    if distribution.at(none, none) is None:
        return None
    pairs_of_samples = len(noise.shared)
    sums = _Sums(
        num_classes,
        distribution.mean_logits[0, 0].numel(),
        count=count,
        square=square,
        entropy=entropy,
        spread=lost_entropy and pairs_of_samples > 1,
    )
    found: list[tuple[Tensor, Tensor]] = []
    for part, mean, variance, classes in differences(distribution):
        certain = are_certain(mean, variance)
        known, others = (chosen.nonzero().squeeze(1) for chosen in (certain, ~certain))
        if len(known):
            sums.add_certain(known + part.start, mean[:, known], variance[:, known], classes[known])
            mean, variance, classes = mean[:, others], variance[:, others], classes[others]
        relevant, left_out = relevant_classes(mean, variance, classes)
        sums.expect(others + part.start, left_out, classes)
        place, of_place = relevant.T.nonzero().unbind(1)
        found.append(((others[place] + part.start).to(torch.int32), of_place.to(torch.int32)))
    voxels, classes = (torch.cat(parts) for parts in zip(*found, strict=True))
    del found
    if len(voxels) * _SAMPLES_TO_PICK > distribution.mean_logits.numel() * count:
        return None
    for group in _groups(voxels, classes, max(1, _LOGITS_AT_ONCE // (2 * pairs_of_samples))):
        law = distribution.at(group.voxels, group.classes)
        assert law is not None, "a distribution has a law of any logits, or of none"
        sums.add_sampled(group, law.mean.float(), _deviations(law, group, noise))
    return sums.totals(shape)


@dataclass(frozen=True)
class _Group:
    """Pairs of a voxel and a class, by the number J of the classes of a voxel.

    Parameters
    ----------
    blocks
        n voxels and their classes, (n) and (J, n), one block for each J.
    """

    blocks: list[tuple[Tensor, Tensor]]

    @cached_property
    def voxels(self) -> Tensor:
        """Of all pairs, block after block, those of a block class after class."""
        return torch.cat([voxels.expand(classes.shape).flatten() for voxels, classes in self.blocks])

    @cached_property
    def classes(self) -> Tensor:
        """Of all pairs, in the same order."""
        return torch.cat([classes.flatten() for _, classes in self.blocks])

    def of_blocks(self, values: Tensor) -> list[Tensor]:
        """Values (..., J, n) of each block, views of the values of all pairs, (..., pairs)."""
        shapes = [classes.shape for _, classes in self.blocks]
        parts = values.split([shape.numel() for shape in shapes], dim=-1)
        return [part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True)]


def _groups(voxels: Tensor, classes: Tensor, most: int) -> Iterator[_Group]:
    """Groups of some ``most`` pairs, in the order of the voxels: neighbours share counters of their noise."""
    ids, counts = voxels.unique_consecutive(return_counts=True)
    ends = counts.cumsum(0)
    starts = ends - counts
    first = 0
    while first < len(ids):
        last = int(torch.searchsorted(ends, int(starts[first]) + most, right=True))
        last = max(last, first + 1)
        of_group = counts[first:last]
        blocks = []
        for size in of_group.unique().tolist():
            chosen = first + (of_group == size).nonzero().squeeze(1)
            pairs = starts[chosen] + torch.arange(size, device=ids.device)[:, None]
            blocks.append((ids[chosen].long(), classes[pairs].long()))
        yield _Group(blocks)
        first = last


def _deviations(law: SomeLogits, group: _Group, noise: NoiseOfView) -> Tensor:
    """What the noise adds to the mean of each pair, (U, pairs)."""
    rank, factor = len(law.factor), law.factor.float()
    if law.std is not None:
        result = noise.own(group.voxels, group.classes).mul_(law.std.float())
    else:
        result = torch.zeros(len(noise.shared), len(law.mean))
    if law.first_channel is None:
        return result.addmm_(noise.shared.float(), factor) if rank else result
    channels = range(law.first_channel, law.first_channel + rank)
    voxels = [of_block for of_block, _ in group.blocks]
    numbers = noise.own_channels(torch.cat(voxels), channels).split([len(of_block) for of_block in voxels], dim=-1)
    for total, rows, of_block in zip(group.of_blocks(result), group.of_blocks(factor), numbers, strict=True):
        for row, number in zip(rows, of_block.unbind(1), strict=True):
            total.addcmul_(row, number[:, None])
    return result


class _Sums:
    """Sums over the samples of a view, voxels flattened."""

    def __init__(
        self, num_classes: int, num_voxels: int, *, count: int, square: bool, entropy: bool, spread: bool
    ) -> None:
        self._count = count
        self._probability = torch.zeros(num_classes, num_voxels)
        self._likeliest = torch.zeros(num_voxels, dtype=torch.int64)
        self._spread = torch.zeros(num_classes, num_voxels) if spread else None
        self._square = torch.zeros(num_voxels) if square else None
        self._entropy = torch.zeros(num_voxels) if entropy else None

    def add_certain(self, voxels: Tensor, mean: Tensor, variance: Tensor, classes: Tensor) -> None:
        """Voxels with what many samples would give, by mean and variance of their differences, and their classes."""
        moments = moments_of_differences(mean, variance, classes)
        self._probability[:, voxels] = moments.mean * self._count
        if self._square is not None:
            self._square[voxels] = moments.of_samples("square") * self._count
        if self._entropy is not None:
            self._entropy[voxels] = moments.of_samples("entropy") * self._count

    def expect(self, voxels: Tensor, left_out: Tensor, classes: Tensor) -> None:
        """Voxels that will be sampled: e_j of the classes that will not, 0 of the others, (C, n), and their k, (n)."""
        self._probability[:, voxels] = left_out
        self._likeliest[voxels] = classes

    def add_sampled(self, group: _Group, mean: Tensor, deviations: Tensor) -> None:
        """Voxels whose pairs have logits mean ± deviations, (pairs) and (U, pairs)."""
        is_half = self._count % 2 == 1
        values = zip(group.blocks, group.of_blocks(mean), group.of_blocks(deviations), strict=True)
        for (voxels, classes), centre, deviation in values:
            logits = torch.stack([centre + deviation, centre - deviation], dim=1)  # (U, 2, J, n)
            logits -= logits.amax(2, keepdim=True)
            p = logits.exp()
            total = p.sum(2, keepdim=True)
            p /= total
            if is_half:
                p[-1, 1] = 0
            units = p.sum(1)
            sampled = units.sum(0)
            is_k = classes == self._likeliest[voxels]
            left_out = self._probability[:, voxels] * (sampled * is_k).sum(0)  # Σ_k P_j
            taken = left_out.sum(0)
            self._probability[:, voxels] = left_out.scatter_(0, classes, sampled - is_k * taken)
            if self._square is not None:
                self._square[voxels] = p.square().sum((0, 1, 2))
            if self._entropy is not None:
                each = total.log_().squeeze(2) - logits.mul_(p).sum(2)
                if is_half:
                    each[-1, 1] = 0
                total_entropy = each.sum((0, 1)).clamp_min_(0)
                of_left_out = torch.special.entr(left_out.div_(self._count)).scatter_(0, classes, 0).sum(0)
                self._entropy[voxels] = (
                    total_entropy + of_left_out * self._count + taken * (1 - total_entropy / self._count)
                )
            if self._spread is not None:
                self._spread[classes, voxels] = self._spread_of(units)

    def _spread_of(self, units: Tensor) -> Tensor:
        """Estimate of Var[Σ_u S_u] of S, (U, J, n)."""
        num_units = len(units)
        sizes = torch.full((num_units, 1, 1), 2.0)
        sizes[-1] = self._count - 2 * (num_units - 1)
        deviations = units - sizes * (units.sum(0) / self._count)
        return deviations.square_().sum(0).mul_(num_units / (num_units - 1))

    def totals(self, shape: list[int]) -> ViewTotals:
        """The sums, voxels as T."""

        def unflattened(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.unflatten(-1, shape)

        return ViewTotals(
            self._probability.unflatten(-1, shape),
            unflattened(self._square),
            unflattened(self._entropy),
            unflattened(self._spread),
            self._count,
        )
