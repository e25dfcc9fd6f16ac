"""Sliding window over one image: tiles, views, samples, stitching.

The samples of a member are spread over the views of a tile, mirrored or with shifted intensities; each view costs one
forward pass of the network. A tile's sums are stitched with nnU-Net's Gaussian weights. All noise is a function of
(seed, member, tile, view) and, for noise that is one draw for a whole image, of (seed, member, view): no result depends
on the order of anything.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from torch import Tensor, nn

from nnunet_stochastic.distributions import LogitDistribution, PointMass
from nnunet_stochastic.inference.seeds import stream_generator
from nnunet_stochastic.moments import MomentSums, SampleSums

__all__ = [
    "TTA_SHIFT_SD",
    "Tile",
    "View",
    "augmented_views",
    "mirrored_views",
    "predict_logit_distribution",
    "stitch_tile",
    "tile_patch",
    "tile_start",
    "tile_weights",
    "tiles",
]

Tile = tuple["slice | int", ...]

_SAMPLED_CHANNELS = 16  # channels of logits sampled at once

#: Standard deviation of the intensity shifts of test-time augmentation, in units of the normalised image.
TTA_SHIFT_SD = 0.1


@dataclass(frozen=True)
class View:
    """One look at a tile.

    Parameters
    ----------
    flipped_axes
        Spatial axes of the patch that are mirrored.
    num_samples
        How many samples it gives.
    shift
        Added to the intensities of each image channel; none for ``()``.
    """

    flipped_axes: tuple[int, ...]
    num_samples: int
    shift: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """For a record: ``mirrored 0 2``, ``mirrored 0 2 shifted +0.031``."""
        words = ["mirrored", *map(str, self.flipped_axes)]
        return " ".join(words + (["shifted", *(f"{shift:+.3f}" for shift in self.shift)] if self.shift else []))

    def of(self, patch: Tensor) -> Tensor:
        """This view of a patch (1, channels, *T)."""
        if self.shift:
            patch = patch.clone()
            patch[:, : len(self.shift)] += patch.new_tensor(self.shift).view(1, -1, *[1] * (patch.ndim - 2))
        return patch.flip([axis + 2 for axis in self.flipped_axes]) if self.flipped_axes else patch


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


def tile_start(tile: Tile) -> tuple[int, ...]:
    """First voxel of a tile in the image."""
    return tuple(index if isinstance(index, int) else index.start for index in tile)


def tile_patch(image: Tensor, tile: Tile, device: torch.device) -> Tensor:
    """The patch (1, channels, *T) of a tile of an image (channels, *S), on ``device``."""
    return image[(slice(None), *tile)][None].to(device)


def mirrored_views(mirror_axes: Sequence[int], num_samples: int, *, once: bool) -> list[View]:
    """Spread samples over the unmirrored view and all combinations of mirrored axes.

    The first ``num_samples`` mod V of the V views give one sample more; views with none are left out. With ``once``
    every view counts once: for deterministic networks, and where nothing is sampled.
    """
    combinations = _mirrorings(mirror_axes)
    if once:
        return [View(axes, 1) for axes in combinations]
    each, more = divmod(num_samples, len(combinations))
    counts = [each + (index < more) for index in range(len(combinations))]
    return [View(axes, count) for axes, count in zip(combinations, counts, strict=True) if count]


def augmented_views(mirror_axes: Sequence[int], num_samples: int, *, num_channels: int, seed: int) -> list[View]:
    """Test-time augmentation: K views of one sample each, mirrored in turn, with intensity shifts of N(0, 0.1²).

    The shifts, one number per channel and view, are the same for all tiles and images.
    """
    combinations = _mirrorings(mirror_axes)
    result = []
    for index in range(num_samples):
        shift = TTA_SHIFT_SD * torch.randn(num_channels, generator=stream_generator("tta", seed, index))
        result.append(View(combinations[index % len(combinations)], 1, tuple(shift.tolist())))
    return result


def _mirrorings(mirror_axes: Sequence[int]) -> list[tuple[int, ...]]:
    axes = sorted(mirror_axes)
    return [chosen for count in range(len(axes) + 1) for chosen in itertools.combinations(axes, count)]


def predict_logit_distribution(network: nn.Module, patch: Tensor) -> LogitDistribution:
    """p(η) of a patch (1, channels, *T). A network without ``logit_distribution`` is deterministic."""
    # As in nnU-Net: half precision on CUDA only.
    with torch.autocast("cuda") if patch.device.type == "cuda" else contextlib.nullcontext():
        if hasattr(network, "logit_distribution"):
            return network.logit_distribution(patch)
        return PointMass(network(patch))


def stitch_tile(
    network: nn.Module,
    image: Tensor,
    tile: Tile,
    sums: MomentSums,
    *,
    weights: Tensor,
    views: Sequence[View],
    seed: int,
    member: str,
    device: torch.device,
    exact: bool = False,
) -> Tensor:
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
    views
        Views and their numbers of samples.
    seed, member
        Key of the noise, with the tile's place and the view.
    exact
        Integrate over the samples of each view instead of drawing them.

    Returns
    -------
    Tensor
        Mean square of the logits that noise of 0 gives in the first view, along all axes but the last, shape (T_x,) on
        ``device``: what two members that are equal have in common, and hardly any others.
    """
    patch = tile_patch(image, tile, device)
    tile_sums = sums.tile_sums()
    fingerprint = None
    for view in views:
        distribution = predict_logit_distribution(network, view.of(patch).contiguous())
        if fingerprint is None:
            # Squares, since cross-entropy leaves logits that add up to 0 over the classes; and a vector, since the mean
            # of a whole tile is too often equal by chance where members nearly agree.
            fingerprint = _logits_of_no_noise(distribution).float().square().flatten(0, -2).mean(0)
        if exact:
            tile_sums.add_expectation(distribution, flipped_axes=view.flipped_axes)
            continue
        key = (seed, member, view.flipped_axes, *view.shift)
        _add_samples(
            tile_sums,
            distribution,
            view,
            generator=stream_generator(*key, tile_start(tile), device=device),
            shared_generator=stream_generator(*key, device=device),
        )
    sums.add_tile(tile, tile_sums, weights)
    return fingerprint


def _add_samples(
    sums: SampleSums,
    distribution: LogitDistribution,
    view: View,
    *,
    generator: torch.Generator,
    shared_generator: torch.Generator,
) -> None:
    # A few samples at a time: all K at once would make the memory grow with K, but LowRank reads its factor only once
    # per call.
    at_once = max(1, _SAMPLED_CHANNELS // distribution.shape[1])
    for start in range(0, view.num_samples, at_once):
        count = min(at_once, view.num_samples - start)
        for logits in distribution.rsample(count, generator=generator, shared_generator=shared_generator):
            sums.add(logits[0], flipped_axes=view.flipped_axes)


def _logits_of_no_noise(distribution: LogitDistribution) -> Tensor:
    batch, _, *spatial = distribution.shape
    zeros = partial(torch.zeros, dtype=distribution.dtype, device=distribution.device)
    return distribution.transform(
        zeros(1, batch, distribution.noise_channels, *spatial), zeros(1, batch, distribution.shared_noise_channels)
    )
