"""The one way to list the images of a folder; and whether it can be written: before hours of work, not after them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from nnunet_stochastic.io.names import check_names

__all__ = ["files_by_name", "require_writable"]


def files_by_name(folder: Path, ending: str) -> dict[str, Path]:
    """Files of a folder by their names without an ending, in order.

    Files of other endings are none of a data set's, and hidden ones are what macOS (``._case``) and killed commands
    leave.

    Parameters
    ----------
    folder
        The folder.
    ending
        File ending of the data set, with its dot.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    ValueError
        A name that ``check_names`` refuses, or that ends with the ending in other letters, as ``.NII.GZ``.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder {folder} does not exist")
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    found = [path for path in paths if path.name.lower().endswith(ending.lower())]
    check_names((path.name for path in found), folder)
    if other := [path.name for path in found if not path.name.endswith(ending)]:
        raise ValueError(
            f"{folder} has {len(other)} files whose ending is {ending} but for capital letters: rename {other[0]} and "
            "its like"
        )
    return {path.name.removesuffix(ending): path for path in found}


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
