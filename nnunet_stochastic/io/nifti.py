"""NIfTI files: what ITK's reader passes over in silence, and the geometry that libraries do not write back.

ITK reads NaN and infinities as 0, fills files that end too early with zeros, leaves out a scl_slope below 2^-52, and
takes the voxels of ``a.nii`` where ``a.nii.gz`` is asked for and both are there. A header holds two maps from voxels to
the patient, qform and sform, with a code each; ITK reads one and writes it to both, nnU-Net's NibabelIO writes sform
alone. So files are checked apart from their reader, and the header of the image is put back into what is written.

Compression is ISA-L's, by python-isal: of a float32 map a sixth of zlib's time, and the same size.
"""

from __future__ import annotations

import errno
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import nibabel
import numpy as np
from isal import igzip
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from nnunet_stochastic.io.stored_nifti import stored_array
from nnunet_stochastic.io.written import check_written

__all__ = [
    "check_nifti",
    "is_compressed",
    "is_nifti",
    "millimetres_per_unit",
    "read_nifti_header",
    "written_by_library",
]

_COMPRESSION = 2  # of ISA-L's 0 to 3
_GEOMETRY = (
    *("xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
_MILLIMETRES = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
_CHUNK = 1 << 20  # bytes, a multiple of the size of any number
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def is_nifti(path: Path) -> bool:
    """Whether a name is that of a NIfTI file: header and voxels in one."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def is_compressed(path: Path) -> bool:
    """Whether a name is that of a file in gzip's format."""
    return path.suffix.lower() == ".gz"


def read_nifti_header(path: Path) -> Nifti1Header:
    """The header as it is stored; nibabel's images have it with what is wrong already mended.

    Raises
    ------
    OSError
        If there is none.
    """
    try:
        with _open(path) as stream:
            return _read_header(stream)
    except Exception as error:  # of nibabel, gzip or zlib, none of which names the file
        raise OSError(f"{path} cannot be read: {error}") from error


def check_nifti(path: Path, *, by_itk: bool = True, decompress_to: Path | None = None) -> Nifti1Header:
    """Check all that can be wrong with a NIfTI file before a library reads it.

    Parameters
    ----------
    path
        File that ends with .nii or .nii.gz.
    by_itk
        Whether ITK will read it, so that what ITK reads wrongly is an error, too.
    decompress_to
        File to write with the content of a compressed one, for the library to read: the check sees all of it anyway.

    Returns
    -------
    Nifti1Header
        The header as it is stored.

    Raises
    ------
    OSError
        The file cannot be read, ends too early, or fails its checksum.
    ValueError
        Its geometry, its voxels' type, or a value is none that can be worked with, or ITK would read something else.
    """
    if by_itk and path.suffix.lower() == ".gz" and path.with_suffix("").is_file():
        raise ValueError(
            f"{path.with_suffix('').name} lies beside {path}, and ITK would read it instead: move one of them elsewhere"
        )
    header, number_not_finite = _scan(path, decompress_to)
    if by_itk and isinstance(header, Nifti2Header):
        raise ValueError(f"{path} is a NIfTI-2 file, which ITK does not read: store it as NIfTI-1")
    _check_voxel_type(path, header)
    if number_not_finite:
        raise ValueError(
            f"{path} has {number_not_finite} voxels that are NaN or infinite: replace them by numbers in the file"
        )
    _check_geometry(path, header)
    _check_scaling(path, header, by_itk=by_itk)
    return header


def millimetres_per_unit(header: Nifti1Header) -> float | None:
    """Length of the header's unit in mm; ``None`` where pixdim and the map to the patient disagree about spacing."""
    try:
        millimetres = _MILLIMETRES[header.get_xyzt_units()[0]]
    except KeyError:  # a code that the standard does not have
        return None
    zooms = np.asarray(header["pixdim"][1:4], dtype=float)
    affines = [header.get_sform()] if header["sform_code"] > 0 else []
    if any(not np.allclose(nibabel.affines.voxel_sizes(affine), zooms, rtol=1e-3, atol=0) for affine in affines):
        return None
    return millimetres


@contextmanager
def written_by_library(path: Path, source: Nifti1Header | None = None, *, by_itk: bool) -> Iterator[Path]:
    """Give a path for a library to write an image to, compress a NIfTI file, and put the source's geometry into it.

    Parameters
    ----------
    path
        The file. Of another format than NIfTI it is the path that is given.
    source
        Header of an image on the same voxel grid, whose forms, codes, spacing and unit are kept; ``None`` to leave the
        geometry as the library writes it.
    by_itk
        Whether ITK writes it, or nibabel from an affine matrix. Where that is what the source has, nothing is changed.
    """
    is_kept = source is None or _is_written_anyway(source, by_itk=by_itk)
    if not is_nifti(path) or (is_kept and not is_compressed(path)):
        yield path
        return
    plain = path.with_name(f"{path.name}.plain.nii")
    try:
        yield plain
        check_written(plain)  # compressed, what ITK lost would end well
        with plain.open("rb") as stream:
            header = _read_header(stream)
            stream.seek(type(header).template_dtype.itemsize)
            if source is not None and not is_kept:
                _take_geometry(header, source, path)
            with path.open("wb") as file, _compressed(file, path) as target:
                target.write(header.binaryblock)
                shutil.copyfileobj(stream, target, _CHUNK)
    finally:
        plain.unlink(missing_ok=True)


def _take_geometry(header: Nifti1Header, source: Nifti1Header, path: Path) -> None:
    if _grid_shape(header) != _grid_shape(source):
        raise ValueError(f"{path} has shape {_grid_shape(header)}, the image it is of {_grid_shape(source)} (x, y, z)")
    header["pixdim"][:4] = source["pixdim"][:4]
    for name in _GEOMETRY:
        header[name] = source[name]


@contextmanager
def _compressed(file: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    if not is_compressed(path):
        yield file
        return
    with igzip.IGzipFile("", "wb", _COMPRESSION, file, mtime=0) as stream:
        yield stream  # type: ignore[misc]


def _open(path: Path) -> IO[bytes]:
    return igzip.open(path, "rb") if is_compressed(path) else path.open("rb")


def _read_header(stream: IO[bytes]) -> Nifti1Header:
    start = stream.read(Nifti2Header.template_dtype.itemsize)
    for kind in (Nifti2Header, Nifti1Header):
        if kind.may_contain_header(start):
            return kind(start[: kind.template_dtype.itemsize], check=False)
    raise OSError("it has no header of a NIfTI file")


def _scan(path: Path, copy: Path | None) -> tuple[Nifti1Header, int]:
    """The header, and how many stored values are not finite; reads, and decompresses, the whole file once.

    What is decompressed is written to ``copy``, where one is named.
    """
    try:
        stored = stored_array(path)
        with _open(path) as stream:
            header = _read_header(stream)
        expected = stored.offset + math.prod(stored.shape) * stored.dtype.itemsize
        length = not_finite = 0
        with _open(path) as stream, _writer(copy) as write:
            length += write(stream.read(stored.offset))
            while chunk := stream.read(_CHUNK):
                write(chunk)
                if stored.dtype.kind == "f":
                    inside = chunk[: max(0, expected - length)]
                    values = np.frombuffer(inside, stored.dtype, count=len(inside) // stored.dtype.itemsize)
                    not_finite += int(values.size - np.count_nonzero(np.isfinite(values)))
                length += len(chunk)
    except FileNotFoundError:
        raise
    except Exception as error:  # of nibabel, gzip or zlib, none of which names the file
        if copy is not None and isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise OSError(
                f"{path} cannot be decompressed, {copy.parent} has no room for it: make some, or set TMPDIR to a "
                "folder that has"
            ) from error
        raise OSError(f"{path} cannot be read: {error}") from error
    if length < expected:
        raise OSError(f"{path} is truncated: {length} bytes of {expected}")
    return header, not_finite


@contextmanager
def _writer(path: Path | None) -> Iterator[Callable[[bytes], int]]:
    """A function that writes to a file, or nowhere, and returns the number of bytes."""
    if path is None:
        yield len
        return
    with path.open("wb") as file:
        yield file.write


def _check_voxel_type(path: Path, header: Nifti1Header) -> None:
    voxel_type, shape = header.get_data_dtype(), header.get_data_shape()
    if voxel_type.kind not in "iuf":
        kind = "complex numbers" if voxel_type.kind == "c" else "colours"
        raise ValueError(f"{path} holds {kind}: store one number per voxel, and a file per channel")
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"{path} has shape {shape}: an image has two or three axes, and voxels along each")
    if math.prod(shape[4:]) > 1:
        raise ValueError(f"{path} has shape {shape}: store one number per voxel, and a file per channel")


def _check_geometry(path: Path, header: Nifti1Header) -> None:
    pixdim = np.asarray(header["pixdim"][1 : 1 + min(3, len(header.get_data_shape()))], dtype=float)
    if not (np.isfinite(pixdim).all() and (pixdim > 0).all()):
        raise ValueError(
            f"{path} has spacing (x, y, z) {_text(pixdim)}: it must be positive and finite; correct its pixdim"
        )
    if header["sform_code"] > 0:
        sform = np.stack([header[row] for row in ("srow_x", "srow_y", "srow_z")]).astype(float)
        if not np.isfinite(sform).all() or abs(np.linalg.det(sform[:, :3])) < 1e-30:
            raise ValueError(
                f"{path} has sform {_text(sform)}: it must be finite and invertible; correct it in its header"
            )
    if header["qform_code"] > 0:
        names = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
        qform = np.array([float(header[name]) for name in names])
        if not np.isfinite(qform).all() or (qform[:3] ** 2).sum() > 1 + 1e-4:
            raise ValueError(
                f"{path} has qform (quatern_b, c, d, qoffset_x, y, z) {_text(qform)}: it must be finite and "
                "a rotation; correct it in its header"
            )


def _check_scaling(path: Path, header: Nifti1Header, *, by_itk: bool) -> None:
    """ITK leaves out slopes below its epsilon, and adds an intercept where a slope of 0 says that nothing is scaled."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if math.isinf(slope) or math.isinf(intercept):
        raise ValueError(f"{path} has scl_slope {slope:g} and scl_inter {intercept:g}: correct them in its header")
    if not by_itk:
        return
    tiny = 0 < abs(slope) < sys.float_info.epsilon * (1 + 1e-3)
    if tiny or (slope == 0 and intercept != 0):
        raise ValueError(
            f"{path} stores {header.get_data_dtype()} with scl_slope {slope:g} and scl_inter {intercept:g}, which ITK "
            "does not apply as it should: store the values themselves, for instance as float32"
        )


def _is_written_anyway(source: Nifti1Header, *, by_itk: bool) -> bool:
    """Whether a library writes what the source has: ITK both forms with code 1, in mm, nibabel sform alone, code 2."""
    codes, unit = (int(source["qform_code"]), int(source["sform_code"])), int(source["xyzt_units"]) & 7
    zooms = np.asarray(source["pixdim"][1:4], dtype=float)
    sform = source.get_sform()
    if not by_itk:
        same = np.allclose(nibabel.affines.voxel_sizes(sform), zooms, rtol=1e-5, atol=0)
        return codes == (0, 2) and unit == 0 and bool(same)
    if codes != (1, 1) or unit != 2:
        return False
    flat = len(source.get_data_shape()) == 2
    if flat and not (np.array_equal(sform[2], [0, 0, 1, 0]) and np.array_equal(sform[:3, 2], [0, 0, 1])):
        return False  # of 2D images ITK keeps what is in the plane
    return np.allclose(source.get_qform(), sform, rtol=1e-5, atol=1e-4 * zooms.min())


def _grid_shape(header: Nifti1Header) -> tuple[int, ...]:
    return tuple(int(size) for size in (*header.get_data_shape(), 1, 1, 1)[:3])


def _text(values: np.ndarray) -> str:
    return np.array2string(values, precision=6, separator=", ").replace("\n", "")
