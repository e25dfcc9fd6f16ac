"""What a job asks of a scheduler: memory, run time and threads.

    memory [MiB]        what the study says, else ceil(1.5 m + 1000) with the most m that jobs alike have had, else a
                        guess
    run time [minutes]  what the study says, else ceil(2 t + 30) with the longest t that jobs alike took, or with the
                        study's own guess (``minutes``), else a guess

Jobs are alike that are of one kind, dataset and trainer: what was measured on a small dataset says nothing of a large
one. The constants leave room for Snakemake itself, which runs beside the job, and for a machine that is slower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nnunet_stochastic.study.checks import environment_of
from nnunet_stochastic.study.description import Study
from nnunet_stochastic.study.job import Job, Key
from nnunet_stochastic.study.records import Records

__all__ = ["GUESSES", "Guess", "Needs", "threads_of"]

#: Number of processes that augment a training's images, by nnU-Net, where the variable does not say it.
AUGMENTATION_VARIABLE, DEFAULT_AUGMENTATION = "nnUNet_n_proc_DA", 12
#: Keys of ``resources`` by which a study says it itself.
_SAYS = {"mem_mb": {"mem_mb", "mem_mib", "mem", "mem_mb_per_cpu"}, "runtime": {"runtime"}}


@dataclass(frozen=True)
class Guess:
    """What a kind of job is taken to need until one was measured: memory in MiB, run time in minutes."""

    mem_mb: int
    runtime: int


GUESSES = {
    "convert": Guess(16_000, 720),
    "plan": Guess(16_000, 720),
    "sets": Guess(8_000, 240),
    "train": Guess(32_000, 1440),
    "predict": Guess(32_000, 720),
    "calibrate": Guess(16_000, 240),
    "evaluate": Guess(16_000, 720),
    "compare": Guess(8_000, 120),
    "report": Guess(16_000, 120),
}


@dataclass(frozen=True)
class Needs:
    """Memory and run time of the jobs of a study.

    Parameters
    ----------
    study
        The study, whose ``resources`` and ``minutes`` are asked first.
    records
        Records of its jobs.
    jobs
        All jobs, done or not.
    """

    study: Study
    records: Records
    jobs: Mapping[Key, Job]
    _measured: dict[tuple[str, str, str], tuple[float, float]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for job in self.jobs.values():
            minutes, memory = self.records.measured(job.key)
            longest, most = self._measured.get(_likeness(job), (0.0, 0.0))
            self._measured[_likeness(job)] = max(longest, minutes), max(most, memory)

    def of_kind(self, kind: str) -> dict[str, Callable[[Job], int]]:
        """What the study leaves open for a kind of job: ``mem_mb`` in MiB and ``runtime`` in minutes, of each job."""
        said = self.study.resources.get(kind, {}).keys()
        functions = {"mem_mb": self._mem_mb, "runtime": self._runtime}
        return {name: function for name, function in functions.items() if not said & _SAYS[name]}

    def _mem_mb(self, job: Job) -> int:
        _, most = self._measured.get(_likeness(job), (0.0, 0.0))
        return math.ceil(1.5 * most + 1000) if most else GUESSES[job.kind].mem_mb

    def _runtime(self, job: Job) -> int:
        longest, _ = self._measured.get(_likeness(job), (0.0, 0.0))
        minutes = longest or self._guess(job)
        return math.ceil(2 * minutes + 30) if minutes else GUESSES[job.kind].runtime

    def _guess(self, job: Job) -> float:
        """The study's ``minutes`` of a job, of a job on all datasets the longest; 0 where it has none."""
        return max(
            (
                dataset.minutes.get(job.kind, 0.0)
                for dataset in self.study.datasets
                if not job.dataset or job.dataset.startswith(dataset.dataset)  # Dataset511 or all of its name
            ),
            default=0.0,
        )


def threads_of(study: Study, kind: str, *, on_cluster: bool) -> int:
    """Number of threads of a kind of job, at least 1.

    Parameters
    ----------
    study
        The study.
    kind
        Kind of the job.
    on_cluster
        Whether a scheduler gives a job as many cores and no more. A training asks for as many there as nnU-Net starts
        processes that augment images; on this machine, jobs share its cores.
    """
    if kind != "train" or not on_cluster or "threads" in study.resources.get(kind, {}):
        return study.resource(kind, "threads")
    text = environment_of(study, kind).get(AUGMENTATION_VARIABLE, str(DEFAULT_AUGMENTATION))
    return max(int(text), 1) if text.isdecimal() else DEFAULT_AUGMENTATION


def _likeness(job: Job) -> tuple[str, str, str]:
    return job.kind, job.dataset, job.trainer
