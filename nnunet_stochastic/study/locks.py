"""Locks that the jobs of a study wait for; the system frees those of a process that ends, however it ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

__all__ = ["locked", "take_places"]

_SECONDS_BETWEEN_LOOKS = 0.5


@contextmanager
def locked(file: Path, *, waiting_for: str) -> Iterator[None]:
    """Wait for the lock of a file, and have it for the time of a block.

    Parameters
    ----------
    file
        The lock; made if missing.
    waiting_for
        Who has it, for what is printed where somebody has it.
    """
    lock = _lock(file)
    if not _acquired(lock):
        print(f"waiting for {waiting_for}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def take_places(stack: ExitStack, files: Sequence[Path], count: int) -> list[int]:
    """Lock ``count`` of the files, waiting until as many are free; the stack frees them.

    Returns
    -------
    list[int]
        Their indices.
    """
    locks = [_lock(file) for file in files]
    while True:
        taken: list[int] = []
        for index, lock in enumerate(locks):
            if len(taken) < count and _acquired(lock):
                taken.append(index)
        if len(taken) == count:
            for index in taken:
                stack.callback(locks[index].release)
            return taken
        for index in taken:  # keep none while others may wait for it
            locks[index].release()
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _lock(file: Path):
    from filelock import FileLock

    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(str(file))


def _acquired(lock) -> bool:
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True
