"""From the network's grid back to the image's: resampled, un-cropped, un-transposed, slab by slab.

Outside the crop nnU-Net's preprocessing saw only zeros: there the background has probability 1 (regions: every region
0) as in nnU-Net, and all maps are 0. ``maps`` explains what is resampled and what is computed after it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor

from nnunet_stochastic.decisions.structures import ProbabilitySums
from nnunet_stochastic.inference.resampling import PlannedResampling, planned_resampling
from nnunet_stochastic.maps import MapName, decompose_total
from nnunet_stochastic.outcomes import OutcomeSpace

__all__ = ["GridPrediction", "Prediction", "restore"]

_CPU = torch.device("cpu")
_SLAB_VALUES = 1 << 20  # of all channels of a slab together: what a slab takes, a few times over


@dataclass(frozen=True)
class GridPrediction:
    """What is predicted of an image on the network's grid, on the CPU.

    Parameters
    ----------
    space
        What the channels mean.
    log_ratios
        Log-ratios of the predictive mean p̄, (D, *S), finite.
    epistemic, variance
        Maps (*S), or ``None`` where they are not wanted.
    lost_entropy
        Entropy to add to that of the mean for the total, (*S); ``None`` is 0.
    averages_probabilities
        Whether the mean is resampled as probabilities, rather than as log-ratios.
    epistemic_factor
        Factor of the epistemic map once it is restored; unless it is 1, the total is then the sum of the other two.
    """

    space: OutcomeSpace
    log_ratios: Tensor
    epistemic: Tensor | None
    variance: Tensor | None
    lost_entropy: Tensor | None = None
    averages_probabilities: bool = False
    epistemic_factor: float = 1.0


@dataclass(frozen=True)
class Prediction:
    """What is predicted of an image in its own geometry, axes as nnU-Net's reader gives them.

    Parameters
    ----------
    segmentation
        Labels, uint8 or uint16.
    maps
        Uncertainty maps by name, float32: nats, the variance squared probabilities.
    probabilities
        Predictive mean, (C, *image), float32; ``None`` unless asked for.
    channels
        Predictive mean of the classes that were asked for, (*image) each, float32, by channel.
    sums
        Sums of the predictive mean of each channel, where they were asked for.
    samples
        Whole segmentations, as many as were asked for, each like ``segmentation``.
    """

    segmentation: np.ndarray
    maps: dict[MapName, np.ndarray]
    probabilities: np.ndarray | None
    channels: dict[int, np.ndarray] = field(default_factory=dict)
    sums: tuple[ProbabilitySums, ...] | None = None
    samples: tuple[np.ndarray, ...] = ()


@torch.inference_mode()
def restore(
    grid: GridPrediction,
    properties: dict[str, Any],
    plans_manager: PlansManager,
    configuration_manager: ConfigurationManager,
    label_manager: LabelManager,
    *,
    maps: Collection[MapName],
    probabilities: bool = False,
    channels: Collection[int] = (),
    sums: bool = False,
    device: torch.device = _CPU,
) -> Prediction:
    """Bring a prediction into the geometry of its image.

    Parameters
    ----------
    grid
        The prediction on the network's grid.
    properties
        Properties that nnU-Net's preprocessing gave the image.
    plans_manager, configuration_manager, label_manager
        Managers of the model, as nnU-Net has them.
    maps
        Names of the maps to make.
    probabilities
        Whether to return the predictive mean of all classes too.
    channels
        Channels of the predictive mean to return alone.
    sums
        Whether to return sums of the predictive mean: over the image, and over the segmentation's voxels.
    device
        Where to compute. A few slices at a time are there.
    """
    forward, backward = plans_manager.transpose_forward, plans_manager.transpose_backward
    whole_shape = properties["shape_before_cropping"]
    image_shape = tuple(int(whole_shape[axis]) for axis in backward)
    crop = tuple(slice(int(low), int(high)) for low, high in properties["bbox_used_for_cropping"])
    crop_shape = tuple(int(size) for size in properties["shape_after_cropping_and_before_resampling"])

    few_labels = len(label_manager.foreground_labels) < 255
    segmentation = np.zeros(image_shape, dtype=np.uint8 if few_labels else np.uint16)
    map_arrays = {name: np.zeros(image_shape, dtype=np.float32) for name in maps}
    mean = np.zeros((grid.space.num_logits, *image_shape), dtype=np.float32) if probabilities else None
    if mean is not None and not grid.space.regions:
        mean[0] = 1
    own = {channel: np.zeros(image_shape, dtype=np.float32) for channel in channels}
    totals = _MeanSums(grid.space.num_logits, label_manager) if sums else None

    def in_crop(array: np.ndarray) -> np.ndarray:  # a view: what is written into it is un-cropped and un-transposed
        return array.transpose(forward)[crop]

    resampling = planned_resampling(plans_manager, configuration_manager, properties)
    slab_of_mean, slabs = _slab_of_mean(grid, resampling, device), _slabs_of_maps(grid, resampling, maps, device)
    slab_size = max(1, _SLAB_VALUES // (grid.space.num_logits * crop_shape[1] * crop_shape[2]))
    for start in range(0, crop_shape[0], slab_size):
        stop = min(start + slab_size, crop_shape[0])
        slab = slab_of_mean(start, stop)
        fields = {name: of_slab(start, stop)[0] for name, of_slab in slabs.items()}
        values = _slab_maps(grid, slab, fields, maps)
        for name, array in map_arrays.items():
            in_crop(array)[start:stop] = values[name].cpu().numpy()
        slab = grid.space.all_probabilities(slab)
        labels = _labels(slab, label_manager)
        in_crop(segmentation)[start:stop] = labels.numpy()
        for channel, array in own.items():
            in_crop(array)[start:stop] = slab[channel].cpu().numpy()
        if totals is not None:
            totals.add(slab, labels)
        if mean is not None:
            for channel, array in zip(slab, mean, strict=True):
                in_crop(array)[start:stop] = channel.cpu().numpy()
    return Prediction(segmentation, map_arrays, mean, own, None if totals is None else totals.sums())


def _labels(mean: Tensor, label_manager: LabelManager) -> Tensor:
    """Labels (*slab), on the CPU, of the mean (C, *slab) on any device, by nnU-Net's rule."""
    if label_manager.has_regions or mean.device.type == "cpu":
        return label_manager.convert_probabilities_to_segmentation(mean).cpu()
    return mean.argmax(0).cpu()


class _MeanSums:
    """Sums of the predictive mean of each channel, slab by slab; outside the crop there are foreground sums of 0."""

    def __init__(self, num_channels: int, label_manager: LabelManager) -> None:
        self._has_regions = label_manager.has_regions
        regions = label_manager.foreground_regions if self._has_regions else ()
        self._regions = [np.atleast_1d(region).tolist() for region in regions]
        self._everywhere = torch.zeros(num_channels, dtype=torch.float64)
        self._inside = torch.zeros(num_channels, dtype=torch.float64)

    def add(self, mean: Tensor, labels: Tensor) -> None:
        """Add the mean (C, *slab), on any device, and the labels (*slab) of it."""
        self._everywhere += mean.sum(dim=(1, 2, 3), dtype=torch.float64).cpu()
        labels = labels.long()
        if self._has_regions:
            for channel, region in enumerate(self._regions):
                inside = torch.isin(labels, torch.tensor(region)).to(mean.device)
                self._inside[channel] += mean[channel][inside].sum(dtype=torch.float64).cpu()
            return
        # On the CPU: CUDA adds the weights in any order.
        of_label = mean.gather(0, labels[None].to(mean.device))[0].cpu().double()
        self._inside += torch.bincount(labels.flatten(), weights=of_label.flatten(), minlength=len(self._inside))

    def sums(self) -> tuple[ProbabilitySums, ...]:
        """Sums of each channel."""
        return tuple(map(ProbabilitySums, self._everywhere.tolist(), self._inside.tolist()))


def _slab_of_mean(
    grid: GridPrediction, resampling: PlannedResampling, device: torch.device
) -> Callable[[int, int], Tensor]:
    """Maps (start, stop) to probabilities (P, stop - start, y, x)."""
    if grid.averages_probabilities:
        slab = resampling.of(grid.space.probabilities(grid.log_ratios), device)
        return lambda start, stop: slab(start, stop).clamp(0, 1)
    slab = resampling.of(grid.log_ratios, device)
    return lambda start, stop: grid.space.probabilities(slab(start, stop))


def _slabs_of_maps(
    grid: GridPrediction, resampling: PlannedResampling, names: Collection[MapName], device: torch.device
) -> dict[str, Callable[[int, int], Tensor]]:
    """What is resampled besides the mean for these maps, by name: functions of (start, stop)."""
    fields: dict[str, Tensor | None] = {}
    if "variance" in names:
        fields["variance"] = grid.variance
    # The total bounds the epistemic map, so both are needed even where only one is written.
    if {"aleatoric", "epistemic"} & set(names) or grid.epistemic_factor != 1:
        fields["epistemic"] = grid.epistemic
    if grid.lost_entropy is not None and set(names) - {"variance"}:
        fields["lost_entropy"] = grid.lost_entropy
    return {name: resampling.of(field[None], device) for name, field in fields.items() if field is not None}


def _slab_maps(
    grid: GridPrediction, mean: Tensor, fields: Mapping[str, Tensor], names: Collection[MapName]
) -> dict[MapName, Tensor]:
    """The maps of one slab, (slices, y, x) each, from the mean (P, slices, y, x) and the fields resampled for them."""
    result: dict[MapName, Tensor] = {}
    if "variance" in fields:
        result["variance"] = fields["variance"].clamp(0, grid.space.greatest_variance)  # splines may overshoot
    if set(names) <= {"variance"}:
        return result
    result["total"] = grid.space.entropy(mean)
    if "lost_entropy" in fields:
        result["total"] = (result["total"] + fields["lost_entropy"]).clamp_(max=grid.space.greatest_entropy)
    if "epistemic" in fields:
        epistemic = fields["epistemic"].clamp(min=0)
        result["aleatoric"], result["epistemic"] = decompose_total(result["total"], epistemic)
        if grid.epistemic_factor != 1:
            result["epistemic"] *= grid.epistemic_factor
            result["total"] = result["aleatoric"] + result["epistemic"]
    return result
