"""What ITK's NIfTI reader passes over in silence: files that end too early, NaN and infinities all become 0.

So NIfTI files are checked apart from it before they are read. Other formats are left to their readers.
"""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.dataobj_images import DataobjImage

__all__ = ["check_not_truncated", "check_stored_values", "stored_array"]


def stored_array(path: Path) -> ArrayProxy:
    """Voxels of a NIfTI file as its header describes them: shape, type, offset in bytes; not read yet."""
    image = nibabel.load(path)
    if not (isinstance(image, DataobjImage) and isinstance(image.dataobj, ArrayProxy)):
        raise OSError(f"{path} has no array of voxels")
    return image.dataobj


def check_not_truncated(path: Path) -> None:
    """Raise ``OSError`` for a NIfTI file that ends too early or fails its checksum.

    Files with another ending pass.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        return
    try:
        stored = stored_array(path)
        expected = stored.offset + math.prod(stored.shape) * stored.dtype.itemsize
        length = path.stat().st_size
        if path.name.endswith(".gz"):
            with gzip.open(path) as stream:
                length = sum(map(len, iter(lambda: stream.read(1 << 20), b"")))
    except Exception as error:  # of nibabel, gzip or zlib, none of which names the file
        raise OSError(f"{path} cannot be read: {error}") from error
    if length < expected:
        raise OSError(f"{path} is truncated: {length} bytes of {expected}")


def check_stored_values(path: Path) -> None:
    """Raise ``ValueError`` if a NIfTI file stores NaN or infinite values. Others pass."""
    if not path.name.endswith((".nii", ".nii.gz")):
        return
    stored = stored_array(path)
    if stored.dtype.kind == "f":
        values = stored.get_unscaled()
        if count := values.size - np.count_nonzero(np.isfinite(values)):
            raise ValueError(f"{path.name} has {count} voxels that are NaN or infinite: replace them in the image")
