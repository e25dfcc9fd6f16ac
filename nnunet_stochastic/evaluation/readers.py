"""Reads files through nnU-Net's reader of the dataset, so that axes mean the same as in the probabilities it wrote."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_stochastic.io import images
from nnunet_stochastic.io.grid import check_same_grid
from nnunet_stochastic.io.images import ImageReader
from nnunet_stochastic.io.names import few
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = ["ImageReader", "read_first_channel", "read_label_map", "read_probabilities", "read_probability_images"]

_AGAIN = "predict this case again with --save_probabilities"


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


def read_probabilities(path: Path, segmentation: np.ndarray, labels: EvaluatedLabels) -> np.ndarray:
    """Predictive mean from the npz file that nnU-Net writes.

    Parameters
    ----------
    path
        The file.
    segmentation
        Label map (z, y, x) beside it, of which it must be the probabilities.
    labels
        The classes.

    Returns
    -------
    numpy.ndarray
        (C, z, y, x), float, in [0, 1]; without regions it sums to 1 over the classes.

    Raises
    ------
    ValueError
        The file is damaged or holds something else.
    """
    return _checked(_read_array(path), path, segmentation, labels)


def read_probability_images(
    paths: Sequence[Path],
    prediction: Path,
    segmentation: np.ndarray,
    grid: Mapping[str, Any],
    labels: EvaluatedLabels,
    reader: ImageReader,
) -> np.ndarray:
    """Predictive mean from an image per channel, in the order of their numbers.

    Parameters
    ----------
    paths
        Files CASE_0000, CASE_0001 and so on, as many as there are classes or regions.
    prediction, segmentation, grid
        File of the label map of the same prediction, the label map (z, y, x) and its grid.
    labels, reader
        The classes, and nnU-Net's reader of the dataset.

    Returns
    -------
    numpy.ndarray
        As of ``read_probabilities``.

    Raises
    ------
    ValueError
        Images are missing or too many, on another grid, or hold something else.
    """
    first = paths[0]
    case, ending = re.fullmatch(r"(.+_)\d{4}(\..+)", first.name).groups()  # type: ignore[union-attr]
    expected = [f"{case}{channel:04d}{ending}" for channel in range(labels.num_channels)]
    found = [path.name for path in paths]
    if found != expected:
        missing = [name for name in expected if name not in found]
        wrong = [name for name in found if name not in expected]
        said = [
            f"{what}: {few(names, 'files')}" for what, names in (("missing", missing), ("too many", wrong)) if names
        ]
        raise ValueError(
            f"{first.parent} must have {len(expected)} images of the case, one for each "
            f"{'region' if labels.has_regions else 'class'} ({'; '.join(said)}); {_AGAIN}"
        )
    channels = []
    for path in paths:
        image, image_grid = images.read_volume(path, reader)
        check_same_grid(prediction, segmentation.shape, grid, path, image.shape[1:], image_grid)
        channels.append(image[0])
    of_all = first.with_name(f"{case}*{ending}")
    return _checked(np.stack(channels), of_all, segmentation, labels)


def _checked(probabilities: np.ndarray, path: Path, segmentation: np.ndarray, labels: EvaluatedLabels) -> np.ndarray:
    shape = (labels.num_channels, *segmentation.shape)
    if probabilities.dtype.kind != "f":
        raise ValueError(f"{path} has values of type {probabilities.dtype}, probabilities are fractions; {_AGAIN}")
    if probabilities.shape != shape:
        raise ValueError(
            f"{path} has shape {probabilities.shape}; segmentation and dataset.json give (C, z, y, x) = {shape}"
        )
    # Half precision would overflow in sums and is slow on the CPU.
    tolerance = 5e-3 if probabilities.dtype == np.float16 else 1e-3
    probabilities = probabilities.astype(np.float32) if probabilities.dtype == np.float16 else probabilities
    if np.isnan(probabilities).any():
        raise ValueError(f"{path} has NaN in {int(np.isnan(probabilities).sum())} of its probabilities")
    if probabilities.min() < -1e-5 or probabilities.max() > 1 + 1e-5:
        raise ValueError(f"{path} has probabilities outside [0, 1]: {probabilities.min():g} to {probabilities.max():g}")
    if not labels.has_regions:
        sums = probabilities.sum(axis=0)
        if max(1 - sums.min(), sums.max() - 1) > tolerance:
            raise ValueError(
                f"{path} must sum to 1 over its {len(probabilities)} classes, got {sums.min():g} to {sums.max():g}; "
                f"{_AGAIN}"
            )
    _check_fits(path, probabilities, labels.without_ignored(segmentation), labels)
    return probabilities


def _read_array(path: Path) -> np.ndarray:
    """The array ``probabilities`` of an npz file."""
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is no npz file")
        with archive:
            if "probabilities" not in archive:
                raise KeyError
            return archive["probabilities"]
    except KeyError:
        raise ValueError(f"{path} has no array named probabilities; predict again with --save_probabilities") from None
    except FileNotFoundError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged ({error}); predict this case again") from error


def _check_fits(path: Path, probabilities: np.ndarray, segmentation: np.ndarray, labels: EvaluatedLabels) -> None:
    """Raise where a class is improbable in most of its own voxels: the classes are others, or in another order.

    Not in all of its voxels: the segmentation may have been post-processed.
    """
    if labels.has_regions:
        found = [(name, labels.target(segmentation, index), index) for index, name in enumerate(labels.names)]
        supported = probabilities > 0.49
    else:
        names = {0: "background"} | labels.value_names()
        found = [(names[value], segmentation == value, value) for value in range(labels.num_labels)]
        # Nearly the largest: half precision makes ties.
        supported = probabilities > probabilities.max(axis=0) - 0.01
    for name, voxels, channel in found:
        count = np.count_nonzero(voxels)
        agreeing = np.count_nonzero(supported[channel] & voxels)
        if 2 * agreeing < count:
            raise ValueError(
                f"{path}: {name} is not the most probable class in {count - agreeing} of its {count} voxels in the "
                f"segmentation: the classes are in another order, or the files of two predictions; {_AGAIN}"
            )
