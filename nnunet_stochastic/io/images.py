"""The one way in for images and label maps: every command reads them here, through nnU-Net's reader of the dataset.

    check_image_file     what libraries pass over in silence, before one of them reads the file
    read_image           a case's channels, on one voxel grid
    read_volume          one file of its own: a segmentation, a map
    read_label_map       a segmentation whose values are labels

Beside what the reader returns, the properties hold under ``SOURCE`` what it leaves out and volumes and writing need.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import SimpleITK as sitk
import tifffile
from nibabel.nifti1 import Nifti1Header

from nnunet_stochastic.io.grid import SOURCE, check_same_grid, check_spacing
from nnunet_stochastic.io.nifti import check_nifti, is_nifti, millimetres_per_unit
from nnunet_stochastic.io.text import read_json

__all__ = [
    "ImageReader",
    "ImageSource",
    "check_image_file",
    "read_by_itk",
    "read_image",
    "read_label_map",
    "read_volume",
]

#: Formats whose headers ITK reads before the voxels, and where these headers say that there is a spacing.
_ITK_ENDINGS = {".nrrd": rb"^(spacings|space directions):", ".mha": rb"^Element(Spacing|Size) *=", ".gipl": rb""}
_NRRD_UNITS = re.compile(rb"^space units:(.*)$", re.MULTILINE)
_HEADER_LENGTH = 1 << 14


class ImageReader(Protocol):
    """What is used of nnU-Net's ``BaseReaderWriter``."""

    def read_images(self, image_fnames: Sequence[str]) -> tuple[np.ndarray, dict]:
        """Images as (channels, z, y, x) and their properties."""

    def read_seg(self, seg_fname: str) -> tuple[np.ndarray, dict]:
        """A segmentation as (1, z, y, x) and its properties."""


@dataclass(frozen=True)
class ImageSource:
    """What nnU-Net's readers do not say of a file.

    Attributes
    ----------
    header
        Header of a NIfTI file, ``None`` for other formats.
    has_spacing
        Whether the file, or the one beside a TIFF, has a spacing.
    spacing_unit_mm
        Length in mm of the unit of the reader's spacing; ``None`` where that is not known.
    """

    header: Nifti1Header | None = None
    has_spacing: bool = True
    spacing_unit_mm: float | None = 1.0


def read_by_itk(reader: type) -> bool:
    """Whether a reader of nnU-Net's reads NIfTI files through ITK; of unknown ones it is supposed."""
    return not any(base.__name__.startswith("NibabelIO") for base in reader.__mro__)


def check_image_file(path: Path, *, by_itk: bool = True) -> ImageSource:
    """Check what the libraries pass over in silence.

    Parameters
    ----------
    path
        Image, map or label map of any format.
    by_itk
        Whether ITK will read it if it is a NIfTI file.

    Raises
    ------
    OSError
        The file cannot be read, or ends too early.
    ValueError
        It holds what is no number, NaN or infinities, or has a geometry that is none; or another file would be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} cannot be read: no such file")
    ending = path.suffix.lower()
    if is_nifti(path):
        header = check_nifti(path, by_itk=by_itk)
        unit = millimetres_per_unit(header)
        # ITK's spacing is in mm already.
        return ImageSource(header, spacing_unit_mm=1.0 if by_itk and unit is not None else unit)
    if ending in _ITK_ENDINGS:
        return _check_itk_file(path, _ITK_ENDINGS[ending])
    if ending in (".tif", ".tiff"):
        _check_tiff(path)
    return ImageSource()


def read_image(files: Sequence[Path], reader: ImageReader) -> tuple[np.ndarray, dict[str, Any]]:
    """Channels (channels, z, y, x) of a case, float32, and the properties of the first file.

    Raises
    ------
    OSError, ValueError
        A file cannot be read or is refused by ``check_image_file``; channels are not on one voxel grid.
    """
    channels: list[np.ndarray] = []
    properties: dict[str, Any] = {}
    for file in files:
        array, grid = _read(file, reader, lambda path: reader.read_images([path]), characters_of_channel=len("_0000"))
        if channels:
            check_same_grid(file, array.shape[1:], grid, files[0], channels[0].shape[1:], properties)
        else:
            properties = grid
        channels.append(array)
    return channels[0] if len(channels) == 1 else np.concatenate(channels), properties


def read_volume(path: Path, reader: ImageReader) -> tuple[np.ndarray, dict[str, Any]]:
    """Voxels (channels, z, y, x) of a file named CASE + ending, and the reader's properties of its grid."""
    return _read(path, reader, reader.read_seg, characters_of_channel=0)


def read_label_map(path: Path, reader: ImageReader, *, highest: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Label map (z, y, x), integer, and the reader's properties of its grid.

    Parameters
    ----------
    path
        The file.
    reader
        nnU-Net's reader of the dataset.
    highest
        The largest label of dataset.json; they are 0 to this.
    """
    array, properties = read_volume(path, reader)
    if array.shape[0] != 1:
        raise ValueError(f"{path} has {array.shape[0]} channels; a label map has one")
    with np.errstate(invalid="ignore"):  # NaN is found below
        labels_found = array[0].astype(np.uint8 if highest < 256 else np.int32)
    # Equality also refuses fractions, NaN and negative numbers, which the cast would hide.
    if not np.array_equal(labels_found, array[0]) or labels_found.max(initial=0) > highest:
        outside = [value for value in np.unique(array) if value not in range(highest + 1)]
        values = ", ".join(f"{value:g}" for value in outside[:10])
        raise ValueError(f"{path} holds {values}; the labels of dataset.json are 0 to {highest}")
    return labels_found, properties


def _read(
    path: Path,
    reader: ImageReader,
    read: Callable[[str], tuple[np.ndarray, Mapping[str, Any]]],
    *,
    characters_of_channel: int,
) -> tuple[np.ndarray, dict[str, Any]]:
    source = check_image_file(path, by_itk=read_by_itk(type(reader)))
    if _spacing_is_beside(reader):
        source = _check_spacing_file(path, characters_of_channel)
    try:
        array, properties = read(str(path))
    except OSError:
        raise
    except Exception as error:  # readers raise what their libraries raise, few of which name the file
        reason = str(error).strip().splitlines()
        raise ValueError(f"{path} cannot be read: {reason[-1] if reason else type(error).__name__}") from error
    check_spacing(properties, path)
    return array, {**properties, SOURCE: source}


def _check_itk_file(path: Path, spacing_line: bytes) -> ImageSource:
    header = sitk.ImageFileReader()
    header.SetFileName(str(path))
    try:
        header.ReadImageInformation()
    except RuntimeError as error:  # what SimpleITK raises for everything
        raise OSError(f"{path} cannot be read: {str(error).strip().splitlines()[-1]}") from error
    if header.GetNumberOfComponents() != 1 or "complex" in sitk.GetPixelIDValueAsString(header.GetPixelID()):
        raise ValueError(
            f"{path} holds colours, vectors or complex numbers: store one number per voxel, a file per channel"
        )
    with path.open("rb") as stream:
        text = stream.read(_HEADER_LENGTH).split(b"\n\n")[0].replace(b"\r", b"")
    units = _NRRD_UNITS.search(text)
    in_mm = units is None or set(re.findall(rb'"(.*?)"', units[1])) <= {b"mm", b""}
    has_spacing = re.search(spacing_line, text, re.MULTILINE) is not None
    return ImageSource(None, has_spacing, 1.0 if has_spacing and in_mm else None)


def _check_tiff(path: Path) -> None:
    try:
        with tifffile.TiffFile(path) as file:
            kind = file.series[0].dtype.kind
    except Exception as error:  # tifffile's errors do not name the file
        raise OSError(f"{path} cannot be read: {error}") from error
    if kind not in "biuf":
        raise ValueError(f"{path} holds what is no real number: store one number per voxel, a file per channel")


def _spacing_is_beside(reader: ImageReader) -> bool:
    return any(base.__name__ == "Tiff3DIO" for base in type(reader).__mro__)


def _check_spacing_file(path: Path, characters_of_channel: int) -> ImageSource:
    """nnU-Net keeps the spacing of CASE_0000.tif, and of CASE.tif, in CASE.json, and takes 1 where there is none."""
    beside = path.with_name(path.name[: len(path.name) - len(path.suffix) - characters_of_channel] + ".json")
    if not beside.is_file():
        return ImageSource(None, has_spacing=False, spacing_unit_mm=None)
    content = read_json(beside, dict, remedy='write {"spacing": [z, y, x]} into it')
    check_spacing(content, beside)
    return ImageSource()
