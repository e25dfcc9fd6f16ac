"""Reads files through nnU-Net's reader of the dataset, so that axes mean the same as in the probabilities it wrote."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from nnunet_stochastic.evaluation.labels import EvaluatedLabels
from nnunet_stochastic.io import images
from nnunet_stochastic.io.images import ImageReader

__all__ = ["ImageReader", "read_first_channel", "read_label_map", "read_probabilities"]


def read_label_map(path: Path, labels: EvaluatedLabels, reader: ImageReader) -> tuple[np.ndarray, dict]:
    """Label map (z, y, x), integer, and the reader's properties of its grid."""
    return images.read_label_map(path, reader, highest=labels.highest)


def read_first_channel(path: Path, reader: ImageReader, shape: tuple[int, ...]) -> np.ndarray:
    """First channel (z, y, x) of an image of this size, or colours (1, y, x, 3) where a 2D file has them."""
    channels, _ = images.read_image([path], reader)
    if channels.shape[1:] != shape:
        raise ValueError(f"{path} has size (z, y, x) {channels.shape[1:]}, the prediction {shape}")
    coloured = shape[0] == 1 and len(channels) in (3, 4)  # the fourth is the opacity
    return np.moveaxis(channels[:3], 0, -1) if coloured else channels[0]


def read_probabilities(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Predictive mean (C, z, y, x), float, from the npz file that nnU-Net writes; ``shape`` is what it must have."""
    try:
        with np.load(path) as archive:
            if "probabilities" not in archive:
                raise ValueError(f"{path} has no array named probabilities; predict again with --save_probabilities")
            probabilities = archive["probabilities"]
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}); predict this case again") from error
    if probabilities.shape != shape:
        raise ValueError(
            f"{path} has shape {probabilities.shape}; segmentation and dataset.json give (C, z, y, x) = {shape}"
        )
    # Half precision would overflow in sums and is slow on the CPU.
    probabilities = probabilities.astype(np.float32) if probabilities.dtype == np.float16 else probabilities
    if np.isnan(probabilities).any():
        raise ValueError(f"{path} has NaN in {int(np.isnan(probabilities).sum())} of its probabilities")
    if probabilities.min() < -1e-5 or probabilities.max() > 1 + 1e-5:
        raise ValueError(f"{path} has probabilities outside [0, 1]: {probabilities.min():g} to {probabilities.max():g}")
    return probabilities
