"""Write maps and segmentations in the geometry of the images they are of.

nnU-Net's ``write_seg`` casts to integers, so floats are written here, for each of nnU-Net's reader-writers with the
properties that its reader returned. 2D formats that hold no floats (png, bmp) become tif. What the reader leaves out
of the geometry comes from the image's file, where `io.images` has read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
import tifffile
from batchgenerators.utilities.file_and_folder_operations import save_json
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from nnunet_stochastic.io.grid import SOURCE
from nnunet_stochastic.io.images import ImageSource, read_by_itk
from nnunet_stochastic.io.itk import keep_spacing
from nnunet_stochastic.io.nifti import written_by_library

__all__ = ["map_ending", "write_labels", "write_map"]

_SUPPORTED = (SimpleITKIO, NibabelIO, NibabelIOWithReorient, NaturalImage2DIO, Tiff3DIO)


def map_ending(reader_writer: type[BaseReaderWriter], file_ending: str) -> str:
    """File ending of the maps of a dataset whose images end with ``file_ending``."""
    if not issubclass(reader_writer, _SUPPORTED):
        raise ValueError(
            f"maps cannot be written for images read with {reader_writer.__name__}, only for "
            f"{', '.join(supported.__name__ for supported in _SUPPORTED)} and their subclasses"
        )
    return ".tif" if issubclass(reader_writer, NaturalImage2DIO) else file_ending


def write_map(array: np.ndarray, path: Path, properties: dict[str, Any], reader_writer: type[BaseReaderWriter]) -> None:
    """Write a float32 map (z, y, x), axes as nnU-Net's reader gives them.

    Parameters
    ----------
    array
        Map to write; its first axis has length 1 for 2D images.
    path
        File to write, with the ending that ``map_ending`` gives.
    properties
        Properties that the reader returned with the image.
    reader_writer
        nnU-Net's class that read the image.
    """
    map_ending(reader_writer, path.suffix)
    with _keep_geometry(path, properties, reader_writer) as written:
        _write_floats(np.ascontiguousarray(array, dtype=np.float32), written, properties, reader_writer)


def write_labels(
    labels: np.ndarray, path: Path, properties: dict[str, Any], reader_writer: type[BaseReaderWriter]
) -> None:
    """Write a segmentation (z, y, x) of integers as nnU-Net does; arguments as for ``write_map``."""
    with _keep_geometry(path, properties, reader_writer) as written:
        reader_writer().write_seg(labels, str(written), properties)


@contextmanager
def _keep_geometry(path: Path, properties: dict[str, Any], reader_writer: type[BaseReaderWriter]) -> Iterator[Path]:
    source: ImageSource = properties.get(SOURCE, ImageSource())
    with written_by_library(path, source.header, by_itk=read_by_itk(reader_writer)) as written:
        yield written
    keep_spacing(path, source.spacing)
    if issubclass(reader_writer, Tiff3DIO) and not source.spacing.given:
        path.with_suffix(".json").unlink()  # a spacing of 1 that nobody has given


def _write_floats(
    array: np.ndarray, path: Path, properties: dict[str, Any], reader_writer: type[BaseReaderWriter]
) -> None:
    if issubclass(reader_writer, SimpleITKIO):
        _write_simpleitk(array, path, properties["sitk_stuff"])
    elif issubclass(reader_writer, (NibabelIO, NibabelIOWithReorient)):
        _write_nibabel(array, path, properties["nibabel_stuff"])
    elif issubclass(reader_writer, NaturalImage2DIO):
        tifffile.imwrite(path, array[0], photometric="minisblack", compression="zlib")
    elif issubclass(reader_writer, Tiff3DIO):
        tifffile.imwrite(path, array, photometric="minisblack", compression="zlib")
        # Tiff3DIO reads the spacing from a file of this name.
        save_json({"spacing": properties["spacing"]}, str(path.with_suffix(".json")))


def _write_simpleitk(array: np.ndarray, path: Path, geometry: dict[str, Any]) -> None:
    image = sitk.GetImageFromArray(array[0] if len(geometry["spacing"]) == 2 else array)
    image.SetSpacing(geometry["spacing"])
    image.SetOrigin(geometry["origin"])
    image.SetDirection(geometry["direction"])
    if "original_orientation" in geometry:  # SimpleITKIOWithReorient
        image = sitk.DICOMOrient(image, geometry["original_orientation"])
    sitk.WriteImage(image, str(path), True)


def _write_nibabel(array: np.ndarray, path: Path, geometry: dict[str, Any]) -> None:
    array = array.transpose(2, 1, 0)
    if "reoriented_affine" not in geometry:
        nibabel.save(nibabel.Nifti1Image(array, geometry["original_affine"]), path)
        return
    canonical = nibabel.Nifti1Image(array, geometry["reoriented_affine"])
    original = ornt_transform(axcodes2ornt("RAS"), io_orientation(geometry["original_affine"]))
    nibabel.save(canonical.as_reoriented(original), path)
