"""Images of nnU-Net's formats, read and written back in their geometry and their type of numbers.

A `StoredImage` is x in R^(C, z, y, x), axes in the order of nnU-Net's readers. nnU-Net's own writers write label
maps and cast to unsigned integers, so each format is written by the library that read it:

    NIfTI             nibabel, with the source's header and affine
    NRRD, MHA, GIPL   SimpleITK, with the source's spacing, origin and direction
    PNG, BMP          scikit-image
    TIFF              tifffile

Integers of up to 32 bits stay what they are, rounded and clipped to the range of their type. All other numbers become
float32, in which nnU-Net computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
import tifffile
from skimage import io

from nnunet_stochastic.io.grid import check_spacing
from nnunet_stochastic.io.images import check_image_file, check_voxels
from nnunet_stochastic.io.itk import itk_reason, keep_spacing
from nnunet_stochastic.io.nifti import millimetres_per_unit, written_by_library
from nnunet_stochastic.io.schemas import ImageSpacing
from nnunet_stochastic.io.text import read_json

__all__ = ["LOSSY_ENDINGS", "SUPPORTED_ENDINGS", "StoredImage", "read_stored_image", "spacing_file"]

LOSSY_ENDINGS = (".jpg", ".jpeg")
#: Planes are across the coarsest axis; steps that differ by less are equal.
_SPACING_TOLERANCE = 1e-3
Write = Callable[[np.ndarray, Path], None]


@dataclass(frozen=True)
class StoredImage:
    """What a file holds.

    Attributes
    ----------
    values : ndarray of float32, (C, z, y, x)
        C is 3 for colours, the length of the fourth axis of a 4D file, else 1; z is 1 for 2D images.
    spacing : tuple of 3 floats
        Distance of the voxels along (z, y, x), in the file's unit.
    is_colour : bool
        Whether the channels are red, green and blue; a fourth, alpha, is kept aside and written back as it was.
    number_type : numpy.dtype
        Type of the numbers in the file.
    grid : dict
        The voxel grid, as nnU-Net's readers describe theirs.
    unit_mm : float, or None
        Length of the spacing's unit in mm; None for pictures, which have no spacing, and where it is not known.
    """

    values: np.ndarray
    spacing: tuple[float, float, float]
    is_colour: bool
    number_type: np.dtype
    _write: Write
    grid: Mapping[str, Any] = field(default_factory=dict)
    unit_mm: float | None = None

    @property
    def pixel_mm(self) -> tuple[float, float] | None:
        """Distance of the pixels of a plane in mm, of both axes; None where it is not known."""
        if self.unit_mm is None:
            return None
        first, second = (step * self.unit_mm for axis, step in enumerate(self.spacing) if axis != self.slice_axis)
        return first, second

    @property
    def slice_axis(self) -> int:
        """The axis of (z, y, x) across the planes: one of length 1, else the coarsest, the first of equal ones."""
        shape = self.values.shape[1:]
        if 1 in shape:
            return shape.index(1)
        coarsest = max(self.spacing) * (1 - _SPACING_TOLERANCE)
        return next(axis for axis, step in enumerate(self.spacing) if step >= coarsest)

    def as_stored(self, values: np.ndarray) -> np.ndarray:
        """Values (C, z, y, x) as the file will have them, rounded and clipped to its type of numbers; float32."""
        return _as_numbers(values, self.number_type).astype(np.float32, copy=False)

    def write(self, values: np.ndarray, path: Path) -> None:
        """Write other values (C, z, y, x) as this image was stored, to a path of the same ending."""
        if values.shape != self.values.shape:
            raise ValueError(f"values of shape {self.values.shape} are needed, got {values.shape}")
        self._write(_as_numbers(values, self.number_type), path)


def _as_numbers(values: np.ndarray, number_type: np.dtype) -> np.ndarray:
    if number_type.kind not in "iu" or number_type.itemsize > 4:
        return values.astype(np.float32, copy=False)
    limits = np.iinfo(number_type)
    exact = values.astype(np.result_type(number_type, np.float32), copy=False)  # float32 does not hold 2^31 - 1
    return np.clip(np.rint(exact), limits.min, limits.max).astype(number_type)


def read_stored_image(path: Path) -> StoredImage:
    """Read a file whose name ends as one of `SUPPORTED_ENDINGS`.

    Raises
    ------
    OSError
        If it cannot be read as a 2D, 3D or 4D image.
    ValueError
        If it holds NaN, infinities, or what is no number.
    """
    read = next((read for ending, read in _READERS.items() if path.name.endswith(ending)), None)
    if read is None:
        raise ValueError(f"{path.name} is of no known format: {', '.join(_READERS)} are")
    source = check_image_file(path, by_itk=False)
    try:
        image, is_colour, grid, write = read(path)
    except Exception as error:  # of six libraries, few of which name the file
        raise OSError(f"{path} cannot be read: {itk_reason(error)}") from error
    if image.dtype.kind not in "iuf":
        raise ValueError(f"{path} must hold integers or floats, got {image.dtype} of shape {image.shape}")
    shape = image.shape if image.ndim == 4 else (1,) * (4 - image.ndim) + image.shape
    if len(shape) != 4:
        raise ValueError(f"{path} must have 2 to 4 dimensions, got shape {image.shape}")
    with np.errstate(over="ignore"):  # what float32 does not hold is found below
        values = image.astype(np.float32).reshape(shape)
    check_voxels(values, path)
    *_, spacing_z, spacing_y, spacing_x = (1.0, 1.0, 1.0, *(float(step) for step in grid["spacing"]))
    if not all(0 < step < math.inf for step in (spacing_z, spacing_y, spacing_x)):
        steps = (spacing_z, spacing_y, spacing_x)
        raise ValueError(f"{path} has the spacing {steps} along (z, y, x); correct its header: finite, above 0")
    original = image.shape

    def write_shaped(numbers: np.ndarray, target: Path) -> None:
        write(numbers.reshape(original), target)
        keep_spacing(target, source.spacing)

    spacing = (spacing_z, spacing_y, spacing_x)
    unit_mm = grid.get("unit_mm", 1.0) if len(grid["spacing"]) else None
    grid = {**grid, "spacing": spacing}
    return StoredImage(values, spacing, is_colour, image.dtype, write_shaped, grid, unit_mm)


def spacing_file(path: Path) -> Path:
    """Where nnU-Net looks for the spacing of a 3D TIFF CASE_0000.tif: CASE.json."""
    return path.with_name(path.stem[: -len("_0000")] + ".json")


Read = Callable[[Path], tuple[np.ndarray, bool, Mapping[str, Any], Write]]


def _read_nifti(path: Path) -> tuple[np.ndarray, bool, Mapping[str, Any], Write]:
    source = nibabel.load(path)
    if not isinstance(source, nibabel.Nifti1Image):  # which NIfTI-2 images are, too
        raise ValueError(f"it is no NIfTI image, but {type(source).__name__}")
    if not np.isfinite(source.affine).all():
        raise ValueError("its affine has NaN or infinities; correct its header")

    def write(numbers: np.ndarray, target: Path) -> None:
        header = source.header.copy()
        header.set_data_dtype(numbers.dtype)
        with written_by_library(target, by_itk=False) as path:
            nibabel.save(type(source)(numbers.T, source.affine, header), path)

    grid = {
        "spacing": source.header.get_zooms()[:3][::-1],
        "unit_mm": millimetres_per_unit(source.header),
        "nibabel_stuff": {"original_affine": source.affine},
    }
    return np.asanyarray(source.dataobj).T, False, grid, write


def _read_itk(path: Path) -> tuple[np.ndarray, bool, Mapping[str, Any], Write]:
    source = sitk.ReadImage(str(path))
    spacing, origin, direction = source.GetSpacing(), source.GetOrigin(), source.GetDirection()

    def write(numbers: np.ndarray, target: Path) -> None:
        image = sitk.GetImageFromArray(numbers, isVector=False)
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        image.SetDirection(direction)
        with written_by_library(target, by_itk=True) as path:
            sitk.WriteImage(image, str(path), True)

    grid = {"spacing": spacing[:3][::-1], "sitk_stuff": {"origin": origin, "direction": direction}}
    return sitk.GetArrayFromImage(source), False, grid, write


def _read_picture(path: Path) -> tuple[np.ndarray, bool, Mapping[str, Any], Write]:
    array = io.imread(path)

    def write(numbers: np.ndarray, target: Path) -> None:
        io.imsave(target, numbers, check_contrast=False)

    return _colours_first(array, write) if array.ndim == 3 else (array, False, {"spacing": ()}, write)


def _read_tiff(path: Path) -> tuple[np.ndarray, bool, Mapping[str, Any], Write]:
    with tifffile.TiffFile(path) as file:
        array, axes = file.series[0].asarray(), file.series[0].axes

    def write(numbers: np.ndarray, target: Path) -> None:
        photometric = "rgb" if "S" in axes else "minisblack"
        tifffile.imwrite(target, numbers, photometric=photometric, compression="zlib")

    if "S" in axes:  # colours, which may be stored plane by plane
        return _colours_first(np.moveaxis(array, axes.index("S"), -1), write)
    grid: dict[str, Any] = {"spacing": ()}
    if array.ndim == 3 and spacing_file(path).is_file():
        grid = dict(read_json(spacing_file(path), ImageSpacing))
        check_spacing(grid, spacing_file(path))
    return array, False, {"spacing": grid["spacing"]}, write


def _colours_first(array: np.ndarray, write: Write) -> tuple[np.ndarray, bool, Mapping[str, Any], Write]:
    """A colour image (H, W, 3 or 4) as (3, 1, H, W); alpha comes back when it is written."""
    if array.ndim != 3 or array.shape[-1] not in (3, 4):
        raise ValueError(f"it is neither gray nor RGB nor RGBA: its shape is {array.shape}")
    alpha = array[..., 3:]

    def write_colours(numbers: np.ndarray, target: Path) -> None:
        write(np.concatenate([np.moveaxis(numbers[:, 0], 0, -1), alpha.astype(numbers.dtype)], -1), target)

    return np.moveaxis(array[..., :3], -1, 0)[:, None], True, {"spacing": ()}, write_colours


_READERS: dict[str, Read] = {
    ".nii.gz": _read_nifti,
    ".nii": _read_nifti,
    ".nrrd": _read_itk,
    ".mha": _read_itk,
    ".gipl": _read_itk,
    ".png": _read_picture,
    ".bmp": _read_picture,
    ".tif": _read_tiff,
    ".tiff": _read_tiff,
}
SUPPORTED_ENDINGS = tuple(_READERS)
