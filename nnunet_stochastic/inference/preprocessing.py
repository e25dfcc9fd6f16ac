"""From an image as its reader gives it to the network's grid, by nnU-Net's own preprocessing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from torch import Tensor

from nnunet_stochastic.inference.model import Model
from nnunet_stochastic.io.grid import check_spacing

__all__ = ["preprocess_image"]


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
        If the image has other channels than the model, values that are not finite or a spacing that is none, or a
        previous stage is missing, unwanted or of another shape.
    """
    check_spacing(properties)
    _check_image(model, image, previous_stage)
    preprocessor = model.configuration_manager.preprocessor_class(verbose=False)
    data, segmentation, properties = preprocessor.run_case_npy(
        image, previous_stage, dict(properties), model.plans_manager, model.configuration_manager, model.dataset_json
    )
    if previous_stage is not None:
        one_hot = convert_labelmap_to_one_hot(segmentation[0], model.label_manager.foreground_labels, data.dtype)
        data = np.vstack((data, one_hot))
    return torch.from_numpy(np.ascontiguousarray(data, dtype=np.float32)), properties


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
