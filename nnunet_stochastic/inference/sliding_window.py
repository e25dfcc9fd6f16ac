"""Sliding window over one image: tiles, mirrored views, samples, stitching.

The samples of a member are spread over the mirrored views of a tile; each view costs one forward pass of the network. A
tile's sums are stitched with nnU-Net's Gaussian weights. All noise is a function of (seed, member, tile, view) and, for
noise that is one draw for a whole image, of (seed, member, view): no result depends on the order of anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from torch import Tensor, nn

from nnunet_stochastic.distributions import LogitDistribution, PointMass
from nnunet_stochastic.moments import MomentSums, SampleSums

__all__ = ["View", "predict_logit_distribution", "stitch_tile", "stream_seed", "tile_weights", "tiles", "views"]

Tile = tuple["slice | int", ...]

_SAMPLED_CHANNELS = 16  # channels of logits sampled at once


@dataclass(frozen=True)
class View:
    """A mirrored view: the flipped spatial axes of the patch, and how many samples it gives."""

    flipped_axes: tuple[int, ...]
    num_samples: int


def tiles(shape: Sequence[int], patch_size: Sequence[int], step_size: float) -> list[Tile]:
    """Indices of the tiles of an image.

    Parameters
    ----------
    shape
        *S of the image, at least the patch along every axis.
    patch_size
        The network's patch. With one axis fewer than the image, every slice of the first axis is tiled for itself.
    step_size
        Distance between tiles as a fraction of the patch.
    """
    sliced = len(shape) - len(patch_size)
    if sliced not in (0, 1):
        raise ValueError(f"a patch of {len(patch_size)} axes does not fit an image of {len(shape)}")
    steps = compute_steps_for_sliding_window(tuple(shape[sliced:]), tuple(patch_size), step_size)
    patches = [
        tuple(slice(start, start + size) for start, size in zip(starts, patch_size, strict=True))
        for starts in itertools.product(*steps)
    ]
    if not sliced:
        return patches
    return [(index, *patch) for index in range(shape[0]) for patch in patches]


def tile_weights(patch_size: Sequence[int]) -> Tensor:
    """nnU-Net's Gaussian importance of the voxels of a patch, float32, in (0, 1]."""
    return compute_gaussian(tuple(patch_size), dtype=torch.float32, device=torch.device("cpu"))


def views(mirror_axes: Sequence[int], num_samples: int, *, random: bool) -> list[View]:
    """Spread samples over the unmirrored view and all combinations of mirrored axes.

    The first ``num_samples`` mod V of the V views give one sample more; views with none are left out. The prediction
    of a deterministic network counts once per view.
    """
    combinations = [
        axes for count in range(len(mirror_axes) + 1) for axes in itertools.combinations(sorted(mirror_axes), count)
    ]
    if not random:
        return [View(axes, 1) for axes in combinations]
    each, more = divmod(num_samples, len(combinations))
    counts = [each + (index < more) for index in range(len(combinations))]
    return [View(axes, count) for axes, count in zip(combinations, counts, strict=True) if count]


def stream_seed(*key: Any) -> int:
    """A seed in [0, 2^63) that depends on the key alone, on every platform."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1


def predict_logit_distribution(network: nn.Module, patch: Tensor) -> LogitDistribution:
    """p(η) of a patch (1, channels, *T). A network without ``distribution`` is deterministic."""
    # As in nnU-Net: half precision on CUDA only.
    with torch.autocast("cuda") if patch.device.type == "cuda" else contextlib.nullcontext():
        if not hasattr(network, "distribution"):
            return PointMass(network(patch))
        _, parameters = network(patch, return_parameters=True)
    return network.distribution(parameters)


def stitch_tile(
    network: nn.Module,
    image: Tensor,
    tile: Tile,
    sums: MomentSums,
    *,
    weights: Tensor,
    tile_views: Sequence[View],
    seed: int,
    member: str,
    device: torch.device,
) -> None:
    """Predict one tile of a member and add it to the sums.

    Parameters
    ----------
    network
        With the member's weights, on ``device``, in evaluation mode.
    image
        Preprocessed image (channels, *S).
    tile
        Index of the tile in (*S).
    sums
        Where to add it.
    weights
        Stitching weights (*T).
    tile_views
        Views and their numbers of samples.
    seed, member
        Key of the noise, with the tile's place and the view.
    """
    patch = image[(slice(None), *tile)][None].to(device)
    start = tuple(index if isinstance(index, int) else index.start for index in tile)
    tile_sums = sums.tile_sums()
    for view in tile_views:
        flipped = patch.flip([axis + 2 for axis in view.flipped_axes]) if view.flipped_axes else patch
        distribution = predict_logit_distribution(network, flipped.contiguous())
        _add_view(
            tile_sums,
            distribution,
            view,
            generator=_generator(device, seed, member, view.flipped_axes, start),
            shared_generator=_generator(device, seed, member, view.flipped_axes),
        )
    sums.add_tile(tile, tile_sums, weights)


def _add_view(
    sums: SampleSums,
    distribution: LogitDistribution,
    view: View,
    *,
    generator: torch.Generator,
    shared_generator: torch.Generator,
) -> None:
    # A few samples at a time: all K at once would make the memory grow with K, but LowRank reads its factor only once
    # per call.
    at_once = max(1, _SAMPLED_CHANNELS // distribution.mean_logits.shape[1])
    for start in range(0, view.num_samples, at_once):
        count = min(at_once, view.num_samples - start)
        for logits in distribution.rsample(count, generator=generator, shared_generator=shared_generator):
            sums.add(logits[0], flipped_axes=view.flipped_axes)


def _generator(device: torch.device, *key: Any) -> torch.Generator:
    return torch.Generator(device=device).manual_seed(stream_seed(*key))
