"""What a command does with an error: one message on stderr and a non-zero exit status.

A ``ValueError`` or ``OSError`` comes from the input (that is how this package reports bad input) and its message says
what to do, so the traceback is left out. Any other exception is a defect and keeps its traceback.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Sequence

from nnunet_stochastic.commands._streams import lenient_streams

__all__ = ["TRACEBACK_VARIABLE", "minutes", "report_errors", "say_total_time"]

TRACEBACK_VARIABLE = "nnUNet_stochastic_traceback"

Main = Callable[[Sequence[str] | None], int]


def say_total_time(main: Main) -> Main:
    """Let the ``main`` of a command that takes long say in the end how long it took."""

    @functools.wraps(main)
    def timed(argv: Sequence[str] | None = None) -> int:
        start = time.monotonic()
        status = main(argv)
        print(f"total time: {minutes(time.monotonic() - start)}")
        return status

    return timed


def minutes(seconds: float) -> str:
    """A duration as text."""
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def report_errors(main: Main) -> Main:
    """Make a command's ``main`` return 1 for bad input and 130 when interrupted, with one message on stderr.

    With the environment variable ``nnUNet_stochastic_traceback`` set, errors are raised as they are.
    """

    @functools.wraps(main)
    def reporting(argv: Sequence[str] | None = None) -> int:
        with lenient_streams():
            try:
                return main(argv)
            except (ValueError, OSError) as error:
                if os.environ.get(TRACEBACK_VARIABLE):
                    raise
                print(f"error: {error}\n(set {TRACEBACK_VARIABLE}=1 to see where it was raised)", file=sys.stderr)
                return 1
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                return 130

    return reporting
