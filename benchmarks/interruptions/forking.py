"""Commands as forks of one process that has imported what they need: a run costs its work, and no 5 s of imports.

A fork is a session of its own. It is ended by SIGKILL together with all that it has started, workers in sessions of
their own included, so that nothing of it goes on writing.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ended", "import_what", "prepare_process", "run", "run_until"]

_PR_SET_CHILD_SUBREAPER = 36
#: What is imported before a fork, of the modules that the first run has imported.
_IMPORTED = set(
    "PIL SimpleITK acvl_utils batchgenerators batchgeneratorsv2 blosc2 dynamic_network_architectures filelock isal "
    "jinja2 matplotlib nibabel nnunet_stochastic nnunetv2 numpy pandas pydantic rich scipy seaborn skimage sklearn "
    "tifffile torch torchio tqdm yaml".split()
)


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Parameters
    ----------
    status
        Exit status, ``None`` if it was killed.
    message
        What it wrote to stderr.
    seconds
        How long it ran.
    """

    status: int | None
    message: str
    seconds: float


def prepare_process() -> None:
    """Let this process inherit what its forks leave behind when they are killed, so that it can reap that."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(
    program: Callable[[list[str]], object], arguments: Sequence[str], environment: Mapping[str, str], folder: Path
) -> Ended:
    """Run a program to its end."""
    return run_until(None, program, arguments, environment, folder)


def run_until(
    seconds: float | None,
    program: Callable[[list[str]], object],
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
) -> Ended:
    """Run a program, and kill it after some seconds if it is not at its end by then.

    Parameters
    ----------
    seconds
        When it is killed; ``None`` lets it run.
    program
        Function that takes the arguments and returns an exit status.
    arguments
        Its arguments.
    environment
        Environment variables, in place of this process's.
    folder
        Folder for what it prints and for the modules that it imports.
    """
    printed, imported = folder / "stderr.txt", folder / "imported.txt"
    sys.stdout.flush()
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(program, arguments, environment, printed, imported)
    status = _wait(child, seconds)
    killed = status is None
    _kill(child)
    if killed:
        os.waitpid(child, 0)
    _reap()
    return Ended(status, printed.read_text(encoding="utf-8", errors="replace"), time.monotonic() - begin)


def import_what(folder: Path) -> None:
    """Import the modules that the last run to its end has imported, those of the known packages."""
    for name in (folder / "imported.txt").read_text().split():
        if name.partition(".")[0] in _IMPORTED and name not in sys.modules:
            with contextlib.suppress(Exception):  # modules that import conditionally
                importlib.import_module(name)


def _become(
    program: Callable[[list[str]], object],
    arguments: Sequence[str],
    environment: Mapping[str, str],
    printed: Path,
    imported: Path,
) -> None:
    """Be the program until it ends, and end."""
    status = 1
    try:
        os.setsid()
        silence = os.open(os.devnull, os.O_RDWR)
        output = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        for number, descriptor in enumerate((silence, silence, output)):
            os.dup2(descriptor, number)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["command", *arguments]
        try:
            found = program(list(arguments))
        except SystemExit as end:
            found = end.code
        status = found if isinstance(found, int) else int(found is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stderr.flush()
            sys.stdout.flush()
            imported.write_text("\n".join(list(sys.modules)))
        os._exit(status)


def _wait(child: int, seconds: float | None) -> int | None:
    """Exit status of a child, ``None`` if it is at work after some seconds."""
    if seconds is None:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    time.sleep(seconds)
    ended, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _kill(child: int) -> None:
    """Kill a child and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    for process in _descendants(child):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _descendants(process: int) -> list[int]:
    """Processes below one, and those that lost their parents and fell to this process."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [process, *parents.get(os.getpid(), [])]
    while waiting:
        current = waiting.pop()
        found.append(current)
        waiting += parents.get(current, [])
    return found


def _reap() -> None:
    """Wait for all that is left of a run; a zombie would count as a process at work."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
