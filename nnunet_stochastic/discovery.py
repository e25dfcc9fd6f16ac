"""How nnU-Net finds this package's trainers.

nnU-Net looks a trainer up by its class name, in itself first, then in each folder of the environment variable
``nnUNet_extTrainer``. ``activate`` appends the folder of our trainers to that variable. Python calls it whenever it
starts: ``nnunet_stochastic.pth`` (and, from Python 3.15 on, ``nnunet_stochastic.start``, PEP 829) lies beside the
package in site-packages. So nothing is copied into nnU-Net, and the variable need not be set by hand.

Every start of the interpreter pays for what this module imports, hence ``os`` and nothing more at the top.
"""

from __future__ import annotations

import os

__all__ = ["VARIABLE", "activate", "export_line", "is_active", "trainers_folder"]

VARIABLE = "nnUNet_extTrainer"


def trainers_folder() -> str:
    """Absolute path of the folder that nnU-Net searches for our trainers.

    A wheel carries the trainers inside the package; an editable install leaves them at the top of the checkout.
    """
    package = os.path.dirname(os.path.abspath(__file__))
    # The wheel's place first: beside an installed package, a folder `trainers` is somebody else's.
    in_wheel = os.path.join(package, "_trainers")
    return in_wheel if os.path.isdir(in_wheel) else os.path.join(os.path.dirname(package), "trainers")


def is_active() -> bool:
    """Whether ``nnUNet_extTrainer`` has our folder in it in this process, so that nnU-Net finds the trainers."""
    return _comparable(trainers_folder()) in [_comparable(folder) for folder in _folders()]


def activate() -> None:
    """Append our folder to ``nnUNet_extTrainer``, after the user's own folders and once only."""
    if not is_active():
        os.environ[VARIABLE] = os.pathsep.join([*_folders(), trainers_folder()])


def export_line(*, windows: bool = os.name == "nt") -> str:
    """The shell command that does by hand what ``activate`` does; it keeps the folders that are set now.

    Parameters
    ----------
    windows : bool
        Whether to write it for Windows' cmd.exe (``set``) instead of a POSIX shell (``export``).
    """
    value = os.pathsep.join(_folders() if is_active() else [*_folders(), trainers_folder()])
    if windows:
        return f'set "{VARIABLE}={value}"'
    from shlex import quote

    return f"export {VARIABLE}={quote(value)}"


def _folders() -> list[str]:
    return [folder for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder.strip()]


def _comparable(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))
