"""Whole segmentations: samples that are one plausible outcome for the image, not a patchwork of tiles.

A sample belongs to one member and one of its views, so that the samples follow the predictive distribution. With the
standard normal numbers z(v) of its voxels and z2 of the image, both the same in every tile t that covers a voxel,

    η(v) = Σ_t w_t(v) η_t(v; z(v), z2) / Σ_t w_t(v):

tiles are blended in logit space like nnU-Net blends logits. z(v) depends on (seed, sample, voxel) alone: it is drawn in
blocks of a lattice that is fixed to the image. So where two tiles predict the same parameters they give the same
logits, and noise does not average out in the overlaps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnunet_stochastic.distributions import LogitDistribution
from nnunet_stochastic.inference.seeds import stream_generator
from nnunet_stochastic.inference.sliding_window import Tile, View, predict_logit_distribution, tile_patch
from nnunet_stochastic.moments import OutcomeSpace

__all__ = ["SampleDraw", "draws_of_members", "stitch_samples", "voxel_noise"]

# Edge of the blocks in which noise is drawn, by the number of the patch's axes: 4096 voxels each. Larger blocks waste
# more noise at the border of a tile, smaller ones need more generators.
_BLOCK_EDGE = {2: 64, 3: 16}
_BYTES_AT_ONCE = 1 << 30  # logits of samples that are stitched in one pass over the tiles


@dataclass(frozen=True)
class SampleDraw:
    """Which sample, and in which view of its member it is drawn."""

    index: int
    view: View


def draws_of_members(
    num_samples: int, num_members: int, views: Sequence[View], *, random: bool
) -> list[list[SampleDraw]]:
    """Deal samples to the members in turn, and a member's samples to its views in turn.

    Parameters
    ----------
    num_samples
        N.
    num_members
        E.
    views
        Of a member.
    random
        Whether a view can give several different samples.

    Returns
    -------
    list
        The draws of each member.

    Raises
    ------
    ValueError
        If a model without randomness has fewer than N different outcomes.
    """
    if not random and num_samples > num_members * len(views):
        raise ValueError(
            f"{num_samples} samples were asked for, but a deterministic network has one per member and view, here "
            f"{num_members} x {len(views)}: ask for fewer, use test-time augmentation (--aleatoric tta), more members, "
            "or a stochastic trainer such as nnUNetTrainerMoB"
        )
    return [
        [
            SampleDraw(index, views[index // num_members % len(views)])
            for index in range(member, num_samples, num_members)
        ]
        for member in range(num_members)
    ]


def voxel_noise(tile: Tile, channels: int, *, seed: int, sample: int, device: torch.device | str = "cpu") -> Tensor:
    """Standard normal numbers of the voxels of a tile, (channels, *T), float32.

    They are a function of (seed, sample, voxel in the image); ``channels`` must be the same for all tiles.
    """
    sliced = [index for index in tile if isinstance(index, int)]
    spans = [index for index in tile if not isinstance(index, int)]
    edge = _BLOCK_EDGE[len(spans)]
    result = torch.empty((channels, *(span.stop - span.start for span in spans)), device=device)
    blocks = [range(span.start // edge, (span.stop - 1) // edge + 1) for span in spans]
    for block in itertools.product(*blocks):
        generator = stream_generator("voxel noise", seed, sample, *sliced, block, device=device)
        noise = torch.randn((channels, *[edge] * len(spans)), generator=generator, device=device)
        into, of = [slice(None)], [slice(None)]
        for span, number in zip(spans, block, strict=True):
            start, stop = max(span.start, number * edge), min(span.stop, (number + 1) * edge)
            into.append(slice(start - span.start, stop - span.start))
            of.append(slice(start - number * edge, stop - number * edge))
        result[tuple(into)] = noise[tuple(of)]
    return result


def stitch_samples(
    network: nn.Module,
    image: Tensor,
    tiles: Sequence[Tile],
    draws: Sequence[SampleDraw],
    space: OutcomeSpace,
    *,
    weights: Tensor,
    seed: int,
    device: torch.device,
    on_tile: Callable[[], object] = lambda: None,
) -> Iterator[tuple[int, Tensor]]:
    """Samples of one member.

    Parameters
    ----------
    network
        With the member's weights, on ``device``, in evaluation mode.
    image
        Preprocessed image (channels, *S).
    tiles
        Of the image.
    draws
        The member's samples.
    space
        What the logits mean.
    weights
        Stitching weights (*T).
    seed
        Of the noise.
    device
        Where the network runs; logits are kept where the image is.
    on_tile
        Called after each tile of each pass.

    Yields
    ------
    tuple
        Index of the sample and its probabilities (P, *S).
    """
    shape = tuple(image.shape[1:])
    at_once = max(1, _BYTES_AT_ONCE // (4 * space.num_logits * shape[0] * shape[1] * shape[2]))
    for first in range(0, len(draws), at_once):
        group = draws[first : first + at_once]
        logits = torch.zeros((len(group), space.num_logits, *shape), device=image.device)
        total_weight = torch.zeros(shape, device=image.device)
        for tile in tiles:
            patch = tile_patch(image, tile, device)
            total_weight[tile] += weights
            for view in dict.fromkeys(draw.view for draw in group):
                distribution = predict_logit_distribution(network, view.of(patch).contiguous())
                for place, draw in enumerate(group):
                    if draw.view == view:
                        sample = _sample_tile(distribution, tile, draw, seed=seed)
                        logits[(place, slice(None), *tile)] += sample.to(image.device) * weights
            on_tile()
        logits /= total_weight
        for place, draw in enumerate(group):
            yield draw.index, space.probabilities(logits[place])


def _sample_tile(distribution: LogitDistribution, tile: Tile, draw: SampleDraw, *, seed: int) -> Tensor:
    """Logits (C, *T) of a sample in one tile, in the orientation of the image."""
    device = distribution.device
    axes = [axis + 1 for axis in draw.view.flipped_axes]
    noise = voxel_noise(tile, distribution.noise_channels, seed=seed, sample=draw.index, device=device)
    shared = torch.randn(
        distribution.shared_noise_channels,
        generator=stream_generator("shared noise", seed, draw.index, device=device),
        device=device,
    )
    sample = distribution.transform(noise.flip(axes)[None, None], shared[None, None])[0, 0].float()
    return sample.flip(axes)
