"""``python -m nnunet_stochastic.study.run_job STUDY.yaml KIND NAME``: run one job, as Snakemake calls it.

A job is locked while it runs, so that one which outlived its study is waited for and not run twice. Where the
study shares out GPUs of this machine, the job takes free ones; elsewhere the scheduler has set CUDA_VISIBLE_DEVICES.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from nnunet_stochastic.io.text import write_text
from nnunet_stochastic.processes import run_logged
from nnunet_stochastic.study.checks import environment_of
from nnunet_stochastic.study.job import Job
from nnunet_stochastic.study.locks import locked, take_places
from nnunet_stochastic.study.memory import watched_memory
from nnunet_stochastic.study.plan import FINAL, Plan
from nnunet_stochastic.study.presence import are_complete, discard_broken_checkpoints

__all__ = ["GPUS_VARIABLE", "main", "run"]

#: This machine's GPUs that jobs may take, one per place; a GPU that jobs share is there more than once.
GPUS_VARIABLE = "nnUNet_stochastic_study_gpus"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a job; return 0 if it is complete."""
    file, kind, name = sys.argv[1:] if argv is None else argv
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that no command is left behind
    try:
        run(Path(file), kind, name)
    except (ValueError, OSError) as error:
        print(f"{kind} {name}: {error}", file=sys.stderr)
        return 1
    return 0


def run(file: Path, kind: str, name: str) -> None:
    """Run a job unless it is done.

    Parameters
    ----------
    file
        File of the study.
    kind, name
        Kind and name of the job.

    Raises
    ------
    ValueError
        There is no such job.
    ChildProcessError, FileNotFoundError
        A command failed, or left something out.
    """
    plan = Plan.read(file)
    job = (plan.current_jobs() if kind in FINAL else plan.jobs).get((kind, name))
    if job is None:
        raise ValueError(f"{file} has no such job any more; start the study again")
    records = plan.records
    log = records.log(job.key)
    log.parent.mkdir(parents=True, exist_ok=True)
    with locked(records.lock(job.key), waiting_for=f"an earlier run of {kind} {name}"):
        if records.is_done(job):  # that earlier run has done it
            return
        resumed = records.begin(job)
        if not resumed and job.folder is not None:
            shutil.rmtree(job.folder, ignore_errors=True)
        with log.open("a", encoding="utf-8") as stream, _gpus(plan, job) as gpus:
            _note(stream, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {platform.node()}: {kind} {name}")
            start = time.monotonic()
            try:
                with watched_memory() as peak:
                    num_run = _run_commands(plan, job, environment_of(plan.study, kind, job.environment) | gpus, stream)
                _check_products(Plan.read(file).jobs[job.key] if kind == "convert" else job)
            except (ValueError, OSError) as error:
                _note(stream, f"failed: {str(error).splitlines()[0]}")
                raise
            seconds = round(time.monotonic() - start, 1)
            _note(stream, f"done in {seconds} s")
            measured = {"seconds": seconds, "memory_mib": round(peak.mib), "resumed": resumed}
            measured = measured if num_run else {"adopted": True}
            records.finish(job, **measured, host=platform.node(), finished=time.strftime("%Y-%m-%d %H:%M:%S"))


def _run_commands(plan: Plan, job: Job, environment: Mapping[str, str], stream: TextIO) -> int:
    """Run what is not done already; returns how many commands that were."""
    interrupted = plan.records.interrupted_in(job)
    for path, text in job.files:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    if job.kind == "train" and interrupted is not None:
        for path in discard_broken_checkpoints(job.products[0].parent):
            _note(stream, f"{path} was cut short by an interruption and is deleted")
    num_run = 0
    for index, command in enumerate(job.commands):
        if command.is_done(interrupted == index):
            _note(stream, f"done already: {shlex.join(command.argv)}")
            continue
        _note(stream, shlex.join(command.argv))
        plan.records.running(job, index)
        # Modules that lie in the study's folder are not Python's; what the user's own commands import is theirs.
        safe = {"PYTHONSAFEPATH": "1"} if command.argv[0] == sys.executable else {}
        run_logged(command.argv, stream, {**environment, **safe}, folder=plan.study.folder)
        num_run += 1
    return num_run


def _check_products(job: Job) -> None:
    if missing := [path for path in job.products if not are_complete([path])]:
        raise ChildProcessError(f"the commands ended well, but {missing[0]} is not there or not complete")


@contextmanager
def _gpus(plan: Plan, job: Job) -> Iterator[dict[str, str]]:
    """The variable that gives a job its GPUs, while it has them."""
    places = [name for name in os.environ.get(GPUS_VARIABLE, "").split(",") if name]
    count = plan.study.resource(job.kind, "gpu")
    if not places or not count:
        yield {}
        return
    with ExitStack() as stack:
        folder = plan.study.output / "locks" / "gpus"
        taken = take_places(stack, [folder / f"{platform.node()}_{index}.lock" for index in range(len(places))], count)
        yield {"CUDA_VISIBLE_DEVICES": ",".join(places[index] for index in taken)}


def _note(stream: TextIO, line: str) -> None:
    stream.write(f"== {line}\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
