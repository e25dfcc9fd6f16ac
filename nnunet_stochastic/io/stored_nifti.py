"""Where and how a NIfTI file stores its voxels."""

from __future__ import annotations

from pathlib import Path

import nibabel
from nibabel.arrayproxy import ArrayProxy
from nibabel.dataobj_images import DataobjImage

__all__ = ["stored_array"]


def stored_array(path: Path) -> ArrayProxy:
    """Voxels of a NIfTI file as its header describes them: shape, type, offset in bytes; not read yet."""
    image = nibabel.load(path)
    if not (isinstance(image, DataobjImage) and isinstance(image.dataobj, ArrayProxy)):
        raise OSError(f"{path} has no array of voxels")
    return image.dataobj
