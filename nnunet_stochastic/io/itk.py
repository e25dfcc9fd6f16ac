"""NRRD, MetaImage and GIPL files: what ITK's reader passes over in silence, and what its writer makes up.

ITK takes a spacing that is not there for 1 and a number that is none for 0, compares no checksums of compressed voxels,
fills GIPL files that end too early with what lies in memory, and knows no units. So files are checked apart from it.
Where an image has no spacing, or one in another unit than mm, what is written of it is given the same header lines.
"""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import SimpleITK as sitk

__all__ = ["ENDINGS", "GIPL_HEADER_BYTES", "ItkSpacing", "check_itk_file", "itk_reason", "keep_spacing", "voxel_bytes"]

GIPL_HEADER_BYTES = 256
_NRRD, _META = (".nrrd", ".nhdr"), (".mha", ".mhd")
ENDINGS = (*_NRRD, *_META, ".gipl")
_CHUNK = 1 << 20
_LONGEST_HEADER = 1 << 22
_MILLIMETRES = {"": 1.0, "mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "nm": 1e-6}
_NRRD_GEOMETRY = ("spacings", "space directions", "space origin")
_META_GEOMETRY = (
    *("ElementSpacing", "ElementSize", "Offset", "Position", "Origin"),
    *("TransformMatrix", "Rotation", "Orientation"),
)
_SPACINGS = ("spacings", "ElementSpacing", "ElementSize")
_HAVE_SPACING = (*_SPACINGS, "space directions")
_UNITS = ("space units", "units", "DistanceUnits")


@dataclass(frozen=True)
class ItkSpacing:
    """Whether a header has a spacing, and in which unit.

    Attributes
    ----------
    given
        Whether the header has one.
    unit
        The unit as the header writes it, or ``None``: mm then.
    """

    given: bool = True
    unit: str | None = None

    @property
    def unit_mm(self) -> float | None:
        """Length of the unit in mm; ``None`` where there is no spacing, or a unit that is not known."""
        return _MILLIMETRES.get(self.unit or "") if self.given else None


def check_itk_file(path: Path) -> ItkSpacing:
    """Check what ITK passes over.

    Parameters
    ----------
    path
        File whose name ends as one of ``ENDINGS``.

    Raises
    ------
    OSError
        It cannot be read, ends too early, or fails its checksum.
    ValueError
        It holds what is no number, or a geometry that is none.
    """
    header = sitk.ImageFileReader()
    header.SetFileName(str(path))
    try:
        header.ReadImageInformation()
    except RuntimeError as error:  # what SimpleITK raises for everything
        raise OSError(f"{path} cannot be read: {itk_reason(error)}") from error
    if header.GetNumberOfComponents() != 1 or "complex" in sitk.GetPixelIDValueAsString(header.GetPixelID()):
        raise ValueError(
            f"{path} holds colours, vectors or complex numbers: store one number per voxel, a file per channel"
        )
    expected, ending = voxel_bytes(header), path.suffix.lower()
    if ending == ".gipl":
        _check_length(path, path.stat().st_size, GIPL_HEADER_BYTES + expected)
        return ItkSpacing()
    with path.open("rb") as stream:
        fields = dict(_nrrd_fields(stream) if ending in _NRRD else _meta_fields(stream))
        _check_numbers(path, fields)
        _check_voxels(path, stream, fields, expected)
    units = {unit for name in _UNITS if name in fields for unit in re.findall(r'"(.*?)"|^([^"\s]+)$', fields[name])}
    named = sorted({"".join(unit) for unit in units} - {""})
    return ItkSpacing(any(name in fields for name in _HAVE_SPACING), ", ".join(named) or None)


def voxel_bytes(header: sitk.ImageFileReader) -> int:
    """Bytes of the voxels, uncompressed, of a file whose information was read."""
    voxel = sitk.GetArrayViewFromImage(sitk.Image([1, 1], header.GetPixelID()))
    return math.prod(header.GetSize()) * header.GetNumberOfComponents() * voxel.itemsize


def itk_reason(error: Exception) -> str:
    """What one of ITK's errors says, in a line: without the places in its source and in memory."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    start = next((index for index, line in enumerate(lines) if "ERROR" in line), len(lines) - 1)
    told = [line for line in lines if line.startswith("[nrrd]")][-1:] or lines[max(start, 0) :]
    text = " ".join(filter(None, told)) or type(error).__name__
    return re.sub(r"\[nrrd\] |(\w+::|ITK )ERROR: |\w+\(0x[0-9a-f]+\): ", "", text)[:300]


def keep_spacing(path: Path, spacing: ItkSpacing) -> None:
    """Take from the header of a written image a spacing that its source has not, or name the unit that it has.

    Parameters
    ----------
    path
        File that ITK has just written, of any format.
    spacing
        Of the source.
    """
    ending = path.suffix.lower()
    if ending not in (*_NRRD, *_META) or (spacing.given and spacing.unit is None):
        return
    content = path.read_bytes()
    line = rb"^space directions: .*\n" if ending in _NRRD else rb"^ElementSpacing = .*\n"
    found = re.search(line, content, re.MULTILINE)
    if found is None:
        raise ValueError(f"{path} was written without a spacing; report this with the version of SimpleITK")
    kept = found[0] if spacing.given else b""
    if spacing.given and spacing.unit is not None:
        axes = found[0].count(b"(")
        quoted = " ".join([f'"{spacing.unit}"'] * axes)
        kept += (f"space units: {quoted}\n" if ending in _NRRD else f"DistanceUnits = {spacing.unit}\n").encode()
    path.write_bytes(content[: found.start()] + kept + content[found.end() :])


def _nrrd_fields(stream: BinaryIO) -> Iterator[tuple[str, str]]:
    """Fields of the header; the stream is left at the first byte behind it."""
    for line in _lines(stream):
        if not line:
            return
        name, separator, value = line.partition(": ")
        if separator and not line.startswith("#"):
            yield name.strip().lower().replace("datafile", "data file"), value.strip()


def _meta_fields(stream: BinaryIO) -> Iterator[tuple[str, str]]:
    for line in _lines(stream):
        name, separator, value = line.partition("=")
        if separator:
            yield name.strip(), value.strip()
        if name.strip() == "ElementDataFile":
            return


def _lines(stream: BinaryIO) -> Iterator[str]:
    while stream.tell() < _LONGEST_HEADER and (line := stream.readline(_LONGEST_HEADER)):
        yield line.decode("utf-8", "replace").rstrip("\r\n")


def _check_numbers(path: Path, fields: dict[str, str]) -> None:
    for name in (*_NRRD_GEOMETRY, *_META_GEOMETRY):
        text = fields.get(name, "")
        for number in re.split(r"[\s,()]+", text) if name in _NRRD_GEOMETRY else text.split():
            if not _is_right(number, positive=name in _SPACINGS):
                rule = "positive and finite" if name in _SPACINGS else "finite"
                raise ValueError(f"{path} has {name} {text[:80]}: {rule} numbers are needed; correct its header")


def _is_right(number: str, *, positive: bool) -> bool:
    if number in ("", "none"):  # of a list in NRRD
        return True
    try:
        value = float(number)
    except ValueError:
        return False
    return math.isfinite(value) and (value > 0 or not positive)


def _check_voxels(path: Path, stream: BinaryIO, fields: dict[str, str], expected: int) -> None:
    """Compare length and, where the voxels are compressed, the checksum; the stream is behind the header."""
    place: str | None
    if path.suffix.lower() in _NRRD:
        place = fields.get("data file")
        encoding = {"gz": "gzip"}.get(name := fields.get("encoding", "").lower(), name)
        if any(fields.get(name, "0") != "0" for name in ("line skip", "lineskip", "byte skip", "byteskip")):
            return
    else:
        place = fields.get("ElementDataFile", "LOCAL")
        place = None if place.lower() == "local" else place
        encoding = "zlib" if fields.get("CompressedData", "False").lower() in ("true", "1") else "raw"
        if fields.get("BinaryData", "True").lower() not in ("true", "1") or fields.get("HeaderSize", "0") != "0":
            return
    if place is None:
        _check_data(path, stream, encoding, expected)
    elif "%" not in place and not place.startswith("LIST"):  # which is a file per slice
        beside = path.parent / place
        if not beside.is_file():
            raise FileNotFoundError(f"{path} cannot be read: its voxels are in {beside}, which is not there")
        with beside.open("rb") as voxels:
            _check_data(path, voxels, encoding, expected)


def _check_data(path: Path, stream: BinaryIO, encoding: str, expected: int) -> None:
    if encoding == "raw":
        start = stream.tell()
        length = stream.seek(0, os.SEEK_END) - start
    elif encoding in ("gzip", "zlib"):
        try:
            length = _inflated_bytes(stream, expected)
        except zlib.error as error:
            raise OSError(f"{path} is damaged: {error}") from error
    else:  # text and others, which ITK reads number by number
        return
    _check_length(path, length, expected)


def _inflated_bytes(stream: BinaryIO, expected: int) -> int:
    """How many bytes come out of a stream of gzip or zlib, its checksum compared; 0 if it has no end."""
    decompressor, length, rest = zlib.decompressobj(zlib.MAX_WBITS | 32), 0, b""
    while chunk := rest or stream.read(_CHUNK):
        length += len(decompressor.decompress(chunk))
        rest = decompressor.unused_data
        if decompressor.eof:
            if length >= expected:  # what lies behind the end of the voxels is no part of them
                return length
            decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)
    return 0


def _check_length(path: Path, length: int, expected: int) -> None:
    if length < expected:
        raise OSError(f"{path} is truncated: {length} bytes of {expected}")
