"""Sliding window over one image: its tiles, nnU-Net's weights for them, and the views of a tile.

A view, mirrored or with shifted intensities, costs one forward pass of the network.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from torch import Tensor, nn

from nnunet_stochastic.distributions import GaussianLogits, LogitDistribution, PointMass
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.networks.last_layer import distributions_of_features, features_of

__all__ = [
    "TTA_SHIFT_SD",
    "Tile",
    "View",
    "augmented_views",
    "fingerprint",
    "mirrored_views",
    "predict_features",
    "predict_logit_distribution",
    "predict_of_features",
    "send",
    "spread_samples",
    "sum_of_weights",
    "tile_patch",
    "tile_start",
    "tile_weights",
    "tiles",
]

Tile = tuple["slice | int", ...]

#: Standard deviation of the intensity shifts of test-time augmentation, in units of the normalised image.
TTA_SHIFT_SD = 0.1


@dataclass(frozen=True)
class View:
    """One look at a tile.

    Parameters
    ----------
    flipped_axes
        Spatial axes of the patch that are mirrored.
    shift
        Shift of the intensities of each image channel; none for ``()``.
    """

    flipped_axes: tuple[int, ...]
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

    def undo(self, field: Tensor) -> Tensor:
        """A field (channels, *T) of this view in the orientation of the image; or one of the image in the view's."""
        return field.flip([axis + 1 for axis in self.flipped_axes]) if self.flipped_axes else field


def tiles(shape: Sequence[int], patch_size: Sequence[int], step_size: float) -> list[Tile]:
    """Indices of the tiles of an image.

    Parameters
    ----------
    shape
        Shape *S of the image, at least the patch along every axis.
    patch_size
        The network's patch. With one axis fewer than the image, every slice of the first axis is tiled for itself.
    step_size
        Distance between tiles as a fraction of the patch.
    """
    sliced = len(shape) - len(patch_size)
    if sliced not in (0, 1):
        raise ValueError(f"a patch of {len(patch_size)} axes does not fit an image of {len(shape)}")
    steps = compute_steps_for_sliding_window(tuple(shape[sliced:]), tuple(patch_size), step_size)
    patches: list[Tile] = [
        tuple(slice(start, start + size) for start, size in zip(starts, patch_size, strict=True))
        for starts in itertools.product(*steps)
    ]
    if not sliced:
        return patches
    return [(index, *patch) for index in range(shape[0]) for patch in patches]


def tile_weights(patch_size: Sequence[int]) -> Tensor:
    """nnU-Net's Gaussian importance of the voxels of a patch, float32, in (0, 10].

    nnU-Net keeps it in half precision, whose values are taken: it matters where tiles disagree.
    """
    weights = compute_gaussian(
        tuple(patch_size), sigma_scale=1 / 8, value_scaling_factor=10, dtype=torch.half, device=torch.device("cpu")
    )
    return weights.float()


def sum_of_weights(tiles: Sequence[Tile], weights: Tensor, shape: Sequence[int]) -> Tensor:
    """Σ_t w_t at each voxel of an image, (*S), on the device of the weights.

    Raises
    ------
    ValueError
        If the tiles do not cover the image.
    """
    total = weights.new_zeros(tuple(shape))
    for tile in tiles:
        total[tile] += weights
    if not bool((total > 0).all()):
        raise ValueError("the tiles do not cover the image")
    return total


def tile_start(tile: Tile) -> tuple[int, ...]:
    """First voxel of a tile in the image."""
    return tuple(index if isinstance(index, int) else index.start for index in tile)


def tile_patch(image: Tensor, tile: Tile, device: torch.device) -> Tensor:
    """The patch (1, channels, *T) of a tile of an image (channels, *S), on ``device``."""
    return send(image[(slice(None), *tile)][None], device)


def send(part: Tensor, device: torch.device) -> Tensor:
    """A part of an image on ``device``; a GPU gets it from the host without a pause in what it computes."""
    if part.device.type != "cpu" or device.type != "cuda" or not torch.cuda.is_available():
        return part.to(device)
    pinned = torch.empty(part.shape, dtype=part.dtype, pin_memory=True)
    return pinned.copy_(part).to(device, non_blocking=True)


def mirrored_views(mirror_axes: Sequence[int]) -> list[View]:
    """The unmirrored view and all combinations of mirrored axes."""
    return [View(axes) for axes in _mirrorings(mirror_axes)]


def spread_samples(num_samples: int, num_views: int) -> list[int]:
    """Samples of each view: the first ``num_samples`` mod V of the V views have one more."""
    each, more = divmod(num_samples, num_views)
    return [each + (index < more) for index in range(num_views)]


def augmented_views(mirror_axes: Sequence[int], num_samples: int, *, num_channels: int, noise: NoiseKey) -> list[View]:
    """Test-time augmentation: K views, mirrored in turn, with intensity shifts of N(0, 0.1²).

    The shifts, one number per channel and view, are the same for all tiles and members.
    """
    combinations = _mirrorings(mirror_axes)
    result = []
    for index in range(num_samples):
        shift = TTA_SHIFT_SD * torch.randn(num_channels, generator=noise.generator("tta", index))
        result.append(View(combinations[index % len(combinations)], tuple(shift.tolist())))
    return result


def _mirrorings(mirror_axes: Sequence[int]) -> list[tuple[int, ...]]:
    axes = sorted(mirror_axes)
    return [chosen for count in range(len(axes) + 1) for chosen in itertools.combinations(axes, count)]


def predict_logit_distribution(network: nn.Module, patch: Tensor) -> LogitDistribution:
    """p(η) of a patch (1, channels, *T). A network without ``logit_distribution`` is deterministic."""
    with _mixed_precision(patch.device):
        predict = getattr(network, "logit_distribution", None)
        return PointMass(network(patch)) if predict is None else predict(patch)


def predict_features(network: nn.Module, patch: Tensor) -> Tensor:
    """Features (1, F, *T) in front of the network's last layer."""
    with _mixed_precision(patch.device):
        return features_of(network, patch)


def predict_of_features(network: nn.Module, features: Tensor) -> Callable[[], LogitDistribution]:
    """p(η) of features in front of the network's last layer, as ``predict_logit_distribution`` has it of the patch.

    It is a function of the last layer's W and b, to be called when the network has them.
    """
    with _mixed_precision(features.device):
        distributions = distributions_of_features(network, features)

    def predict() -> LogitDistribution:
        with _mixed_precision(features.device):
            return distributions()

    return predict


def _mixed_precision(device: torch.device) -> contextlib.AbstractContextManager:
    """As in nnU-Net: half precision on CUDA only."""
    return torch.autocast("cuda") if device.type == "cuda" else contextlib.nullcontext()


def _logits_of_no_noise(distribution: LogitDistribution) -> Tensor:
    if isinstance(distribution, GaussianLogits):
        return distribution.mean_logits
    batch, _, *spatial = distribution.shape
    zeros = partial(torch.zeros, dtype=distribution.dtype, device=distribution.device)
    return distribution.transform(
        zeros(1, batch, distribution.noise_channels, *spatial), zeros(1, batch, distribution.shared_noise_channels)
    )


def fingerprint(distribution: LogitDistribution) -> Tensor:
    """What two members that are equal have in common in a tile, and hardly any others.

    Squares of the logits, since cross-entropy leaves logits that add up to 0 over the classes; and a vector, since the
    mean of a whole tile is too often equal by chance where members nearly agree.

    Returns
    -------
    Tensor
        Mean square of the logits that noise of 0 gives, along all axes but the last, (T_x,).
    """
    logits = _logits_of_no_noise(distribution).flatten(0, 1)
    # Channel by channel: of many classes a copy in float32 would be the largest tensor of a prediction.
    total = torch.stack([channel.float().square().flatten(0, -2).sum(0) for channel in logits]).sum(0)
    return total / (logits.numel() // logits.shape[-1])
