"""Whether the libraries of the extra ``dicom`` are there."""

from __future__ import annotations

import importlib.util

__all__ = ["require_libraries"]

_LIBRARIES = ("pydicom", "highdicom")


def require_libraries() -> None:
    """Raise ``ValueError`` where the extra ``dicom`` is not installed."""
    if missing := [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]:
        raise ValueError(
            f'DICOM needs {" and ".join(missing)}: run pip install ".[dicom]" in the checkout of nnunet_stochastic'
        )
