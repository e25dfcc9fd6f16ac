"""One command at a time writes an output folder, or one for each of the parts that share its cases.

    OUT/.predict.lock              a command alone
    OUT/.predict_part0of4.lock     part 0 of 4

A part excludes itself, commands alone and parts of another number of parts. The system frees the locks of a process
that ends, however it ends; the file goes with the lock, and what a killed process left of it is harmless.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["locked_output_folder"]

#: Others try a lock for a moment to see whether it is free, which is no conflict.
_TIMEOUT_S = 1


@contextmanager
def locked_output_folder(folder: Path, *, num_parts: int = 1, part_id: int = 0) -> Iterator[None]:
    """Have an output folder, which must be there, for this command or part.

    Raises
    ------
    BlockingIOError
        If another command writes it.
    """
    alone = folder / ".predict.lock"
    mine = alone if num_parts == 1 else folder / f".predict_part{part_id}of{num_parts}.lock"
    try:
        lock = _take(mine)
    except NotImplementedError:  # of filelock
        print(f"note: the disk of {folder} has no locks: let no other command write there", file=sys.stderr)
        yield
        return
    if lock is None:
        raise _taken(folder)
    try:
        others = {alone, *folder.glob(".predict_part*of*.lock")}
        if num_parts > 1:
            others -= set(folder.glob(f".predict_part*of{num_parts}.lock"))
        for other in others - {mine}:
            probe = _take(other)
            if probe is None:
                raise _taken(folder)
            _free(probe, other)
        yield
    finally:
        _free(lock, mine)


def _taken(folder: Path) -> BlockingIOError:
    return BlockingIOError(
        f"another command writes {folder}: wait until it has ended, or choose another output folder with -o; "
        "predictions that are to share the cases take one and the same -num_parts, and a -part_id each"
    )


def _take(file: Path) -> FileLock | None:
    """The lock of a file, ``None`` if another process has it."""
    while True:
        lock, again = FileLock(file), FileLock(file)
        try:
            lock.acquire(timeout=_TIMEOUT_S)
        except Timeout:
            return None
        try:
            again.acquire(timeout=0)
        except Timeout:
            return lock
        # Whoever had the lock has removed the file, so this was the lock of a file that is not there any more.
        again.release()
        lock.release()


def _free(lock: FileLock, file: Path) -> None:
    try:
        file.unlink(missing_ok=True)  # while it is locked: see _take
    except OSError:  # Windows removes no open files
        pass
    lock.release()
