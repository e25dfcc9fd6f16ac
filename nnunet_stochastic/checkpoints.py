"""nnU-Net's checkpoint files, read without running code from them.

``torch.load`` unpickles, and a pickle can name any function to call. With ``weights_only=True`` it builds tensors and
plain Python values alone; nnU-Net's files hold NumPy scalars besides (the log, the best score), which are allowed here
by name.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_stochastic.io.written import check_checksums, is_checkpoint_without_zip

__all__ = ["read_checkpoint"]

_SCALAR_TYPES = (np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_)


def read_checkpoint(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """Map a checkpoint file of nnU-Net into memory, on the CPU.

    Parameters
    ----------
    path
        File ``checkpoint_*.pth``.
    trust
        Whether to read files, too, that hold arbitrary Python objects, and so could run code.

    Raises
    ------
    ValueError
        If the file is damaged, or holds more than plain values and ``trust`` is not set.
    """
    try:
        check_checksums(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{error}; restore it or train again") from error
    scalar_constructor: Any = np.float64(0).__reduce__()[0]
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (scalar_constructor, "numpy.core.multiarray.scalar"),  # NumPy 1
        (scalar_constructor, "numpy._core.multiarray.scalar"),  # NumPy 2
        np.dtype,
        *(type(np.dtype(scalar_type)) for scalar_type in _SCALAR_TYPES),
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            mapped = not is_checkpoint_without_zip(path)
            content = torch.load(path, map_location="cpu", weights_only=not trust, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is no plain checkpoint, and loading it could run code from it; if you know where it comes from, "
            f"predict with it by --trust_checkpoint ({str(error).splitlines()[0].rstrip('.')})"
        ) from error
    except FileNotFoundError:
        raise
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a checkpoint, it may be incomplete: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no checkpoint: it holds a {type(content).__name__}; train again or restore it")
    return content
