"""A job: commands, what they need, and what is there when they are done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Command", "Job", "Key"]

Key = tuple[str, str]
"""Kind and name of a job."""


@dataclass(frozen=True)
class Command:
    """A program and its arguments.

    Attributes
    ----------
    argv
        Program and arguments as they are typed.
    is_done
        Whether it can be left out; told whether it was interrupted before.
    """

    argv: tuple[str, ...]
    is_done: Callable[[bool], bool] = field(default=lambda interrupted: False, compare=False)


@dataclass(frozen=True)
class Job:
    """Commands that are run one after the other, on one machine.

    Attributes
    ----------
    kind, name
        Kind, and a name that is unique within it, with slashes.
    commands
        Commands in the order in which they run.
    needs
        Jobs that must be done before.
    products
        Files that are there afterwards.
    folder
        The job's own folder: emptied before the job is done in another way than before; None keeps what is there.
    files
        Text files to write before the commands.
    environment
        Variables of this job alone.
    dataset, trainer
        Names of what it works on, for the estimate; empty where these are many.
    """

    kind: str
    name: str
    commands: tuple[Command, ...]
    needs: tuple[Key, ...] = ()
    products: tuple[Path, ...] = ()
    folder: Path | None = None
    files: tuple[tuple[Path, str], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    dataset: str = ""
    trainer: str = ""

    @property
    def key(self) -> Key:
        """Kind and name."""
        return self.kind, self.name
