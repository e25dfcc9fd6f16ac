"""One training at a time in the folder of a fold: two would overwrite each other's checkpoints.

    MODEL/fold_0/          what a training writes
    MODEL/.fold_0.lock     locked by its process, and freed by the system when that ends, however it ends

The lock is the process's: worker processes that it forks do not inherit it, so that none which outlives it keeps it.
The ranks of one training share it, for the first of them takes it.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, which removes no file that is open and so has no such mix of two trainings
    fcntl = None  # type: ignore[assignment]

__all__ = ["lock_fold"]

#: Descriptors of the locks that this process has. Closing any of a file frees it.
_LOCKED: dict[Path, int] = {}


def lock_fold(fold_folder: Path) -> None:
    """Have the folder of a fold, which must be there, until the process ends; again costs nothing.

    Raises
    ------
    BlockingIOError
        If another process trains there.
    """
    file = fold_folder.resolve().with_name(f".{fold_folder.name}.lock")
    if fcntl is None or file in _LOCKED:
        return
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        owner = os.read(descriptor, 200).decode(errors="replace").strip()
        os.close(descriptor)
        raise BlockingIOError(
            f"another training writes {fold_folder}{f' ({owner})' if owner else ''}: wait for its end or stop it, or "
            "train another fold"
        ) from None
    except OSError:  # a disk without locks
        os.close(descriptor)
        return
    _LOCKED[file] = descriptor
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)


def _forget() -> None:
    """A forked process has none of the locks."""
    _LOCKED.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
