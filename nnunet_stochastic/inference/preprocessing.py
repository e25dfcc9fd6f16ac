"""From an image as its reader gives it to the network's grid, by nnU-Net's own preprocessing.

All but the resampling is nnU-Net's code. Of what it resamples, splines take most of the time, and ``spline_resampling``
gives the same numbers for less; the mask of voxels outside the image is resampled only where a cascade needs it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.default_resampling import determine_do_sep_z_and_axis
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import Tensor

from nnunet_stochastic.inference.model import Model
from nnunet_stochastic.inference.spline_resampling import resample_image
from nnunet_stochastic.io.grid import check_spacing

__all__ = ["preprocess_image"]

_FLOAT_BYTES = 4

Resampling = Callable[[np.ndarray, Sequence[int], Sequence[float], Sequence[float]], Any]


def preprocess_image(
    model: Model, image: np.ndarray, properties: dict[str, Any], *, previous_stage: np.ndarray | None = None
) -> tuple[Tensor, dict[str, Any]]:
    """Crop, normalise and resample an image, and append the previous stage's segmentation for a cascade.

    Parameters
    ----------
    model
        Model that the image is for.
    image
        Image (channels, *S), axes as nnU-Net's readers give them: three in space, the first of length 1 for 2D images.
    properties
        Properties of the image, at least ``spacing``, one number per spatial axis. They are not changed.
    previous_stage
        Segmentation of the previous stage, (1, *S), for a cascade.

    Returns
    -------
    tuple
        The image on the network's grid, (channels, *S) float32, and the properties needed to come back.

    Raises
    ------
    ValueError
        If the image has other channels than the model, values that are not finite, a spacing that is none or with which
        nothing or too much is left on the network's grid, or a previous stage is missing, unwanted or of another shape.
    """
    check_spacing(properties)
    _check_image(model, image, previous_stage)
    _check_size_on_grid(model, image.shape, properties["spacing"])
    preprocessor = model.configuration_manager.preprocessor_class(verbose=False)
    discards_mask = previous_stage is None and type(preprocessor).run_case_npy is DefaultPreprocessor.run_case_npy
    configuration = _ImageConfiguration(model.configuration_manager, resamples_mask=not discards_mask)
    data, segmentation, properties = preprocessor.run_case_npy(
        image, previous_stage, dict(properties), model.plans_manager, configuration, model.dataset_json
    )
    if previous_stage is not None:
        one_hot = convert_labelmap_to_one_hot(segmentation[0], model.label_manager.foreground_labels, data.dtype)
        data = np.vstack((data, one_hot))
    return torch.from_numpy(np.ascontiguousarray(data, dtype=np.float32)), properties


class _ImageConfiguration(ConfigurationManager):
    """A configuration that resamples the image as it does, at less expense.

    Parameters
    ----------
    configuration
        The model's.
    resamples_mask
        Whether to resample the segmentation, too; without a previous stage it is a mask of nnU-Net's that is discarded.
    """

    def __init__(self, configuration: ConfigurationManager, *, resamples_mask: bool) -> None:
        super().__init__(configuration.configuration)
        self._model_configuration, self._resamples_mask = configuration, resamples_mask

    @property
    def resampling_fn_data(self) -> Resampling:
        planned = self._model_configuration.resampling_fn_data
        if self.configuration["resampling_fn_data"] != "resample_data_or_seg_to_shape":
            return planned
        return partial(_resample_by_splines, planned=planned, **self.configuration["resampling_fn_data_kwargs"])

    @property
    def resampling_fn_seg(self) -> Resampling:
        return self._model_configuration.resampling_fn_seg if self._resamples_mask else _empty_mask


def _resample_by_splines(
    image: np.ndarray,
    shape: Sequence[int],
    image_spacing: Sequence[float],
    spacing: Sequence[float],
    *,
    planned: Resampling,
    is_seg: bool = False,
    order: int = 3,
    order_z: int = 0,
    force_separate_z: bool | None = False,
    **threshold: float,
) -> np.ndarray:
    """As nnU-Net's function with these arguments, ``planned``, which is called where it takes no splines alone."""
    separate, slice_axis = determine_do_sep_z_and_axis(force_separate_z, image_spacing, spacing, **threshold)
    if is_seg or (separate and order_z != 0):
        return planned(image, shape, image_spacing, spacing)
    return resample_image(image, shape, order=order, slice_axis=slice_axis if separate else None)


def _empty_mask(mask: np.ndarray, shape: Sequence[int], *_: Sequence[float]) -> np.ndarray:
    return np.zeros((len(mask), *shape), dtype=np.int8)


def _check_size_on_grid(model: Model, shape: tuple[int, ...], spacing: Sequence[float]) -> None:
    """Raise where an image has no voxel on the network's grid, or more than fit into memory: the unit is another."""
    forward = model.plans_manager.transpose_forward
    target = [float(step) for step in model.configuration_manager.spacing]
    steps, sizes = [float(spacing[axis]) for axis in forward], [shape[1:][axis] for axis in forward]
    target = [*steps[: 3 - len(target)], *target]  # nnU-Net resamples no axis across 2D images
    resampled = [round(size * step / wanted) for size, step, wanted in zip(sizes, steps, target, strict=True)]
    too_large = shape[0] * math.prod(resampled) * _FLOAT_BYTES > _memory_bytes()
    if too_large or min(resampled) < 1:
        found, expected, made = (
            " x ".join(f"{value:.6g}" for value in values) for values in (steps, target, map(float, resampled))
        )
        raise ValueError(
            f"with its spacing of {found} the image has {made} voxels on the network's grid of {expected}"
            f"{', more than fit into memory' * too_large}: correct the spacing; its unit is that of the training data, "
            "mm as a rule"
        )


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on every system
        return 2**40


def _check_image(model: Model, image: np.ndarray, previous_stage: np.ndarray | None) -> None:
    if image.ndim != 4 or image.shape[0] != model.num_image_channels:
        raise ValueError(
            f"the image must be (channels, z, y, x), {model.num_image_channels} channels, got {image.shape}"
        )
    for index, channel in enumerate(image):
        if not np.isfinite(channel).all():
            count = int(channel.size - np.isfinite(channel).sum())
            raise ValueError(
                f"channel {index:04d} has {count} voxels that are NaN or infinite: replace them in the image"
            )
    stage = model.configuration_manager.previous_stage_name
    if (previous_stage is None) != (stage is None):
        raise ValueError(
            "this configuration takes no segmentation of a previous stage"
            if stage is None
            else f"this is a cascade: it needs the segmentation that {stage} predicts for the image"
        )
    if previous_stage is not None and previous_stage.shape != (1, *image.shape[1:]):
        raise ValueError(f"the previous stage's segmentation has shape {previous_stage.shape}, the image {image.shape}")
