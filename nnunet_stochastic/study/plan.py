"""A study as it stands: the file, the jobs that follow from it, and their records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nnunet_stochastic.study.checks import Folders, environment_of
from nnunet_stochastic.study.description import Study
from nnunet_stochastic.study.job import Job, Key
from nnunet_stochastic.study.jobs import all_jobs, evaluations_of, final_jobs
from nnunet_stochastic.study.records import Records

__all__ = ["FINAL", "Plan"]

#: Kinds whose jobs follow from the evaluations that are there.
FINAL = ("compare", "report")


@dataclass(frozen=True)
class Plan:
    """A study, nnU-Net's folders, and the environment of its commands."""

    study: Study
    folders: Folders
    environment: Mapping[str, str]

    @classmethod
    def read(cls, file: Path) -> Plan:
        """Of a YAML file, in this process's environment."""
        from nnunet_stochastic.study.reading import read_study  # needs the extra `study`

        study = read_study(file)
        environment = environment_of(study)
        return cls(study, Folders.of(environment), environment)

    @cached_property
    def records(self) -> Records:
        """What was done."""
        return Records(self.study.output)

    @cached_property
    def jobs(self) -> dict[Key, Job]:
        """All jobs, each after those that it needs."""
        return self._with_final(lambda job: True)

    def current_jobs(self) -> dict[Key, Job]:
        """The same, with the final jobs of those evaluations that are there now."""
        return self._with_final(self.records.is_done)

    def targets(self, kind: str) -> list[Job]:
        """Jobs of a kind that can be run; those of a dataset that must be converted first cannot, nor be named."""
        if kind in FINAL:
            return [job for job in self.current_jobs().values() if job.kind == kind]
        waiting = {dataset.dataset for dataset in self.study.datasets if not self.folders.name_of(dataset.dataset)}
        jobs = (job for job in self.jobs.values() if job.kind == kind)
        return [job for job in jobs if kind == "convert" or job.dataset not in waiting]

    def failed(self, jobs: Sequence[Job]) -> tuple[list[Job], list[Job]]:
        """Of jobs that were to be done: those that failed, and those that were not run because of them."""
        undone = {job.key: job for job in jobs if not self.records.is_done(job)}
        failed = [job for job in undone.values() if not any(key in undone for key in job.needs)]
        return failed, [job for job in undone.values() if job not in failed]

    def _with_final(self, is_there: Callable[[Job], bool]) -> dict[Key, Job]:
        jobs = all_jobs(self.study, self.folders, self.environment)
        results = [result for result in evaluations_of(self.study, self.folders) if is_there(jobs[result.job])]
        return jobs | {job.key: job for job in final_jobs(self.study, results)}
