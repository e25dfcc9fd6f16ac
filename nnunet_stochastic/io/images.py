"""The one way in for images and label maps: every command reads them here, through nnU-Net's reader of the dataset.

    check_image_file     what libraries pass over in silence, before one of them reads the file
    read_image           a case's channels, on one voxel grid
    read_volume          one file of its own: a segmentation, a map
    read_label_map       a segmentation whose values are labels

Beside what the reader returns, the properties hold under ``SOURCE`` what it leaves out and volumes and writing need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import tifffile
from nibabel.nifti1 import Nifti1Header

from nnunet_stochastic.io.grid import SOURCE, check_same_grid, check_spacing
from nnunet_stochastic.io.itk import ENDINGS, ItkSpacing, check_itk_file, itk_reason
from nnunet_stochastic.io.nifti import check_nifti, is_compressed, is_nifti, millimetres_per_unit
from nnunet_stochastic.io.text import read_json

__all__ = [
    "ImageReader",
    "ImageSource",
    "check_image_file",
    "check_voxels",
    "read_by_itk",
    "read_image",
    "read_label_map",
    "read_volume",
]

#: Header and voxels in a file each, of which neither says where the image lies: Analyze, and NIfTI's pairs.
_PAIRS = (".hdr", ".img", ".hdr.gz", ".img.gz")


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
    spacing
        Whether the file, or the one beside a TIFF, has a spacing, and the unit that ITK leaves out.
    spacing_unit_mm
        Length in mm of the unit of the reader's spacing; ``None`` where that is not known.
    """

    header: Nifti1Header | None = None
    spacing: ItkSpacing = field(default_factory=ItkSpacing)
    spacing_unit_mm: float | None = 1.0


def read_by_itk(reader: type) -> bool:
    """Whether a reader of nnU-Net's reads NIfTI files through ITK; of unknown ones it is supposed."""
    return not any(base.__name__.startswith("NibabelIO") for base in reader.__mro__)


def check_image_file(path: Path, *, by_itk: bool = True, decompress_to: Path | None = None) -> ImageSource:
    """Check what the libraries pass over in silence.

    Parameters
    ----------
    path
        Image, map or label map of any format.
    by_itk
        Whether ITK will read it if it is a NIfTI file.
    decompress_to
        File to write with the content of a compressed NIfTI file.

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
    if path.name.lower().endswith(_PAIRS):
        raise ValueError(f"{path} is a part of two files, header and voxels: store the image as one, such as .nii.gz")
    if is_nifti(path):
        header = check_nifti(path, by_itk=by_itk, decompress_to=decompress_to)
        unit = millimetres_per_unit(header)
        # ITK's spacing is in mm already.
        return ImageSource(header, spacing_unit_mm=1.0 if by_itk and unit is not None else unit)
    if ending in ENDINGS:
        spacing = check_itk_file(path)
        return ImageSource(None, spacing, spacing.unit_mm)
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


def check_voxels(array: np.ndarray, path: Path) -> None:
    """Raise ``ValueError`` unless an image has voxels and all of them are finite."""
    if array.size == 0:
        raise ValueError(f"{path} has no voxels, its size is {' x '.join(map(str, array.shape[::-1]))}: store it again")
    # NaN is the extreme of all that holds one; no copy of the image is made.
    if array.dtype.kind == "f" and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        count = array.size - np.count_nonzero(np.isfinite(array))
        raise ValueError(
            f"{path} has {count} voxels that are NaN or infinite in float32: replace them by numbers in the file"
        )


def _read(
    path: Path,
    reader: ImageReader,
    read: Callable[[str], tuple[np.ndarray, Mapping[str, Any]]],
    *,
    characters_of_channel: int,
) -> tuple[np.ndarray, dict[str, Any]]:
    with _place_to_decompress(path, reader) as decompressed:
        source = check_image_file(path, by_itk=read_by_itk(type(reader)), decompress_to=decompressed)
        if _spacing_is_beside(reader):
            source = _check_spacing_file(path, characters_of_channel)
        readable = path if decompressed is None else decompressed
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what float32 does not hold is found below
                array, properties = read(str(readable))
        except Exception as error:  # readers raise what their libraries raise, few of which name the file
            kind = OSError if isinstance(error, OSError) else ValueError
            reason = itk_reason(error).replace(str(readable), str(path))
            raise kind(f"{path} cannot be read: {reason}") from error
    check_spacing(properties, path)
    check_voxels(array, path)
    return array, {**properties, SOURCE: source}


@contextmanager
def _place_to_decompress(path: Path, reader: ImageReader) -> Iterator[Path | None]:
    """A temporary file for a compressed NIfTI file, so that it is decompressed once for its check and its reader.

    ``None`` for other formats, and for readers of a user's own, which may look at the name or the folder of a file.
    """
    methods = [getattr(type(reader), name, reader) for name in ("read_images", "read_seg")]
    of_nnunet = all(method.__module__.startswith("nnunetv2.") for method in methods)
    if not (of_nnunet and is_nifti(path) and is_compressed(path)):
        yield None
        return
    with TemporaryDirectory(prefix="nnunet_stochastic_") as folder:
        yield Path(folder) / path.with_suffix("").name


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
        return ImageSource(None, ItkSpacing(given=False), None)
    content = read_json(beside, dict, remedy='write {"spacing": [z, y, x]} into it')
    check_spacing(content, beside)
    return ImageSource()
