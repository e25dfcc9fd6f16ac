"""Steps of a longer job: each runs as a process of its own with its output in a log file, and is skipped once done."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from nnunet_stochastic.commands._errors import minutes
from nnunet_stochastic.io.schemas import DemoRecord
from nnunet_stochastic.io.text import read_json_unless_cut, write_text
from nnunet_stochastic.processes import CommandFailed, run_logged

__all__ = ["RECORD", "Report", "Step", "assignment", "read_done_steps", "run_steps", "write_done_steps"]

RECORD = (
    "demo.json"  # which steps are done, by name, and the command that did it; also marks a folder as the demo's own
)

Report = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """One step: a command line for a new process, or an action in this one."""

    name: str
    title: str
    command: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()  # environment of this step alone
    action: Callable[[Report], None] | None = None
    shows_output: bool = False

    @property
    def typed(self) -> str:
        """The step as one types it."""
        words = subprocess.list2cmdline(self.command) if os.name == "nt" else shlex.join(self.command)
        if os.name == "nt":
            return " && ".join([*map(assignment, self.variables), words])
        return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in self.variables), words])


def read_done_steps(folder: Path) -> dict[str, str]:
    """The steps that are done in `folder`: name -> the command that did it; none by a record that was cut short."""
    record = read_json_unless_cut(folder / RECORD, DemoRecord, remedy="start over with --overwrite")
    return {} if record is None else record["done"]


def write_done_steps(folder: Path, done: dict[str, str]) -> None:
    """Record which steps are done in `folder`."""
    write_text(folder / RECORD, json.dumps({"done": done}, indent=2))


def run_steps(
    steps: list[Step], folder: Path, environment: dict[str, str], console: Console, *, show_progress: bool = True
) -> None:
    """Run what is not done yet, and whatever follows a step that was run."""
    recorded = read_done_steps(folder)
    done: dict[str, str] = {}
    for number, step in enumerate(steps, start=1):
        label = f"[bold]{number}/{len(steps)}[/bold] {escape(step.title)}"
        if recorded.get(step.name) == step.typed:
            console.print(f"{label}: done before")
            done[step.name] = step.typed
            continue
        console.print(label)
        if step.command:
            console.print(f"  {escape(step.typed)}", style="cyan")
        if done != recorded:  # this step's results are gone as soon as it starts, and later ones were made from them
            recorded = dict(done)
            write_done_steps(folder, recorded)
        log = folder / "logs" / f"{number}_{step.name}.log"
        start = time.monotonic()
        columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
        with Progress(*columns, console=console, transient=True, disable=not show_progress) as progress:
            task = progress.add_task("")
            width = max(20, console.width - 15)

            def report(line: str, progress: Progress = progress, task: TaskID = task, width: int = width) -> None:
                progress.update(task, description=line[:width])

            if step.action is not None:
                step.action(report)
            else:
                _run_command(step, log, environment, report)
        console.print(f"  {minutes(time.monotonic() - start)}", style="green")
        if step.shows_output:
            console.print(log.read_text(encoding="utf-8"), markup=False)
        done[step.name] = step.typed
        recorded = dict(done)
        write_done_steps(folder, recorded)


def _run_command(step: Step, log: Path, environment: dict[str, str], report: Report) -> None:
    """Run a step's command with its output in `log`; report each line, and raise with the last ones if it fails."""
    log.parent.mkdir(exist_ok=True)
    try:
        with log.open("w", encoding="utf-8") as stream:
            run_logged(step.command, stream, environment | dict(step.variables), report=report)
    except CommandFailed as error:
        raise ChildProcessError(
            f"step {step.name!r} failed with exit status {error.status}; run the demo again to repeat it and those "
            f"after it; the last lines of {log}:\n{error.tail}"
        ) from error


def assignment(variable: tuple[str, str]) -> str:
    """The shell command that sets an environment variable (name, value)."""
    name, value = variable
    return f'set "{name}={value}"' if os.name == "nt" else f"export {name}={shlex.quote(value)}"
