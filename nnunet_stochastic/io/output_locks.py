"""One command at a time writes an output folder or file: two would remove each other's unfinished files.

    OUT/.output.lock              a folder that a command fills alone
    OUT/.output_part0of4.lock     part 0 of the 4 that share its cases
    OUT/.report.html.lock         a single file, whatever else is written in its folder

A part excludes itself, commands alone and parts of another number of parts. A folder within the folder and a single
file have locks of their own. The system frees the locks of a process that ends, however it ends; the file goes with the
lock, and what a killed process left of it is harmless.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_stochastic.io.folders import require_writable
from nnunet_stochastic.io.names import shortened

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["is_folder_lock", "locked_output_file", "locked_output_folder", "locked_output_folders"]

#: Others try a lock for a moment to see whether it is free, which is no conflict.
_TIMEOUT_S = 1
_ALONE = ".output.lock"
_FOLDER_LOCK = re.compile(r"\.output(_part\d+of\d+)?\.lock")
#: Who has left a lock's file may have been another user than the next one.
_MODE = 0o666


@contextmanager
def locked_output_folder(
    folder: Path, *, option: str = "-o", num_parts: int | None = None, part_id: int = 0
) -> Iterator[None]:
    """Have an output folder for this command or part; it is made if missing, and removed again if it stays empty.

    Parameters
    ----------
    folder
        Output folder.
    option
        Option of the command that names it, for the messages.
    num_parts, part_id
        Number of commands that share the cases, and index of this one from 0; ``None`` where a command has no parts.

    Raises
    ------
    BlockingIOError
        If another command writes it.
    OSError
        If it cannot be made or written.
    """

    def others_than(mine: Path) -> set[Path]:
        found = {folder / _ALONE, *folder.glob(".output_part*of*.lock")} - {mine}
        return found - set(folder.glob(f".output_part*of{num_parts}.lock")) if (num_parts or 1) > 1 else found

    remedy = f"choose another output folder with {option}"
    if num_parts is not None:
        remedy += "; predictions that are to share the cases take one and the same -num_parts, and a -part_id each"
    mine = folder / (_ALONE if (num_parts or 1) == 1 else f".output_part{part_id}of{num_parts}.lock")
    with _made(folder, option), _locked(folder, mine, remedy, others_than):
        yield


@contextmanager
def locked_output_folders(folders: Iterable[Path], *, option: str = "-o") -> Iterator[None]:
    """Have several output folders, all or none, see ``locked_output_folder``; the same one may be named twice."""
    different = {folder.resolve(): folder for folder in folders}
    with ExitStack() as stack:
        for _, folder in sorted(different.items()):  # so that of two commands at once one has all of them
            stack.enter_context(locked_output_folder(folder, option=option))
        yield


@contextmanager
def locked_output_file(file: Path, *, option: str = "-o") -> Iterator[None]:
    """Have an output file for this command; its folder may be written by others, and is made if missing.

    Parameters
    ----------
    file
        Output file, there or not.
    option
        Option of the command that names it, for the messages.

    Raises
    ------
    BlockingIOError
        If another command writes it.
    OSError
        If its folder cannot be made or written.
    """
    mine = file.with_name(f".{shortened(file.name)}.lock")
    remedy = f"choose another output file with {option}"
    with _made(file.parent, option), _locked(file, mine, remedy, lambda mine: set()):
        yield


def is_folder_lock(path: Path) -> bool:
    """Whether a path is the lock of its folder, or what a killed process left of one."""
    return _FOLDER_LOCK.fullmatch(path.name) is not None


@contextmanager
def _made(folder: Path, option: str) -> Iterator[None]:
    """Have a folder that can be written; of what is made here goes again what stays empty."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    require_writable(folder, option=option)
    try:
        yield
    finally:
        with suppress(OSError):  # something has been written
            for path in made:
                path.rmdir()


@contextmanager
def _locked(what: Path, mine: Path, remedy: str, others_than: Callable[[Path], set[Path]]) -> Iterator[None]:
    """Have the lock ``mine`` while nobody has one of the others, which are listed when it is taken."""
    taken = BlockingIOError(f"another command writes {what}: wait until it has ended, or {remedy}")
    try:
        lock = _take(mine)
    except NotImplementedError:  # of filelock
        print(f"note: the disk of {what} has no locks: let no other command write there", file=sys.stderr)
        yield
        return
    if lock is None:
        raise taken
    try:
        for other in others_than(mine):
            probe = _take(other)
            if probe is None:
                raise taken
            _free(probe, other)
        yield
    finally:
        _free(lock, mine)


def _take(file: Path) -> FileLock | None:
    """The lock of a file, ``None`` if another process has it."""
    from filelock import FileLock, Timeout  # here: every command imports this module, and few lock at once

    while True:
        lock, again = FileLock(file, mode=_MODE), FileLock(file, mode=_MODE)
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
    with suppress(OSError):  # Windows removes no open files
        file.unlink(missing_ok=True)  # while it is locked: see _take
    lock.release()
