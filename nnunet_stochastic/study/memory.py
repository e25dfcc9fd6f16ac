"""How much memory the processes of a job have, watched while they run.

    m = max over time of  Σ over all processes of resident set size

Pages that processes share are counted in each of them: m is an upper bound. A peak between two looks is not seen.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["PeakMemory", "watched_memory"]

_SECONDS_BETWEEN_LOOKS = 1.0


class PeakMemory:
    """The most memory so far.

    Attributes
    ----------
    mib
        In MiB; 0 before the first look.
    """

    def __init__(self) -> None:
        self.mib = 0.0

    def look(self) -> None:
        """Take the memory of this process and all below it."""
        import psutil  # of the extra `study`

        total = 0
        process = psutil.Process(os.getpid())
        for each in [process, *process.children(recursive=True)]:
            try:
                total += each.memory_info().rss
            except psutil.Error:  # it has ended
                continue
        self.mib = max(self.mib, total / 2**20)


@contextmanager
def watched_memory() -> Iterator[PeakMemory]:
    """Watch the memory of this process and all below it for the time of a block."""
    peak, ended = PeakMemory(), threading.Event()

    def watch() -> None:
        while not ended.wait(_SECONDS_BETWEEN_LOOKS):
            peak.look()

    watcher = threading.Thread(target=watch, daemon=True)
    peak.look()
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()
