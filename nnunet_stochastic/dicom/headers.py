"""The header of one slice: what its file says of it, and whatever makes it no slice that can be read."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from nnunet_stochastic.io.names import shown

__all__ = ["read_header"]

_CLASSES = (uid.CTImageStorage, uid.MRImageStorage, uid.PositronEmissionTomographyImageStorage)
_UNCOMPRESSED = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
#: What GDCM decodes.
_DECODED = (
    *(*_UNCOMPRESSED, uid.DeflatedExplicitVRLittleEndian, uid.RLELossless),
    *(uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1),
    *(uid.JPEGLSLossless, uid.JPEGLSNearLossless, uid.JPEG2000Lossless, uid.JPEG2000),
)
_IDENTIFIERS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
#: Lists of numbers, and how many there are.
_LISTS = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
_WHOLE_NUMBERS = ("Rows", "Columns", "BitsAllocated", "PixelRepresentation")
_NEEDED = (*_IDENTIFIERS, *_LISTS, *_WHOLE_NUMBERS)
_READ = (
    *("SOPClassUID", "ImageType", "SamplesPerPixel", "ModalityLUTSequence", "BitsStored"),
    *("RescaleSlope", "RescaleIntercept", "SliceThickness"),
)
#: What may be missing, and objects that are made of a series have empty, too.
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
_PIXEL_DATA = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")
#: Bytes of tag, type and length in front of the pixels; the implicit syntax leaves the type out.
_IMPLICIT_BYTES, _EXPLICIT_BYTES = 8, 12


def read_header(path: Path) -> Dataset:
    """Read what a file says of its slice, without the pixels, and check it as far as one file can be.

    Raises
    ------
    OSError
        The file cannot be read, is damaged, cut short or no DICOM.
    ValueError
        It is no slice of a CT, MR or PET, a localizer, compressed so that it cannot be decoded, or lacks something.
    """
    header, pixels_begin, has_pixels = _parsed(path)
    kind = header.get("SOPClassUID")
    if kind not in _CLASSES:
        raise ValueError(
            f"{path} is {_named(kind)}; slices of CT, MR and PET, one "
            "per file, are read: move it elsewhere, and convert multi-frame images first"
        )
    if "LOCALIZER" in (header.get("ImageType") or ()):
        raise ValueError(f"{path} is a localizer and no slice of the image: move it elsewhere")
    if missing := [name for name in _NEEDED if header.get(name) in (None, "")]:
        raise ValueError(f"{path} has no {', '.join(missing)}: export the series again")
    _check_values(path, header)
    if "ModalityLUTSequence" in header or header.get("SamplesPerPixel", 1) != 1:
        raise ValueError(f"{path} holds colours or a modality LUT: a slice has one number per pixel, rescaled linearly")
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax not in _DECODED:
        raise ValueError(
            f"{path} is compressed with {_named(syntax)}, which is not decoded here: decompress the series first"
        )
    needed = header.Rows * header.Columns * header.BitsAllocated // 8
    in_front = _IMPLICIT_BYTES if syntax == uid.ImplicitVRLittleEndian else _EXPLICIT_BYTES
    if syntax in _UNCOMPRESSED and (not has_pixels or os.path.getsize(path) < pixels_begin + in_front + needed):
        raise OSError(f"{path} is truncated: it has not the {needed} bytes of its pixels")
    for name in _MAY_BE_EMPTY:
        if name not in header:
            setattr(header, name, None)
    return header


def _parsed(path: Path) -> tuple[Any, int, bool]:
    """Header of a file, where its pixels begin, and whether there are some."""
    try:
        with path.open("rb") as stream:
            header: Any = pydicom.dcmread(stream, stop_before_pixels=True)
            pixels_begin = stream.tell()
            has_pixels = stream.read(4) in _PIXEL_DATA
        for name in (*_NEEDED, *_READ):
            header.get(name)  # elements are decoded when they are asked for
    except InvalidDicomError as error:
        raise OSError(
            f"{path} is no DICOM file, or cut short: move what is no slice of the series elsewhere"
        ) from error
    except Exception as error:  # what pydicom raises for damaged files
        raise OSError(f"{path} cannot be read: {error}") from error
    return header, pixels_begin, has_pixels


def _named(identifier: object) -> str:
    """What DICOM calls a class or a transfer syntax."""
    if identifier is None:
        return "something unnamed"
    name = uid.UID(str(identifier)).name
    return name if name != str(identifier) else f"unknown ({shown(name)})"


def _check_values(path: Path, header: Dataset) -> None:
    """Raise for values that are not the identifiers and numbers that they must be."""
    for name in _IDENTIFIERS:
        if not re.fullmatch(r"[0-9.]{1,64}", str(header[name].value)):
            raise ValueError(f"{path} has {name} {shown(str(header[name].value))}: up to 64 digits and dots are needed")
    for name, count in _LISTS.items():
        try:
            values = np.atleast_1d(np.array(header[name].value, dtype=float))
        except ValueError:  # damaged ones stay texts
            values = np.empty(0)
        if values.shape != (count,) or not np.isfinite(values).all():
            raise ValueError(f"{path} has {name} {shown(header[name].value)}: {count} finite numbers are needed")
    for name in _WHOLE_NUMBERS:
        if not isinstance(header[name].value, int):
            raise ValueError(f"{path} has {name} {shown(header[name].value)}: one whole number is needed")
