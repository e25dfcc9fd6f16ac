"""Snakemake, as the study starts and watches it.

Its own output goes to OUTPUT/logs/snakemake.log. That a job is done is seen in its record, wherever the job ran.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from nnunet_stochastic.processes import last_lines
from nnunet_stochastic.study.job import Job
from nnunet_stochastic.study.plan import Plan
from nnunet_stochastic.study.run_job import GPUS_VARIABLE
from nnunet_stochastic.study.slurm import Failure, FailureLog, uses_slurm

__all__ = ["Engine", "require_engine"]

_SNAKEFILE = Path(__file__).with_name("Snakefile")
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_END = 30


def require_engine() -> None:
    """Raise where the extra ``study`` is not installed."""
    if missing := [name for name in ("snakemake", "yaml", "psutil") if importlib.util.find_spec(name) is None]:
        raise ValueError(
            f'a study needs {", ".join(missing)}: run pip install ".[study]" in the checkout of nnunet_stochastic '
            "(Python 3.11 or newer)"
        )


@dataclass(frozen=True)
class Engine:
    """How Snakemake is started.

    Attributes
    ----------
    cores
        Limit of the threads of all jobs; None leaves it to ``options``.
    gpus
        This machine's GPUs, one entry per job that may run at a time; empty where jobs run elsewhere or need none.
    max_gpus
        Limit of the GPUs of all jobs; None is no limit.
    options
        More options of Snakemake.
    on_cluster
        Whether jobs run elsewhere, with as many cores each as they ask for.
    """

    cores: int | None
    gpus: tuple[str, ...]
    max_gpus: int | None
    options: tuple[str, ...]
    on_cluster: bool = False

    def run(
        self,
        plan: Plan,
        kinds: Sequence[str],
        jobs: Sequence[Job],
        on_done: Callable[[Job], None],
        on_failed: Callable[[Failure], None],
    ) -> None:
        """Run jobs of some kinds, with all that they need.

        Parameters
        ----------
        plan
            The study.
        kinds
            Kinds of the jobs.
        jobs
            Jobs to run with what they need, as far as it is not done.
        on_done
            Function that is called with each when it is done.
        on_failed
            Function that is called with each failure that a scheduler tells of, when it does.

        Raises
        ------
        ChildProcessError
            Snakemake failed without having run a job.
        """
        log = plan.study.output / "logs" / "snakemake.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        before = {job.key: _changed(plan.records.log(job.key)) for job in jobs}
        environment = dict(plan.environment) | {GPUS_VARIABLE: ",".join(self.gpus)}
        failures = FailureLog(log, environment) if uses_slurm(self.options) else None
        num_failed = 0
        with log.open("a", encoding="utf-8") as stream:
            process = subprocess.Popen(
                self.command(plan, kinds),
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                cwd=plan.study.folder,
            )
            with _passing_on_signals(process):
                left = list(jobs)
                while True:
                    status = process.poll()
                    done = [job for job in left if plan.records.is_recorded(job.key)]
                    for job in done:
                        on_done(job)
                    left = [job for job in left if job not in done]
                    for failure in failures.read(at_end=status is not None) if failures else ():
                        num_failed += 1
                        on_failed(failure)
                    if status is not None:
                        break
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
        if status != 0 and not num_failed and before == {job.key: _changed(plan.records.log(job.key)) for job in jobs}:
            raise ChildProcessError(f"Snakemake failed; the last lines of {log}:\n{last_lines(log)}")

    def command(self, plan: Plan, kinds: Sequence[str]) -> list[str]:
        """The command line of Snakemake."""
        # -P: modules that lie in the study's folder are not Python's.
        command = [sys.executable, "-P", "-m", "snakemake", "--snakefile", str(_SNAKEFILE)]
        command += ["--directory", str(plan.study.output)]
        # Snakemake reads values as YAML, again in each process that it starts.
        command += ["--config", f"study={quote(str(plan.study.file))}", f"kinds={','.join(kinds)}"]
        command += [f"on_cluster={int(self.on_cluster)}"]
        # The study has its own locks and its own way to tell what is complete.
        command += ["--nolock", "--ignore-incomplete", "--drop-metadata", "--rerun-triggers", "mtime"]
        command += ["--keep-going", "--scheduler", "greedy"]
        command += [] if self.cores is None else ["--cores", str(self.cores)]
        command += [] if self.max_gpus is None else ["--resources", f"gpu={self.max_gpus}"]
        return [*command, *self.options]


@contextmanager
def _passing_on_signals(process: subprocess.Popen) -> Iterator[None]:
    """Let Snakemake end its jobs where this process is told to end; Ctrl-C reaches both."""

    def end(number: int, frame: object) -> None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:  # jobs that outlive it are waited for by the next start
            process.kill()
        sys.exit(128 + number)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def _changed(log: Path) -> int | None:
    return os.stat(log).st_mtime_ns if log.is_file() else None
