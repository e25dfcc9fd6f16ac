"""Find out whether a folder can be written: before hours of work, not after them."""

from __future__ import annotations

import tempfile
from pathlib import Path

__all__ = ["require_writable"]


def require_writable(folder: Path, *, option: str = "-o") -> None:
    """Make a folder if need be, and write a file without a name into it.

    Parameters
    ----------
    folder
        Output folder.
    option
        Option of the command that names it, for the message.

    Raises
    ------
    OSError
        If the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            f"the output folder {folder} cannot be written ({reason}); choose another with {option}"
        ) from error
