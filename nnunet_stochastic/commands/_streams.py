"""Standard output and error of a command, such that its work does not depend on where they go.

What nnU-Net says of where it looks for a trainer's class is kept out; that it does not find one is an error.
They may be closed (``2>&-``, ``pythonw``, daemons), be pipes that nobody reads any more, or know no letter but those of
an old code page. What cannot be written is then left out, or stands as a question mark.
"""

from __future__ import annotations

import io
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["lenient_streams"]

_NAMES = ("stdout", "stderr")
_CHATTER = re.compile(
    r"Trainer '[^']*' not found in nnunetv2\.training\.nnUNetTrainer\.\nSearching in external trainer paths "
    r"|Searching in: |Searching for class \w+ in folder |  Inspecting module: |Found class \w+ in "
    r"|Using trainer '\w+' from: "
)


@contextmanager
def lenient_streams() -> Iterator[None]:
    """Within the block, writing to ``sys.stdout`` and ``sys.stderr`` never fails."""
    before = {name: getattr(sys, name) for name in _NAMES}
    if None in before.values():
        _occupy_closed_descriptors()
    try:
        for name, stream in before.items():
            setattr(sys, name, _Lenient(stream if stream is not None else _nowhere()))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\b")  # of torch, about torch
            yield
    finally:
        for name, stream in before.items():
            if stream is not None:
                _flush(stream)
                setattr(sys, name, stream)
            # One that was closed stays open to nowhere, for what Python says when it ends.


class _Lenient:
    """A text stream that passes over what it cannot write."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._ends_chatter = False
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")

    def write(self, text: str) -> int:
        ends_chatter, self._ends_chatter = self._ends_chatter, bool(_CHATTER.match(text))
        if self._ends_chatter or (ends_chatter and text == "\n"):  # print writes the end of a line by itself
            return len(text)
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _nowhere() -> io.TextIOWrapper:
    return open(os.devnull, "w", encoding="utf-8")


def _occupy_closed_descriptors() -> None:
    """Open 0 to 2 to nowhere where they are closed: the next file would get the number, and what libraries print."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _flush(stream: Any) -> None:
    """Write what is left, or drop it: Python would try again at its end, and exit with status 120."""
    try:
        stream.flush()
    except OSError:
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
