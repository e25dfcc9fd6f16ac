"""The one way to write files: into a hidden folder, and from there to their places once they are whole and on the disk.

    FOLDER/.NAME.unfinished-PID/maps/case.nii.gz     written under its own name, by whatever library
    FOLDER/maps/case.nii.gz                          renamed

Several files f_1 … f_n belong together, and f_n says that they are all there. In this order, nothing else:

    1. fsync and check f_1 … f_n          a file that was cut short raises here, when nothing has been moved
    2. remove the f_n of earlier          it would mark a mixture as complete; where n = 1 it stays until 4
    3. rename f_1 … f_(n-1)               then fsync their folders
    4. rename f_n                         then fsync its folder

So whoever looks, and whatever interrupts, a power cut included, finds the old files or the new ones, or no f_n. An
interruption leaves a hidden folder at most; its name says what for and which process made it, and does not end as the
names of files do.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nnunet_stochastic.io.names import shortened
from nnunet_stochastic.io.output_locks import is_folder_lock
from nnunet_stochastic.io.written import check_written

__all__ = [
    "holds_anything",
    "is_leftover",
    "publish",
    "remove_leftovers",
    "stage",
    "staged_file",
    "staged_files",
    "staged_folder",
    "staging_path",
]

_MARK = ".unfinished-"
_LEFTOVER = re.compile(r"\.(.+)" + re.escape(_MARK) + r"(\d+)", re.DOTALL)
#: What dead processes left in large folders, by folder.
_LISTED: dict[Path, list[str]] = {}
_MANY_ENTRIES = 1000
#: What file systems answer that cannot fsync a folder, and folders that may be written and not listed.
_NO_FSYNC_OF_FOLDERS = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES}


@contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """Give a path to write to; the file takes the place of ``path`` when the block ends without an error.

    Files that a writer puts beside it, such as the spacing of a TIFF, are published with it, before it.

    Raises
    ------
    OSError
        If the file is missing or was cut short. ``path`` is then as it was.
    """
    with staged_files(path.parent, [Path(path.name)], name=path.name) as staging:
        yield staging / path.name


@contextmanager
def staged_files(folder: Path, files: Sequence[Path], *, name: str, copies: Collection[Path] = ()) -> Iterator[Path]:
    """Give a hidden folder to write files of one case into; they go to ``folder`` when the block ends without an error.

    Parameters
    ----------
    folder
        Final folder of the files.
    files
        Paths relative to it, the one that makes the case complete last. Sub-folders are made.
    name
        Name of the case.
    copies
        Members of ``files`` that are copies of foreign files, whose format is not checked.
    """
    staging = stage(folder, name)
    try:
        for file in files:
            (staging / file).parent.mkdir(parents=True, exist_ok=True)
        yield staging
        publish(staging, folder, files, copies=copies)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def staged_folder(folder: Path, *, of_copies: bool = False) -> Iterator[Path]:
    """Give a hidden folder to fill; it becomes ``folder``, which must not be there, when the block ends.

    Parameters
    ----------
    folder
        Its final place.
    of_copies
        Whether its files are copies of foreign files, whose format is not checked.
    """
    staging = stage(folder.parent, folder.name)
    try:
        yield staging
        paths = [staging, *sorted(staging.rglob("*"))]
        for path in paths:
            if path.is_file() and not path.is_symlink():
                _flush(path)
                if not of_copies:
                    check_written(path)
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                _flush_folder(path)
        os.replace(staging, folder)
        _flush_folder(folder.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def stage(folder: Path, name: str) -> Path:
    """Make the empty hidden folder of this process for ``name`` in ``folder``; those of dead processes are removed."""
    staging = staging_path(folder, name)
    for left in (staging, *_left_by_dead_processes(folder, name)):
        shutil.rmtree(left, ignore_errors=True)
    staging.mkdir()
    return staging


def _left_by_dead_processes(folder: Path, name: str) -> list[Path]:
    """Hidden folders for ``name`` of processes that are not there any more."""
    left = _LISTED.get(folder)
    if left is None:
        try:
            entries = os.listdir(folder)
        except OSError:  # it may be writable and not readable
            return []
        left = [entry for entry in entries if _LEFTOVER.fullmatch(entry)]
        if len(entries) > _MANY_ENTRIES:  # listing such a folder for each file would take longer than writing
            _LISTED[folder] = left
    matches = (_LEFTOVER.fullmatch(entry) for entry in left)
    return [
        folder / match[0] for match in matches if match and match[1] == shortened(name) and not _is_alive(int(match[2]))
    ]


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # where signal 0 is no question
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def staging_path(folder: Path, name: str) -> Path:
    """The hidden folder that ``stage`` makes."""
    return folder / f".{shortened(name)}{_MARK}{os.getpid()}"


def publish(
    staging: Path,
    folder: Path,
    files: Sequence[Path],
    *,
    copies: Collection[Path] = (),
    before_last: Callable[[], object] = lambda: None,
) -> None:
    """Move staged files to their places, as the module says.

    Parameters
    ----------
    staging
        The hidden folder. What it holds beside ``files`` is moved first.
    folder
        Folder that they go to; the sub-folders that ``files`` name are made.
    files
        Paths relative to both, at least one.
    copies
        Members of ``files`` that are copies of foreign files. Their format is not checked: other programs pad files, or
        compress them in several parts.
    before_last
        Function that is called when all but the last file are in their places.

    Raises
    ------
    OSError
        If a file is missing or was cut short, because the disk is full for instance, or a folder is in its place.
        Nothing has been moved then.
    """
    last = files[-1]
    beside = {path.relative_to(staging) for path in staging.rglob("*") if path.is_file()} - set(files)
    first = [*sorted(beside), *files[:-1]]
    for file in (*first, last):
        _flush(staging / file)
        if file not in copies:
            check_written(staging / file)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        if (folder / file).is_dir():
            raise IsADirectoryError(f"{folder / file} is a folder, and a file of that name is to be written: move it")
    if first and (folder / last).is_file():
        (folder / last).unlink()
        _flush_folder((folder / last).parent)
    for file in first:
        os.replace(staging / file, folder / file)
    for changed in sorted({(folder / file).parent for file in first}):
        _flush_folder(changed)
    before_last()
    os.replace(staging / last, folder / last)
    _flush_folder((folder / last).parent)


def is_leftover(path: Path) -> bool:
    """Whether a path is the hidden folder of a command, or its lock of the folder, at work or interrupted."""
    return _LEFTOVER.fullmatch(path.name) is not None or is_folder_lock(path)


def holds_anything(folder: Path) -> bool:
    """Whether a folder is there and holds more than what commands leave there that are interrupted as they begin."""
    return folder.is_dir() and not all(map(is_leftover, folder.iterdir()))


def remove_leftovers(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove the hidden folders that interrupted commands have left in a folder.

    Parameters
    ----------
    folder
        Folder to look in, not below it. It need not be there.
    names
        Names of the cases whose leftovers are removed, where other commands may be at work on others; default: all.
    """
    hidden = None if names is None else set(map(shortened, names))
    for path in folder.glob(f".*{_MARK}*"):
        match = _LEFTOVER.fullmatch(path.name)
        if match and (hidden is None or match[1] in hidden):
            shutil.rmtree(path, ignore_errors=True)


def _flush(path: Path) -> None:
    """Have a file on the disk: network disks and quotas say only then that it did not fit."""
    with path.open("r+b" if os.name == "nt" else "rb") as file:  # copies may be read-only
        try:
            os.fsync(file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error  # it knows a number alone


def _flush_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where its file system can do that; Windows opens no folders."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC_OF_FOLDERS:
            raise
