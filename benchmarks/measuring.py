"""Two sides measured in one run, and the ratio of what they cost.

    ratio = median over i of ours_i / theirs_i

The sides take turns, so a machine that slows down slows both. A ratio below 1 is in our favour; the limits are those
that the package sets itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import TypeVar

import torch

__all__ = [
    "Row",
    "cpu_seconds",
    "executable",
    "peak_command_bytes",
    "peak_resident_bytes",
    "peak_tensor_bytes",
    "run_command",
    "time_ratios",
]

POLLING_INTERVAL_S = 0.02

Result = TypeVar("Result")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Parameters
    ----------
    work, against
        What we do, and what a user would use instead.
    quantity
        What is compared: ``"time"`` (wall), ``"processor time"`` (user and system), ``"memory"`` (peak), or
        ``"distance"`` from the exact result.
    ratios
        Ours over theirs, one per repeat.
    limit
        What the median must not exceed; ``None`` where the price of a model is told and no claim made.
    """

    work: str
    against: str
    quantity: str
    ratios: tuple[float, ...]
    limit: float | None = None

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def met(self) -> bool:
        return self.limit is None or self.ratio <= self.limit


def time_ratios(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    repeats: int,
    device: torch.device,
    warm_up: bool = True,
) -> tuple[float, ...]:
    """Ratios of wall time, after one call of each side that does not count."""
    if warm_up:
        ours()
        theirs()
    ratios = []
    for repeat in range(repeats):
        if repeat % 2:
            theirs_s, ours_s = _seconds(theirs, device), _seconds(ours, device)
        else:
            ours_s, theirs_s = _seconds(ours, device), _seconds(theirs, device)
        ratios.append(ours_s / theirs_s)
    return tuple(ratios)


def peak_tensor_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Most memory of the tensors that the call makes at one time, temporary ones inside operators included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    # torch sums a profile's memory events per operator; the peak needs every allocation and release in order of time.
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    in_use = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        in_use += event.nbytes()
        peak = max(peak, in_use)
    return peak


def peak_resident_bytes(call: Callable[[], object]) -> int:
    """Most memory of this process during the call, above that before it. Linux only.

    Memory that was freed before and not given back to the system hides a part: measure in a fresh process.
    """
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        raise OSError("the memory of processes is read from /proc, which only Linux has: choose other benchmarks")
    reset.write_text("5")  # the peak starts anew at what is in use now
    before = _status_bytes("VmRSS")
    call()
    return _status_bytes("VmHWM") - before


def executable(name: str) -> str:
    """The console script beside the running interpreter."""
    path = Path(sys.executable).with_name(name + (".exe" if os.name == "nt" else ""))
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: install the package into the environment of {sys.executable}")
    return str(path)


def run_command(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a command; its output is shown if it fails."""
    _run(command, environment, watch=lambda process: process.wait())


def cpu_seconds(call: Callable[[], Result]) -> tuple[float, Result]:
    """Processor time of the processes that a call starts and waits for, user and system, and its result.

    Not for Windows.
    """
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = call()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, result


def peak_command_bytes(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Most memory of a command and all its child processes at one time.

    Proportional set size: memory that processes share counts once. Linux only.
    """
    if not Path("/proc/self/smaps_rollup").exists():
        raise OSError("the memory of processes is read from /proc, which only Linux has: choose other benchmarks")
    peak = 0

    def watch(process: subprocess.Popen) -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, sum(map(_proportional_set_bytes, _process_tree(process.pid))))
            time.sleep(POLLING_INTERVAL_S)

    _run(command, environment, watch=watch)
    return peak


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _run(
    command: Sequence[str], environment: Mapping[str, str], *, watch: Callable[[subprocess.Popen], object]
) -> None:
    with TemporaryFile() as output:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT)
        try:
            watch(process)
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        if process.returncode:
            text = output.read().decode(errors="replace")
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{text}")


def _process_tree(root: int) -> list[int]:
    tree = [root]
    for process in tree:
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            tree += map(int, _text(children).split())
    return tree


def _proportional_set_bytes(process: int) -> int:
    for line in _text(Path(f"/proc/{process}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return 1024 * int(line.split()[1])
    return 0


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):  # the process ended meanwhile
        return ""
