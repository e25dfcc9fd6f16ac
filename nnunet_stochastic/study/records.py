"""What was done: a file per job, from which a study knows what is left.

    OUTPUT/done/KIND/NAME.json     the job is complete: how it was done, when, where, and in how many seconds
    OUTPUT/begun/KIND/NAME.json    it was begun: how, and which command it has come to

How a job is done are its commands, the files that it is given and the jobs that it needs. Work that was begun in the
same way is resumed; in another way, it is begun anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_stochastic.io.schemas import JobRecord
from nnunet_stochastic.io.text import read_json_if_complete, write_json
from nnunet_stochastic.study.job import Job, Key
from nnunet_stochastic.study.presence import are_complete

__all__ = ["Records"]

# How fast a command is, and nothing else; with a value.
_SPEED_OPTIONS = ("-np", "-npfp", "-npp", "-nps")
# What a command shows, and nothing else; the second was the first's name in former versions.
_DISPLAY_OPTIONS = ("--disable_progress_bar", "--no_pbar")
# What is there stays, whoever made it: data and trained models.
_ADOPTED = ("convert", "train")
# Plans are made where there are none, sets of raw data and splits alone: neither follows from how another job was done.
_INDEPENDENT = (*_ADOPTED, "plan", "sets")


@dataclass(frozen=True)
class Records:
    """The records of a study, in its output folder."""

    output: Path

    def done(self, key: Key) -> Path:
        """The file that says that a job is complete."""
        return self._file("done", key, ".json")

    def log(self, key: Key) -> Path:
        """The output of a job's commands."""
        return self._file("logs", key, ".log")

    def lock(self, key: Key) -> Path:
        """Locked while a job runs."""
        return self._file("locks", key, ".lock")

    def is_done(self, job: Job) -> bool:
        """Whether a job is complete, and was done as it would be done now."""
        done = _read(self.done(job.key))
        if not done or not are_complete(job.products):
            return False
        return job.kind in _ADOPTED or _is_how(done.get("how", {}), job)

    def is_recorded(self, key: Key) -> bool:
        """Whether there is a record of the job's end; one that an interruption has cut short is none."""
        return bool(_read(self.done(key)))

    def begin(self, job: Job) -> bool:
        """Whether the job was begun in the same way; if not, note that it is begun now."""
        begun = _read(self._begun(job.key))
        if "how" in begun and _is_how(begun["how"], job):
            return True
        self.running(job, begun.get("command"))
        return False

    def interrupted_in(self, job: Job) -> int | None:
        """Number of the command that the job was running when it was last heard of."""
        return _read(self._begun(job.key)).get("command")

    def running(self, job: Job, command: int | None) -> None:
        """Note which command runs."""
        write_json(_made(self._begun(job.key)), {"how": how(job), "command": command})

    def finish(self, job: Job, **facts: Any) -> None:
        """Note that the job is complete."""
        self.running(job, None)
        write_json(_made(self.done(job.key)), {"how": how(job), **facts})

    def seconds(self, key: Key) -> float | None:
        """How long a job took, None where it was not measured."""
        return _read(self.done(key)).get("seconds")

    def measured(self, key: Key) -> tuple[float, float]:
        """Minutes that a job took and the most memory in MiB that it had; 0 where this was not measured.

        Of a job that went on after an interruption, the record has the last part alone: its time is not taken.
        """
        done = _read(self.done(key))
        minutes = 0.0 if done.get("resumed") else (done.get("seconds") or 0.0) / 60
        return minutes, done.get("memory_mib") or 0.0

    def stale(self, jobs: Mapping[Key, Job]) -> dict[Key, str]:
        """Records that are not true any more, and those of what was made from these results.

        Parameters
        ----------
        jobs
            All jobs, each after those that it needs.

        Returns
        -------
        dict
            Why each is to be done again.
        """
        stale: dict[Key, str] = {}
        for key, job in jobs.items():
            if (reason := self._why_stale(job, stale)) is not None:
                stale[key] = reason
        return stale

    def forget(self, keys: Iterable[Key]) -> list[Key]:
        """Remove records; returns those of jobs that were done."""
        done = [key for key in keys if self.done(key).is_file()]
        for key in keys:
            self.done(key).unlink(missing_ok=True)
            self._begun(key).unlink(missing_ok=True)
        return done

    def is_adoptable(self, job: Job) -> bool:
        """Whether somebody else did the job: data that are there, and trained models."""
        return (
            job.kind in _ADOPTED and bool(job.products) and not self.is_recorded(job.key) and are_complete(job.products)
        )

    def adopt(self, jobs: Iterable[Job]) -> list[Job]:
        """Note as done what somebody else did; returns these jobs."""
        adopted = [job for job in jobs if self.is_adoptable(job)]
        for job in adopted:
            self.finish(job, adopted=True)
        return adopted

    def _why_stale(self, job: Job, stale: Mapping[Key, str]) -> str | None:
        done = _read(self.done(job.key))
        if not done and self.done(job.key).is_file():
            return f"{self.done(job.key)} cannot be read"
        if not done and not self._begun(job.key).is_file():
            return None
        if done and job.kind not in _ADOPTED and not _is_how(done.get("how", {}), job):
            return "its commands have changed"
        upstream = next((key for key in job.needs if key in stale), None)
        if upstream is not None and job.kind not in _INDEPENDENT:
            return f"{' '.join(upstream)} is done again"
        if done and (missing := next((path for path in job.products if not are_complete([path])), None)):
            return f"{missing} is gone or damaged"
        return None

    def _begun(self, key: Key) -> Path:
        return self._file("begun", key, ".json")

    def _file(self, folder: str, key: Key, ending: str) -> Path:
        return self.output / folder / key[0] / f"{key[1]}{ending}"


def how(job: Job) -> dict[str, Any]:
    """What decides a job's results, as JSON."""
    return {
        "commands": [_deciding(command.argv) for command in job.commands],
        "files": [[str(path), text] for path, text in job.files],
        "needs": [list(key) for key in job.needs],
    }


def _is_how(recorded: Mapping[str, Any], job: Job) -> bool:
    """Whether a job was done, or begun, as it would be now."""
    return {**recorded, "commands": list(map(_deciding, recorded.get("commands", ())))} == how(job)


def _deciding(argv: Sequence[str]) -> list[str]:
    """The words of a command that decide its result."""
    return [
        part
        for index, part in enumerate(argv)
        if part not in (*_SPEED_OPTIONS, *_DISPLAY_OPTIONS) and (index == 0 or argv[index - 1] not in _SPEED_OPTIONS)
    ]


def _made(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _read(file: Path) -> dict[str, Any]:
    """A record; empty where there is none, or one that an interruption has cut short."""
    return read_json_if_complete(file, JobRecord) or {}
