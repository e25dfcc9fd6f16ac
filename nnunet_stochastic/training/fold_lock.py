"""One training or fit at a time in the folder of a fold: two would overwrite each other's checkpoints.

    MODEL/fold_0/          what a training writes, and what is fitted to it
    MODEL/.fold_0.lock     locked by its process, and freed by the system when that ends, however it ends

The lock is the process's: worker processes that it forks do not inherit it, so that none which outlives it keeps it.
That is why it is POSIX's, and filelock's, which forks inherit, on Windows alone, where there are none. The ranks of one
training share it, for the first of them takes it.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["lock_fold"]

#: Descriptors of the locks that this process has, or filelock's. Closing any of a file frees it.
_LOCKED: dict[Path, int | FileLock] = {}


def lock_fold(fold_folder: Path) -> None:
    """Have the folder of a fold, which must be there, until the process ends; again costs nothing.

    Raises
    ------
    BlockingIOError
        If another process trains or fits there.
    """
    file = fold_folder.resolve().with_name(f".{fold_folder.name}.lock")
    if file in _LOCKED:
        return
    if fcntl is None:
        _lock_by_filelock(fold_folder, file)
        return
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        owner = os.read(descriptor, 200).decode(errors="replace").strip()
        os.close(descriptor)
        raise _taken(fold_folder, owner) from None
    except OSError:  # a disk without locks
        os.close(descriptor)
        return
    _LOCKED[file] = descriptor
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)


def _lock_by_filelock(fold_folder: Path, file: Path) -> None:
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _taken(fold_folder, "") from None
    except (NotImplementedError, OSError):  # a disk without locks
        return
    _LOCKED[file] = lock


def _taken(fold_folder: Path, owner: str) -> BlockingIOError:
    return BlockingIOError(
        f"another command writes {fold_folder}{f' ({owner})' if owner else ''}: wait until it has ended or stop it, "
        "or take another fold"
    )


def _forget() -> None:
    """A forked process has none of the locks."""
    _LOCKED.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
