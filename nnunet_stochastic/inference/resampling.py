"""From the network's grid to the crop's, with the weights of the plan's ``resampling_fn_probabilities``, by the slab.

Along an axis resampled from n to m voxels, output voxel i lies at x_i = (i + ½) n / m - ½: the outer borders of the two
grids coincide. nnU-Net's functions for probabilities take there, axis by axis,

``"linear"``
    the convex combination of the two neighbours, clamped at the border;
``"nearest"``
    the nearest voxel: along the thick slices of an image whose spacing is anisotropic.

A constant stays the constant, bounds are kept, and a slab of output slices needs a slab of input slices. Plans can
name other functions (splines of a higher order, a user's own): these are called on whole volumes, one channel at a
time. What is resampled are log-ratios, not logits: the same for a linear function, and nearly for nnU-Net's splines,
which it clips to the range of a channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from nnunetv2.preprocessing.resampling.default_resampling import determine_do_sep_z_and_axis
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from scipy.ndimage import map_coordinates
from torch import Tensor

__all__ = ["AxisRule", "PlannedResampling", "nearest_voxels", "planned_resampling", "resample_slab"]

AxisRule = Literal["linear", "nearest", "nearest_torch"]
_CPU = torch.device("cpu")


class PlannedResampling:
    """How the volumes of one image are resampled.

    Parameters
    ----------
    shape
        Shape (z, y, x) of the result.
    rules
        The rule of each axis, or ``None`` where ``function`` has to be called.
    function
        Function that maps a volume (1, Z, Y, X), NumPy, float32, to (1, z, y, x).
    """

    def __init__(
        self,
        shape: Sequence[int],
        rules: Sequence[AxisRule] | None,
        function: Callable[[np.ndarray], Any] | None = None,
    ) -> None:
        if (rules is None) == (function is None):
            raise ValueError("resampling follows the rules of its axes or a function: give one of the two")
        self.shape = tuple(int(size) for size in shape)
        self._rules, self._function = rules or (), function

    def of(self, volume: Tensor, device: torch.device = _CPU) -> Callable[[int, int], Tensor]:
        """Maps (start, stop) to these slices of a volume (P, Z, Y, X), resampled: (P, stop - start, y, x), float32.

        They are on ``device``, which is given no more of the volume than they need.
        """
        if self._function is None:
            return partial(resample_slab, volume, self.shape, rules=self._rules, device=device)
        if tuple(volume.shape[1:]) != self.shape:
            channels = [torch.as_tensor(self._function(channel[None].numpy()))[0].float() for channel in volume]
            volume = torch.stack(channels)
        return lambda start, stop: volume[:, start:stop].to(device)


def planned_resampling(
    plans_manager: PlansManager, configuration_manager: ConfigurationManager, properties: dict[str, Any]
) -> PlannedResampling:
    """What the plan says of an image that preprocessing has described by ``properties``."""
    shape = properties["shape_after_cropping_and_before_resampling"]
    image_spacing = [properties["spacing"][axis] for axis in plans_manager.transpose_forward]
    spacing = list(configuration_manager.spacing)
    if len(spacing) < len(shape):  # 2D: slices are not resampled
        spacing = [image_spacing[0], *spacing]
    configuration = configuration_manager.configuration
    rules = _axis_rules(
        configuration["resampling_fn_probabilities"],
        configuration["resampling_fn_probabilities_kwargs"],
        spacing,
        image_spacing,
    )
    if rules is not None:
        return PlannedResampling(shape, rules)
    function = configuration_manager.resampling_fn_probabilities
    return PlannedResampling(shape, None, lambda volume: function(volume, shape, spacing, image_spacing))


def _axis_rules(
    function: str, arguments: dict[str, Any], spacing: Sequence[float], image_spacing: Sequence[float]
) -> tuple[AxisRule, ...] | None:
    """The rule of each axis; ``None`` for a function that is not known to have any."""
    if arguments.get("is_seg", False):
        return None
    if function == "resample_data_or_seg_to_shape":
        along_slices: dict[int, AxisRule] = {0: "nearest", 1: "linear"}
        if arguments.get("order", 3) != 1 or arguments.get("order_z", 0) not in along_slices:
            return None
        rule, force_separate_z = along_slices[arguments.get("order_z", 0)], arguments.get("force_separate_z", False)
    elif function == "resample_torch_fornnunet":
        if arguments.get("mode", "linear") != "linear" or arguments.get("aniso_axis_mode") not in (
            None,
            "nearest-exact",
        ):
            return None
        rule, force_separate_z = "nearest_torch", arguments.get("force_separate_z")
    else:
        return None
    threshold = arguments.get("separate_z_anisotropy_threshold")
    separate, axis = determine_do_sep_z_and_axis(
        force_separate_z, spacing, image_spacing, *([] if threshold is None else [threshold])
    )
    return tuple(rule if separate and index == axis else "linear" for index in range(3))


def resample_slab(
    volume: Tensor,
    shape: Sequence[int],
    start: int,
    stop: int,
    *,
    rules: Sequence[AxisRule] = ("linear", "linear", "linear"),
    device: torch.device = _CPU,
) -> Tensor:
    """Slices ``start`` to ``stop`` of a volume resampled to ``shape``.

    Parameters
    ----------
    volume
        Volumes (P, Z, Y, X), float32.
    shape
        Shape (z, y, x) of the whole result.
    start, stop
        The wanted slices, 0 <= start < stop <= z.
    rules
        Rule of each axis. ``"nearest_torch"`` rounds positions as torch's ``nearest-exact`` does.
    device
        Where to resample. Only the slices that are needed go there.

    Returns
    -------
    Tensor
        (P, stop - start, y, x), on ``device``.
    """
    if not 0 <= start < stop <= shape[0]:
        raise ValueError(f"slices {start} to {stop} are not within 0 to {shape[0]}")
    lower, upper, fraction = _neighbours(volume.shape[1], shape[0], rules[0], start, stop)
    first, last = int(lower[0]), int(upper[-1]) + 1
    slab = _between(volume[:, first:last].to(device), 1, lower - first, upper - first, fraction)
    if tuple(slab.shape[2:]) == tuple(shape[1:]):
        return slab
    if rules[1] == rules[2] == "linear":
        return F.interpolate(slab, size=tuple(shape[1:]), mode="bilinear", align_corners=False)
    for axis, (size, rule) in enumerate(zip(shape[1:], rules[1:], strict=True), start=2):
        slab = _between(slab, axis, *_neighbours(slab.shape[axis], size, rule, 0, size))
    return slab


def _neighbours(length: int, size: int, rule: AxisRule, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two voxels of ``length`` beside each of ``start`` to ``stop`` of ``size``, and the share of the upper one."""
    if length == size or rule != "linear":
        nearest = torch.arange(size) if length == size else nearest_voxels(length, size, rule)
        return nearest[start:stop], nearest[start:stop], torch.zeros(stop - start, dtype=torch.float64)
    position = (torch.arange(start, stop, dtype=torch.float64) + 0.5) * length / size - 0.5
    position = position.clamp_(0, length - 1)
    lower = position.long()
    return lower, (lower + 1).clamp_(max=length - 1), position - lower


def _between(volume: Tensor, axis: int, lower: Tensor, upper: Tensor, fraction: Tensor) -> Tensor:
    """The volume's convex combinations of these voxels along an axis."""
    below = volume.index_select(axis, lower.to(volume.device))
    if not fraction.any():
        return below
    fraction = fraction.to(volume.device, volume.dtype).view(-1, *[1] * (volume.ndim - 1 - axis))
    return torch.lerp(below, volume.index_select(axis, upper.to(volume.device)), fraction)


@lru_cache(maxsize=8)
def nearest_voxels(length: int, size: int, rule: AxisRule) -> Tensor:
    """Input voxel of each output voxel. Positions half way between two are rounded as the plan's function rounds."""
    if rule == "nearest_torch":
        indices = torch.arange(length, dtype=torch.float32)[None, None]
        return F.interpolate(indices, size=(size,), mode="nearest-exact")[0, 0].long()
    position = float(length) / size * (np.arange(size) + 0.5) - 0.5
    return torch.from_numpy(
        map_coordinates(np.arange(length), position[None], order=0, mode="nearest").astype(np.int64)
    )
