"""What a command does with an error: one message on stderr and a non-zero exit status.

A ``ValueError`` or ``OSError`` comes from the input (that is how this package reports bad input) and its message says
what to do, so the traceback is left out. Any other exception is a defect and keeps its traceback.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import time
from collections.abc import Callable, Sequence

from nnunet_stochastic.commands._streams import lenient_streams

__all__ = ["TRACEBACK_VARIABLE", "in_few_words", "minutes", "report_errors", "say_total_time"]

TRACEBACK_VARIABLE = "nnUNet_stochastic_traceback"

#: Longest word (a path has none so long) and line that are printed whole.
_LONGEST_WORD, _LONGEST_LINE = 400, 4000

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
                hint = f"(set {TRACEBACK_VARIABLE}=1 to see where it was raised)"
                print(f"error: {in_few_words(str(error))}\n{hint}", file=sys.stderr)
                return 1
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                return 130

    return reporting


def in_few_words(message: str) -> str:
    """A message with the middle of words left out that are of no use to a reader: a value of a million signs."""
    message = re.sub(rf"\S{{{_LONGEST_WORD},}}", lambda word: f"{word[0][:150]}…{word[0][-50:]}", message)
    lines = (line if len(line) < _LONGEST_LINE else f"{line[:300]} … {line[-100:]}" for line in message.split("\n"))
    return "\n".join(lines)
