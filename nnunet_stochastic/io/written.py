"""Notice files that a full disk cut short.

Python's own writers raise when the disk is full, ITK's not always: its NIfTI and GIPL files end anywhere without a
word, its NRRD and PNG files where only the last buffer does not fit; scikit-image's BMP files do, too. Each format says
in its header or at its end how long a file is, so a check reads these and not the data:

    NIfTI        data offset + voxels x bytes          = length, before compression: the last 4 bytes of a gzip stream
    NRRD         voxels x bytes                        = length of the data, before compression likewise
    MetaImage    header + CompressedDataSize           = length
    GIPL         256 + voxels x bytes                  = length
    BMP          bytes 2 to 5                          = length
    PNG          ends with its IEND chunk
    TIFF         has all pages of its shape, and their data
    NumPy, torch the central directory that ends a zip file: npz and pth

What a power cut leaves may have its length and lack its content: pages of zeros. Compressed formats have checksums,
which only reading all of a file compares, and so does ``has_right_checksums``.
"""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import BinaryIO

# The image libraries are imported where they are called: most commands write text alone.

__all__ = ["check_checksums", "check_written", "has_right_checksums", "is_checkpoint_without_zip", "is_whole"]

#: What is raised where a header is cut; SimpleITK raises RuntimeError.
_CUT_HEADERS = (EOFError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile)
#: First bytes of what ``torch.save`` writes without ``_use_new_zipfile_serialization``, as all did before torch 1.6.
_WITHOUT_ZIP = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
#: Path, length and time of change of zip files whose checksums are right.
_WHOLE: set[tuple[str, int, int]] = set()


def check_written(path: Path) -> None:
    """Raise ``OSError`` if a file that was just written ends too early.

    Parameters
    ----------
    path
        File to check. Formats that the module does not list, such as JSON and pickle, have writers that raise; they
        pass.
    """
    is_complete = next((check for ending, check in _CHECKS.items() if path.name.lower().endswith(ending)), None)
    if is_complete is None:
        return
    cause = None
    try:
        complete = is_complete(path)
    except _CUT_HEADERS as error:
        complete, cause = False, error
    if not complete:
        free_mib = shutil.disk_usage(path.parent).free / 2**20
        raise OSError(
            f"{path} was cut short while it was written, {free_mib:.1f} MiB are free on its disk: make room there and "
            "run the command again"
        ) from cause


def is_whole(path: Path) -> bool:
    """Whether a file is there, holds something, and ends where its format says; of a power cut, many do not."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    try:
        check_written(path)
    except Exception:  # libraries raise anything of headers that are cut or empty
        return False
    return True


def has_right_checksums(path: Path) -> bool:
    """Whether a file that is whole holds what was written, as far as its format has checksums; reads all of it."""
    read = next((read for ending, read in _READERS.items() if path.name.lower().endswith(ending)), None)
    if read is None:
        return True
    try:
        read(path)
    except Exception:  # libraries raise anything of damaged data
        return False
    return True


def check_checksums(path: Path) -> None:
    """Raise ``OSError`` if a zip file, such as a checkpoint, is cut short or does not hold what was written.

    ``torch.load`` compares no checksums: what a power cut has left empty within a file are weights of 0 to it. A whole
    file is read once by a process, or again if it has changed. Files of torch that were written without checksums
    (``torch.serialization.set_crc32_options``, or no zip file at all) have none to compare, and pass.
    """
    if is_checkpoint_without_zip(path):
        return
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    if key in _WHOLE:
        return
    try:
        with zipfile.ZipFile(path) as archive:
            has_checksums = any(entry.CRC for entry in archive.infolist())
            damaged = archive.testzip() if has_checksums else None
    except Exception as error:  # zipfile raises what a wrong number leads to
        raise OSError(f"{path} is damaged, it may be incomplete: {error}") from error
    if damaged is not None:
        raise OSError(f"{path} is damaged: the checksum of {damaged} is wrong")
    _WHOLE.add(key)


def is_checkpoint_without_zip(path: Path) -> bool:
    """Whether a file is of torch, and no zip file."""
    with path.open("rb") as file:
        return file.read(len(_WITHOUT_ZIP)) == _WITHOUT_ZIP


def _tail(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(-min(count, path.stat().st_size), os.SEEK_END)
        return file.read()


def _ends_gzip_of(path: Path, length: int) -> bool:
    """Whether a file ends with the trailer of a gzip stream of ``length`` bytes, which keeps 32 bits of it."""
    return struct.unpack("<I", _tail(path, 4))[0] == length % 2**32


def _nifti_bytes(path: Path) -> int:
    from nibabel.filebasedimages import ImageFileError

    from nnunet_stochastic.io.stored_nifti import stored_array

    try:
        stored = stored_array(path)
    except ImageFileError as error:
        raise ValueError(str(error)) from error
    return stored.offset + prod(stored.shape) * stored.dtype.itemsize


def _is_complete_nifti(path: Path) -> bool:
    return path.stat().st_size == _nifti_bytes(path)


def _is_complete_compressed_nifti(path: Path) -> bool:
    return _ends_gzip_of(path, _nifti_bytes(path))


def _itk_data_bytes(path: Path) -> int:
    """Bytes of the voxels, uncompressed, by the header alone."""
    import SimpleITK as sitk

    from nnunet_stochastic.io.itk import voxel_bytes

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return voxel_bytes(reader)


def _header_lines(file: BinaryIO, *, last: bytes) -> list[bytes]:
    """Lines up to the one that ends the header; the file is left at the first byte of the data."""
    lines = []
    for line in iter(file.readline, b""):
        lines.append(line)
        if line == last:
            return lines
    raise EOFError("the header has no end")


def _is_complete_nrrd(path: Path) -> bool:
    data_bytes = _itk_data_bytes(path)
    with path.open("rb") as file:
        if b"encoding: gzip\n" in _header_lines(file, last=b"\n"):
            return _ends_gzip_of(path, data_bytes)
        return path.stat().st_size == file.tell() + data_bytes


def _is_complete_metaimage(path: Path) -> bool:
    data_bytes = _itk_data_bytes(path)
    with path.open("rb") as file:
        for line in _header_lines(file, last=b"ElementDataFile = LOCAL\n"):
            if line.startswith(b"CompressedDataSize = "):
                data_bytes = int(line.split()[-1])
        return path.stat().st_size == file.tell() + data_bytes


def _is_complete_gipl(path: Path) -> bool:
    from nnunet_stochastic.io.itk import GIPL_HEADER_BYTES

    return path.stat().st_size == GIPL_HEADER_BYTES + _itk_data_bytes(path)


def _is_complete_png(path: Path) -> bool:
    return _tail(path, 12)[:8] == b"\0\0\0\0IEND"


def _is_complete_bmp(path: Path) -> bool:
    with path.open("rb") as file:
        return struct.unpack("<2xI", file.read(6))[0] == path.stat().st_size


def _is_complete_tiff(path: Path) -> bool:
    import tifffile

    length = path.stat().st_size
    logger = logging.getLogger("tifffile")
    disabled, logger.disabled = logger.disabled, True  # what it says of a cut file is said here
    try:
        with tifffile.TiffFile(path) as file:
            pages = list(file.pages)
            shaped = file.shaped_metadata
            values = sum(page.size for page in pages)
            return values == (prod(shaped[0]["shape"]) if shaped else max(values, 1)) and all(
                offset + count <= length
                for page in pages
                for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
            )
    except tifffile.TiffFileError as error:
        raise ValueError(str(error)) from error
    finally:
        logger.disabled = disabled


def _is_complete_zip(path: Path) -> bool:
    with zipfile.ZipFile(path):
        return True


def _is_complete_checkpoint(path: Path) -> bool:
    return is_checkpoint_without_zip(path) or _is_complete_zip(path)


_CHECKS: dict[str, Callable[[Path], bool]] = {
    ".nii.gz": _is_complete_compressed_nifti,
    ".nii": _is_complete_nifti,
    ".nrrd": _is_complete_nrrd,
    ".mha": _is_complete_metaimage,
    ".gipl": _is_complete_gipl,
    ".png": _is_complete_png,
    ".bmp": _is_complete_bmp,
    ".tif": _is_complete_tiff,
    ".tiff": _is_complete_tiff,
    ".npz": _is_complete_zip,
    ".pth": _is_complete_checkpoint,
}


def _read_gzip(path: Path) -> None:
    from isal import igzip

    with igzip.open(path, "rb") as file:
        while file.read(1 << 20):
            pass


def _read_png(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        image.verify()


def _read_nrrd(path: Path) -> None:
    with path.open("rb") as file:
        if b"encoding: gzip\n" in _header_lines(file, last=b"\n"):
            gzip.decompress(file.read())


def _read_metaimage(path: Path) -> None:
    with path.open("rb") as file:
        if b"CompressedData = True\n" in _header_lines(file, last=b"ElementDataFile = LOCAL\n"):
            zlib.decompress(file.read())


def _read_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise ValueError(damaged)


#: Formats with checksums: NIfTI without compression, GIPL, BMP and TIFF have none.
_READERS: dict[str, Callable[[Path], None]] = {
    ".nii.gz": _read_gzip,
    ".png": _read_png,
    ".nrrd": _read_nrrd,
    ".mha": _read_metaimage,
    ".npz": _read_zip,
}
