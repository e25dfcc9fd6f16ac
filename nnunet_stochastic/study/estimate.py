"""How long what is left will take.

    wall time >= max( longest chain of jobs, Σ minutes x GPUs of a job / GPUs, Σ minutes x threads of a job / cores )

The largest of the three bounds is the estimate. The minutes of a job are the median of those measured on jobs of its
kind, dataset and trainer, else what the logs of trainings say (see ``training_time``), else the median of those
measured on jobs of its kind, else the user's guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from nnunet_stochastic.study.job import Job, Key

__all__ = ["Estimate", "Minutes", "estimate"]


@dataclass(frozen=True)
class Minutes:
    """Minutes of a job.

    Parameters
    ----------
    measured
        Jobs that were measured, with their minutes.
    guesses
        Guesses of the user, by dataset and kind.
    by_logs
        Function that gives the minutes of a job by the logs of trainings, None where they say nothing.
    """

    measured: tuple[tuple[Job, float], ...]
    guesses: Mapping[tuple[str, str], float]
    by_logs: Callable[[Job], float | None] = lambda job: None

    def of(self, job: Job) -> float | None:
        """Minutes of a job, None where nothing is known."""
        same_kind = [(other, minutes) for other, minutes in self.measured if other.kind == job.kind]
        alike = [m for other, m in same_kind if (other.dataset, other.trainer) == (job.dataset, job.trainer)]
        if alike:
            return median(alike)
        if (of_logs := self.by_logs(job)) is not None:
            return of_logs
        if same_kind:
            return median(minutes for _, minutes in same_kind)
        return self.guesses.get((job.dataset, job.kind))


@dataclass(frozen=True)
class Estimate:
    """Minutes that the jobs take, and kinds of job that it leaves out, because nothing is known of them."""

    minutes: float
    unknown: tuple[str, ...]


def estimate(
    jobs: Iterable[Job],
    minutes_of: Callable[[Job], float | None],
    resource_of: Callable[[str, str], int],
    *,
    cores: int,
    gpus: int,
) -> Estimate:
    """The bound of the module.

    Parameters
    ----------
    jobs
        Jobs that are left, each after those that it needs.
    minutes_of
        Minutes of a job, None where nothing is known.
    resource_of
        ``threads`` and ``gpu`` of a kind.
    cores, gpus
        Number of cores, at least 1, and of GPUs of the machine; without a GPU none is needed.
    """
    ends: dict[Key, float] = {}
    cpu = gpu = 0.0
    unknown: dict[str, None] = {}
    for job in jobs:
        minutes = minutes_of(job)
        if minutes is None:
            unknown[job.kind] = None
            minutes = 0.0
        ends[job.key] = minutes + max((ends.get(key, 0.0) for key in job.needs), default=0.0)
        cpu += minutes * min(resource_of(job.kind, "threads"), cores)
        gpu += minutes * resource_of(job.kind, "gpu")
    return Estimate(max(max(ends.values(), default=0.0), cpu / cores, gpu / gpus if gpus else 0.0), tuple(unknown))
