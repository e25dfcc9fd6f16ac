"""A command as a process of its own, with its output in a log file."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

__all__ = ["LOG_TAIL", "CommandFailed", "find_program", "last_lines", "run_logged"]

LOG_TAIL = 15  # lines of a failed command's output that go to the terminal


class CommandFailed(ChildProcessError):
    """A command ended with another exit status than 0.

    Attributes
    ----------
    status
        Exit status; minus the signal's number where one ended the command.
    tail
        The last lines of the output, indented for a message.
    """

    def __init__(self, command: Sequence[str], status: int, lines: Sequence[str]) -> None:
        self.status, self.tail = status, "\n".join(f"  | {line}" for line in lines)
        super().__init__(f"{command[0]} ended with exit status {status}:\n{self.tail}")


def find_program(name: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """The file of a command, and the PATH to run it with: this interpreter's environment comes first.

    Raises
    ------
    FileNotFoundError
        If there is no such command.
    """
    beside = dict.fromkeys([str(Path(sys.executable).parent), sysconfig.get_path("scripts")])
    path = os.pathsep.join([*beside, environment.get("PATH", "")])
    program = shutil.which(name, path=path)
    if program is None:
        raise FileNotFoundError(
            f"the command {name} was not found on {platform.node()}, neither in {' or '.join(beside)} nor on PATH; run "
            "`pip install .` in the checkout of nnunet_stochastic, with this environment's pip"
        )
    return program, path


def run_logged(
    command: Sequence[str],
    log: TextIO,
    environment: Mapping[str, str],
    *,
    folder: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Run a command to its end.

    Parameters
    ----------
    command
        Name and arguments of the program.
    log
        Open file that the output is written to.
    environment
        Environment variables of the process, all of them.
    folder
        Working folder; default: the present one.
    report
        Function that is called with each line that is not empty; the states of a progress bar are lines, too.

    Raises
    ------
    CommandFailed
        If it ended with another exit status than 0.
    FileNotFoundError
        If there is no such command.
    """
    program, path = find_program(command[0], environment)
    tail: deque[str] = deque(maxlen=LOG_TAIL)
    process = subprocess.Popen(
        [program, *command[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env={**environment, "PATH": path, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"},
        cwd=folder,
        encoding="utf-8",
        errors="replace",
    )
    try:
        for line in process.stdout or ():
            log.write(line)
            log.flush()
            if line.strip():
                tail.append(line.rstrip())
                report(line.strip())
        status = process.wait()
    except BaseException:  # an interrupt above all: leave no process behind
        process.terminate()
        process.wait()
        raise
    if status != 0:
        raise CommandFailed(command, status, tail)


def last_lines(log: Path) -> str:
    """The end of a log file, indented for a message; empty where there is no such file."""
    if not log.is_file():
        return ""
    with log.open(encoding="utf-8", errors="replace") as stream:
        lines = deque((line.rstrip() for line in stream if line.strip()), maxlen=LOG_TAIL)
    return "\n".join(f"  | {line}" for line in lines)
