"""nnU-Net's checkpoint files, read without running code from them.

``torch.load`` unpickles, and a pickle can name any function to call. With ``weights_only=True`` it builds tensors and
plain Python values alone; nnU-Net's files hold NumPy scalars besides (the log, the best score), which are allowed here
by name.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["read_checkpoint"]

#: Path, size and time of the files whose content is known to be whole.
_WHOLE: set[tuple[str, int, int]] = set()

_SCALAR_TYPES = (np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_)


def read_checkpoint(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """Map a checkpoint file of nnU-Net into memory, on the CPU.

    Parameters
    ----------
    path
        ``checkpoint_*.pth``.
    trust
        True to read files, too, that hold arbitrary Python objects, and so could run code.

    Raises
    ------
    ValueError
        If the file is damaged, or holds more than plain values and ``trust`` is not set.
    """
    _check_whole(path)
    scalar_constructor: Any = np.float64(0).__reduce__()[0]
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (scalar_constructor, "numpy.core.multiarray.scalar"),  # NumPy 1
        (scalar_constructor, "numpy._core.multiarray.scalar"),  # NumPy 2
        np.dtype,
        *(type(np.dtype(scalar_type)) for scalar_type in _SCALAR_TYPES),
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=not trust, mmap=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is no plain checkpoint: {str(error).splitlines()[0]} Loading it could run code from it. If "
            "you know where it comes from, predict with it by --trust_checkpoint"
        ) from error
    except FileNotFoundError:
        raise
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a checkpoint, it may be incomplete: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no checkpoint: it holds a {type(content).__name__}; train again or restore it")
    return content


def _check_whole(path: Path) -> None:
    """Raise for a file that is not as it was written: ``torch.load`` compares no checksum of the zip file.

    A whole file is read once by a process, or again if it has changed.
    """
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    if key in _WHOLE:
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # zipfile raises what a wrong number leads to
        raise ValueError(
            f"{path} cannot be read as a checkpoint, it may be incomplete: {error}; restore it or train again"
        ) from error
    if damaged is not None:
        raise ValueError(f"{path} is damaged: the checksum of {damaged} is wrong; restore it or train again")
    _WHOLE.add(key)
