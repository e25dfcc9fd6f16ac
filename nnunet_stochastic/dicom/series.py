"""A DICOM series: the slices of one image in order, and their voxel grid; whatever makes it no regular grid is refused.

With x and y the directions of rows and columns (ImageOrientationPatient) and n = x × y, the slices are ordered by n·p,
p their positions (ImagePositionPatient). With d = n·(p_last - p_first) / (N - 1) the voxel (k, i, j) of slice k, row i
and column j lies at

    p_first + k d n + i s_y y + j s_x x        s_y, s_x = PixelSpacing

(PS3.3, C.7.6.2.1.1, https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.7.6.2.html), and no slice
may lie further from that than a tenth of a voxel: not with a gantry tilt, gaps, or slices that are there twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from nnunet_stochastic.dicom.folders import slice_files
from nnunet_stochastic.dicom.headers import read_header
from nnunet_stochastic.dicom.slices import on_same_grid, ordered_slices
from nnunet_stochastic.io.names import few

__all__ = ["DicomSeries", "read_case", "read_series", "series_identity"]


@dataclass(frozen=True)
class DicomSeries:
    """The slices of one image.

    Attributes
    ----------
    folder
        Folder that they were read from.
    files, headers
        Files and their content without the pixels, in the order of the slices along the normal of their plane. The
        headers have the distance of slices that their positions have, which is their thickness where they say none;
        what of patient and study they lack is empty.
    affine
        From the index (slice, row, column, 1) of a voxel to mm, (4, 4): right, anterior and superior, as in NIfTI.
    """

    folder: Path
    files: tuple[Path, ...]
    headers: tuple[Dataset, ...]
    affine: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of slices, rows and columns."""
        return len(self.files), int(self.headers[0].Rows), int(self.headers[0].Columns)

    @property
    def identity(self) -> dict[str, str]:
        """Unique identifiers of study, series and frame of reference."""
        return _identity(self.headers[0])

    @property
    def has_one_pixel_type(self) -> bool:
        """Whether all slices hold numbers of one type, rescaled alike."""
        names = ("BitsAllocated", "BitsStored", "PixelRepresentation", "RescaleSlope", "RescaleIntercept")
        return len({tuple(header.get(name) for name in names) for header in self.headers}) == 1


def read_case(folders: Sequence[Path]) -> tuple[DicomSeries, ...]:
    """Series of a case, one per channel.

    Raises
    ------
    OSError, ValueError
        As of ``read_series``, or the channels are of several studies, frames of reference or voxel grids.
    """
    channels = tuple(read_series(folder) for folder in folders)
    first = channels[0]
    for other in channels[1:]:
        for name, text in (("study_instance_uid", "studies"), ("frame_of_reference_uid", "frames of reference")):
            mine, its = first.identity[name], other.identity[name]
            if mine != its:
                raise ValueError(
                    f"{first.folder} and {other.folder} are of several {text} ({mine} and {its}): the channels of a "
                    "case are of one"
                )
        if first.shape != other.shape or not on_same_grid(first.affine, other.affine, first.shape):
            raise ValueError(
                f"{first.folder} and {other.folder} are on different voxel grids: resample one to that of the other"
            )
    return channels


def read_series(folder: Path) -> DicomSeries:
    """Read the headers of a folder of slices, and put them in order.

    Parameters
    ----------
    folder
        Folder that holds the slices of one series, one per file and under any names, and nothing else.

    Raises
    ------
    OSError
        A file cannot be read, is cut short or is no DICOM.
    ValueError
        Files are of several series or frames of reference, of another kind (localizers, multi-frame images, reports),
        compressed so that they cannot be decoded, or on no regular grid: gantry tilt, missing or duplicate slices,
        several sizes, spacings or orientations.
    """
    headers = {path: read_header(path) for path in slice_files(folder)}
    for tag, text in (
        ("StudyInstanceUID", "studies"),
        ("SeriesInstanceUID", "series"),
        ("FrameOfReferenceUID", "frames of reference"),
    ):
        _require_one(folder, headers, text, lambda header, tag=tag: str(header[tag].value))  # type: ignore[misc]
    _require_one(folder, headers, "sizes", lambda header: f"{header.Rows} x {header.Columns}")
    for tag, text in (("PixelSpacing", "pixel spacings"), ("ImageOrientationPatient", "orientations")):
        _require_one(folder, headers, text, lambda header, tag=tag: _rounded(header[tag].value))  # type: ignore[misc]
    files = list(headers)
    order, affine = ordered_slices(
        folder,
        [file.name for file in files],
        positions=np.array([headers[file].ImagePositionPatient for file in files], dtype=float),
        orientation=np.array(headers[files[0]].ImageOrientationPatient, dtype=float),
        pixel_spacing_mm=np.array(headers[files[0]].PixelSpacing, dtype=float),
    )
    in_order = tuple(files[index] for index in order)
    distance_mm = f"{np.linalg.norm(affine[:3, 0]):.10g}"
    for header in headers.values():
        header.SpacingBetweenSlices = distance_mm
        if header.get("SliceThickness") is None:  # readers of objects that refer to the series need one
            header.SliceThickness = distance_mm
    return DicomSeries(folder, in_order, tuple(headers[file] for file in in_order), affine)


def series_identity(folder: Path) -> dict[str, str]:
    """Unique identifiers of the study, series and frame of reference of a folder of slices, by its first file."""
    return _identity(read_header(slice_files(folder)[0]))


def _identity(header: Dataset) -> dict[str, str]:
    return {
        "study_instance_uid": str(header.StudyInstanceUID),
        "series_instance_uid": str(header.SeriesInstanceUID),
        "frame_of_reference_uid": str(header.FrameOfReferenceUID),
    }


def _require_one(folder: Path, headers: dict[Path, Dataset], what: str, value_of: Callable[[Dataset], str]) -> None:
    """Raise where slices differ in something that a series has one of; the rarest value is told first."""
    found = defaultdict(list)
    for path, header in headers.items():
        found[value_of(header)].append(path.name)
    if len(found) > 1:
        listed = sorted(found.items(), key=lambda entry: len(entry[1]))
        told = "; ".join(f"{value} of {few(names, 'files')}" for value, names in listed[:4])
        raise ValueError(f"{folder} holds slices of {len(found)} {what} ({told}): leave one image in it")


def _rounded(values: Sequence[float]) -> str:
    return " ".join(f"{float(value) + 0.0:.4f}" for value in values)
