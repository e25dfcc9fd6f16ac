"""``nnunet_stochastic_study``: a whole study from one file, to a comparison and a page."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nnunet_stochastic.commands._errors import minutes as as_text
from nnunet_stochastic.commands._errors import report_errors, say_total_time
from nnunet_stochastic.commands._flags import Number, parse_arguments
from nnunet_stochastic.io.output_locks import locked_output_folder
from nnunet_stochastic.processes import last_lines
from nnunet_stochastic.study.checks import (
    Machine,
    check_datasets,
    check_machine,
    check_programs,
    find_machine,
    find_problems,
)
from nnunet_stochastic.study.description import KINDS
from nnunet_stochastic.study.engine import Engine, require_engine
from nnunet_stochastic.study.estimate import Minutes, estimate
from nnunet_stochastic.study.job import Command, Job, Key
from nnunet_stochastic.study.plan import FINAL, Plan
from nnunet_stochastic.study.presence import are_complete
from nnunet_stochastic.study.records import Records
from nnunet_stochastic.study.slurm import Failure, plug_in_options, uses_slurm
from nnunet_stochastic.study.training_time import minutes_by_logs, other_trained_models

__all__ = ["main"]

SHOWN_JOBS = 10
_REMOTE_OPTIONS = ("--executor", "-e", "--profile", "--workflow-profile")


@report_errors
@say_total_time
def main(argv: Sequence[str] | None = None) -> int:
    """Run a study; the exit status is 0 when every job is done."""
    words = list(sys.argv[1:] if argv is None else argv)
    split = words.index("--") if "--" in words else len(words)
    arguments = parse_arguments(_parser(), words[:split])
    options = tuple(words[split + 1 :])
    require_engine()
    plan = Plan.read(arguments.study)
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    if arguments.dry_run:
        return _dry_run(plan, arguments, options, console)
    check_datasets(plan.study, plan.folders, plan.environment)
    machine = find_machine(plan.study, plan.environment)
    check_machine(plan.study, machine, local=_is_local(options))
    check_programs(plan.study, plan.jobs.values())
    if uses_slurm(options):
        options = (*options, *plug_in_options(options, plan.environment))
    engine = _engine(plan, arguments, options, machine)
    with locked_output_folder(plan.study.output, option="output"):  # its jobs write into folders within
        return _run(plan, engine, arguments.until, console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet_stochastic_study",
        usage="%(prog)s STUDY.yaml [options] [-- options of Snakemake]",
        description="Train, predict, calibrate, evaluate and compare all models of a study on all its datasets, "
        "with each seed, and put them on one page. Snakemake runs the jobs, here or on a cluster.",
        epilog="Start it again after an interruption or a change of the file: what is done and still holds is kept. "
        "One failed job does not stop those that do not need it. On SLURM, with Snakemake's plug-in for it: "
        "nnunet_stochastic_study STUDY.yaml -- --executor slurm --jobs 20",
    )
    add = parser.add_argument
    add("study", type=Path, metavar="STUDY.yaml", help="file that says what is to be studied, and how")
    add(
        "--cores",
        type=Number(int, 1, 1_000_000),
        metavar="N",
        help="number of threads of all jobs together (default: all of this machine)",
    )
    add(
        "--gpus",
        type=Number(int, 0, 1_000_000),
        metavar="N",
        help="number of jobs on a GPU at a time; more than there are share them (default: as many as torch sees)",
    )
    add("--until", choices=KINDS, metavar="KIND", help=f"stop after the jobs of a kind, of: {', '.join(KINDS)}")
    add("--dry_run", action="store_true", help="print how many jobs there are and how long they will take, and stop")
    add("--verbose", action="store_true", help="print more: with --dry_run each job and its commands")
    add(
        "--schema",
        nargs=0,
        action=_PrintSchema,
        help="print the JSON schema of STUDY.yaml, by which editors complete and check keys, and stop",
    )
    return parser


class _PrintSchema(argparse.Action):
    """Print the JSON schema of a study's file and stop; no such file need be named."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        require_engine()
        from nnunet_stochastic.study.schema import json_schema  # needs the extra `study`

        print(json.dumps(json_schema(), indent=2))
        parser.exit()


def _is_local(options: Sequence[str]) -> bool:
    """Whether the jobs run on this machine."""
    return not any(option.split("=")[0] in _REMOTE_OPTIONS for option in options)


def _engine(plan: Plan, arguments: argparse.Namespace, options: tuple[str, ...], machine: Machine) -> Engine:
    """Share out the GPUs."""
    local = _is_local(options)
    cores = arguments.cores or ((os.cpu_count() or 1) if local else None)
    if plan.study.device != "cuda":
        return Engine(cores, (), None, options, not local)
    max_gpus = arguments.gpus
    if local and max_gpus is None:
        max_gpus = len(machine.gpus) or 1  # none is an error, but for --dry_run
    most = max(plan.study.resource(kind, "gpu") for kind in KINDS)
    if max_gpus is not None and most > max_gpus:
        raise ValueError(f"a job needs {most} GPUs (resources), and there are {max_gpus}; see --gpus")
    seen = machine.gpus if local else ()
    shared = tuple(seen[index % len(seen)] for index in range(max_gpus)) if seen else ()
    return Engine(cores, shared, max_gpus, options, not local)


def _run(plan: Plan, engine: Engine, until: str | None, console: Console) -> int:
    last = until or KINDS[-1]
    failures: dict[Key, Failure] = {}
    if plan.targets("convert") or last == "convert":
        _pass(plan, engine, ["convert"], failures, console)
        plan = Plan.read(plan.study.file)  # datasets have their names now
        check_datasets(plan.study, plan.folders, plan.environment)
    if last != "convert":
        _pass(plan, engine, [last if last not in FINAL else "evaluate"], failures, console)
    if last in FINAL:
        kinds = [kind for kind in FINAL if until in (None, kind)]
        _pass(plan, engine, kinds, failures, console)
    scope = _scope(plan.current_jobs(), until)
    failed, waiting = plan.failed(list(scope.values()))
    if failed:
        _print_failures(plan, failed, waiting, failures, console)
        return 1
    console.print(f"done: {plan.study.output}")
    if until is None:
        console.print(f"  report for any browser: {plan.study.output / 'report.html'}")
        console.print(f"  tables: {plan.study.output / 'comparison'}")
    return 0


def _pass(plan: Plan, engine: Engine, kinds: Sequence[str], failures: dict[Key, Failure], console: Console) -> None:
    """Run the jobs of some kinds and what they need, as far as this can be done now; note failures of a scheduler."""
    jobs = plan.current_jobs()
    stale = plan.records.stale(jobs)
    for key in plan.records.forget(stale):
        console.print(f"again: {' '.join(key)}: {stale[key]}", markup=False)
    for job in plan.records.adopt(jobs.values()):
        console.print(f"kept: {job.kind} {job.name}", markup=False)
    targets = [job for kind in kinds for job in plan.targets(kind)]
    needed = _closure(jobs, targets)
    left = [job for job in needed.values() if not plan.records.is_done(job)]
    if not any(job in left for job in targets):
        return
    console.print(f"{len(left)} of {len(needed)} jobs are to be done ({', '.join(kinds)} and what they need)")
    count = 0

    def report(job: Job) -> None:
        nonlocal count
        count += 1
        seconds = plan.records.seconds(job.key)
        console.print(f"{count}/{len(left)} {job.kind} {job.name}: {as_text(seconds or 0)}", markup=False)

    def report_failure(failure: Failure) -> None:
        failures[failure.key] = failure
        console.print(f"failed: {' '.join(failure.key)}: {failure.reason}", markup=False, style="red")

    engine.run(plan, kinds, left, report, report_failure)


def _scope(jobs: Mapping[Key, Job], until: str | None) -> dict[Key, Job]:
    """Jobs up to a kind, with what they need."""
    return _closure(jobs, [job for job in jobs.values() if until in (None, job.kind)])


def _closure(jobs: Mapping[Key, Job], targets: Sequence[Job]) -> dict[Key, Job]:
    """Jobs and all that they need, in the order of ``jobs``."""
    keys: set[Key] = set()
    open_keys = [job.key for job in targets]
    while open_keys:
        key = open_keys.pop()
        if key not in keys:
            keys.add(key)
            open_keys += jobs[key].needs
    return {key: job for key, job in jobs.items() if key in keys}


def _print_failures(
    plan: Plan,
    failed: Sequence[Job],
    waiting: Sequence[Job],
    failures: Mapping[Key, Failure],
    console: Console,
) -> None:
    for job in failed:
        failure = failures.get(job.key)
        log: Path | None = plan.records.log(job.key)
        # The log of a job that was not started is of another time; SLURM's tells where the job itself had none.
        if failure is not None and (failure.log is None or not (log and log.is_file())):
            log = failure.log
        where = "" if log is None else f", {log}"
        why = "" if failure is None else f": {failure.reason}"
        console.print(f"failed: {job.kind} {job.name}{where}{why}", markup=False, style="red")
        if log is not None and (lines := last_lines(log)):
            console.print(lines, markup=False)
        depending = _depending(job, waiting)
        for other in depending[:SHOWN_JOBS]:
            console.print(f"  not run because of it: {other.kind} {other.name}", markup=False)
        if len(depending) > SHOWN_JOBS:
            console.print(f"  and {len(depending) - SHOWN_JOBS} more")
    console.print(
        f"{len(failed)} jobs failed, {len(waiting)} were not run because of them, all others are done; repair what is "
        f"wrong and start the study again (Snakemake's own output: {plan.study.output / 'logs' / 'snakemake.log'})"
    )


def _depending(job: Job, waiting: Sequence[Job]) -> list[Job]:
    """Those of ``waiting``, each after those that it needs, that cannot be run without a job."""
    keys = {job.key}
    depending = []
    for other in waiting:
        if keys.intersection(other.needs):
            keys.add(other.key)
            depending.append(other)
    return depending


def _dry_run(plan: Plan, arguments: argparse.Namespace, options: tuple[str, ...], console: Console) -> int:
    """Print the plan, and behind it all that would keep the study from starting; the exit status is 1 then."""
    problems = find_problems(plan.study, plan.folders, plan.environment)
    machine = find_machine(plan.study, plan.environment)
    try:
        check_machine(plan.study, machine, local=False)  # a dry run needs no GPU
    except ValueError as error:
        problems.append(str(error))
    try:
        jobs = _scope(plan.jobs, arguments.until)
    except ValueError as error:  # such as a variable that is not set, which is among the problems
        raise ValueError("\n".join(dict.fromkeys([*problems, str(error)]))) from error
    engine = _engine(plan, arguments, options, machine)
    _print_plan(plan, jobs, engine, machine, console, verbose=arguments.verbose)
    for problem in problems:
        print(f"error: the study cannot start: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _commands_left(job: Job, records: Records) -> list[Command]:
    """The commands of a job that will be run: not those whose results are there."""

    def is_done(command: Command, was_interrupted: bool) -> bool:
        try:
            return command.is_done(was_interrupted)
        except (ValueError, OSError):  # it depends on what a command before makes
            return False

    interrupted = records.interrupted_in(job)
    return [command for index, command in enumerate(job.commands) if not is_done(command, interrupted == index)]


def _print_plan(
    plan: Plan, jobs: Mapping[Key, Job], engine: Engine, machine: Machine, console: Console, *, verbose: bool
) -> None:
    records, study = plan.records, plan.study
    stale = records.stale(jobs)
    fresh = {key: job for key, job in jobs.items() if key not in stale}
    done = {key for key, job in fresh.items() if records.is_done(job) or records.is_adoptable(job)}
    commands = {key: _commands_left(job, records) for key, job in jobs.items() if key not in done}
    # Nothing is left of a job whose commands would all be skipped, as of planning what is planned.
    done |= {key for key in commands.keys() & fresh.keys() if not commands[key] and are_complete(jobs[key].products)}
    measured = [(job, seconds / 60) for job in plan.jobs.values() if (seconds := records.seconds(job.key))]
    guesses = {("", kind): guess for dataset in study.datasets for kind, guess in dataset.minutes.items()}
    for dataset in study.datasets:
        name = plan.folders.name_of(dataset.dataset) or dataset.dataset
        guesses |= {(name, kind): guess for kind, guess in dataset.minutes.items()}
    minutes = Minutes(tuple(measured), guesses, lambda job: minutes_by_logs(job, machine.epochs))
    left = [job for key, job in jobs.items() if key not in done]

    table = Table("jobs", "all", "done", "to do", "minutes each", "minutes", title=study.name)
    for column in table.columns[1:]:
        column.justify = "right"
    for kind in KINDS:
        of_kind = [job for job in jobs.values() if job.kind == kind]
        todo = [job for job in left if job.kind == kind]
        known = [value for job in todo if (value := minutes.of(job)) is not None]
        numbers = ("unknown", "unknown") if todo and not known else (_mean(known), f"{sum(known):.1f}" if known else "")
        if of_kind:
            table.add_row(kind, str(len(of_kind)), str(len(of_kind) - len(todo)), str(len(todo)), *numbers)
    console.print(table)
    if verbose:
        for job in left:
            console.print(f"{job.kind} {job.name}", markup=False, style="bold")
            for command in commands[job.key]:
                console.print(f"  {shlex.join(command.argv)}", markup=False)
    if any(job.kind == "train" for job in left):
        for model, folds in other_trained_models(plan.jobs).items():
            console.print(f"trained, but no part of this study: {model}, {', '.join(folds)}")
    whole = estimate(
        left, minutes.of, study.resource, cores=engine.cores or os.cpu_count() or 1, gpus=engine.max_gpus or 0
    )
    if whole.unknown and not whole.minutes:
        console.print(f"{len(left)} jobs to do; how long they take is unknown (see minutes)")
        return
    text = f"{whole.minutes / 60:.1f} hours" if whole.minutes >= 90 else f"{whole.minutes:.1f} minutes"
    without = f", and what {', '.join(whole.unknown)} takes, which is unknown (see minutes)" if whole.unknown else ""
    console.print(f"{len(left)} jobs to do, about {text}{without}")


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.1f}" if values else ""
