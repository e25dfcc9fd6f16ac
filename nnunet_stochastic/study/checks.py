"""The study against what is there: nnU-Net's folders, the datasets, their splits and the trainers.

All of it is looked at before the first command runs, for a mistake must not show after a day of training.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from nnunet_stochastic import processes
from nnunet_stochastic.discovery import VARIABLE, activate
from nnunet_stochastic.io.schemas import RawDatasetJson
from nnunet_stochastic.io.text import read_json, read_json_if_complete
from nnunet_stochastic.patients import PATIENTS_FILE, read_patients
from nnunet_stochastic.study.description import Dataset, Study
from nnunet_stochastic.study.job import Job
from nnunet_stochastic.study.splits import check_splits

__all__ = [
    "Folders",
    "Machine",
    "check_datasets",
    "check_machine",
    "check_programs",
    "convert_command",
    "environment_of",
    "find_machine",
    "find_problems",
]


@dataclass(frozen=True)
class Folders:
    """nnU-Net's folders."""

    raw: Path
    preprocessed: Path
    results: Path

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Folders:
        """As the variables say; one that is not set is an error."""
        names = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
        if missing := [name for name in names if not environment.get(name)]:
            raise ValueError(f"the environment variable {missing[0]} is not set; set it as for nnU-Net")
        return cls(*(Path(environment[name]).absolute() for name in names))

    def name_of(self, dataset: str) -> str | None:
        """Full name of a dataset that is complete in nnUNet_raw, else None.

        Parameters
        ----------
        dataset
            ``DatasetNNN_Name``, or ``DatasetNNN``.
        """
        if "_" in dataset:
            return dataset if (self.raw / dataset / "dataset.json").is_file() else None
        found = sorted(file.parent.name for file in self.raw.glob(f"{dataset}_*/dataset.json"))
        if len(found) > 1:
            raise ValueError(f"{self.raw} has {' and '.join(found)}; write the name of the one in place of its number")
        return found[0] if found else None


@dataclass(frozen=True)
class Machine:
    """GPUs that torch sees, what nnU-Net says of trainers that it cannot find or import, and epochs of the others.

    The number of epochs by trainer, as far as its class says it, is that of a training that continues ``start_from``,
    where the trainer does that.
    """

    gpus: tuple[str, ...]
    trainers: Mapping[str, str]
    epochs: Mapping[str, int] = field(default_factory=dict)


def environment_of(study: Study, kind: str | None = None, own: Mapping[str, str] | None = None) -> dict[str, str]:
    """All environment variables of a job of a kind, or of the study's own commands.

    Parameters
    ----------
    study
        The study, whose variables have the last word.
    kind
        Kind of the job, if the environment is for one.
    own
        Variables of the job alone.
    """
    activate()
    kinds = ("all",) if kind is None else ("all", kind)
    environment = dict(os.environ) | dict(own or {})
    for name in kinds:
        environment |= study.variables.get(name, {})
    if study.trainers is not None:
        environment[VARIABLE] = os.pathsep.join([environment[VARIABLE], str(study.trainers)])
    return environment


def convert_command(dataset: Dataset, environment: Mapping[str, str]) -> tuple[str, ...]:
    """``convert`` as program and arguments, with the values of its variables."""
    parts = []
    for part in shlex.split(dataset.convert):
        expanded = _expanded(part, environment)
        if expanded is None:
            raise ValueError(f"{dataset.dataset}: convert has {part}, a variable that is not set; set it")
        parts.append(expanded)
    return tuple(parts)


def _expanded(text: str, environment: Mapping[str, str]) -> str | None:
    """``text`` with the values of $NAME and ${NAME}; None if one is not set."""
    try:
        return Template(text).substitute(environment)
    except (KeyError, ValueError):  # not set, or no name behind the $
        return None


def check_datasets(study: Study, folders: Folders, environment: Mapping[str, str]) -> None:
    """Raise for a dataset that is neither there nor made, or that is not as the study says."""
    if problems := find_problems(study, folders, environment):
        raise ValueError("\n".join(problems))


def find_problems(study: Study, folders: Folders, environment: Mapping[str, str]) -> list[str]:
    """What ``check_datasets`` raises for, of each dataset the first."""
    problems = []
    for dataset in study.datasets:
        try:
            _check_dataset(dataset, folders, environment)
        except ValueError as error:
            problems.append(str(error))
    return problems


def _check_dataset(dataset: Dataset, folders: Folders, environment: Mapping[str, str]) -> None:
    name = folders.name_of(dataset.dataset)
    if name is not None:
        _check_raw_dataset(dataset, folders, name)
    elif dataset.convert is None:
        raise ValueError(
            f"{dataset.dataset} is not in {folders.raw}; put it there, or write as convert the command that makes it"
        )
    else:
        convert_command(dataset, environment)


def _check_raw_dataset(dataset: Dataset, folders: Folders, name: str) -> None:
    raw = folders.raw / name
    description = read_json(raw / "dataset.json", RawDatasetJson)
    raters = bool(description.get("num_raters"))
    if raters != dataset.raters:
        has = f"num_raters {description['num_raters']}" if raters else "no num_raters"
        raise ValueError(f"{name}: dataset.json has {has}; write raters: {str(raters).lower()} for this dataset")
    plans = folders.preprocessed / name / f"{dataset.plans}.json"
    configurations = (read_json_if_complete(plans, dict) or {}).get("configurations")
    if isinstance(configurations, dict) and dataset.configuration not in configurations:
        raise ValueError(
            f"{plans} has no configuration {dataset.configuration}, only {', '.join(configurations)}; correct the "
            "configuration"
        )
    endings = ["Ts", *(f"OOD_{shift}" for shift in dataset.ood)]
    kinds = ("images", "labels", "raters") if raters else ("images", "labels")
    if missing := [folder for ending in endings for kind in kinds if not (folder := raw / f"{kind}{ending}").is_dir()]:
        raise ValueError(f"{name}: there is no folder {missing[0]}, which the study predicts and evaluates; make it")
    if (patients := raw / PATIENTS_FILE).is_file():
        ending = description["file_ending"]
        labels = [path for part in endings for path in (raw / f"labels{part}").glob(f"[!.]*{ending}")]
        read_patients(patients, [path.name.removesuffix(ending) for path in labels])
    if dataset.seeds > 1:
        check_splits(folders.preprocessed / name / "splits_final.json", dataset.seeds)


_LOOK = """
import inspect, json, re, sys
from nnunet_stochastic.training.trainer_class import find_trainer_class
sys.stdout, out = sys.stderr, sys.stdout
problems, epochs = {}, {}

def count(trainer):
    if hasattr(trainer, "training_epochs"):
        return trainer.training_epochs
    if hasattr(trainer, "fine_tuning_epochs") and continues:
        return trainer.fine_tuning_epochs + getattr(trainer, "num_snapshots", 0)
    for base in trainer.__mro__:
        if "__init__" in vars(base):
            found = re.findall(r"self\\.num_epochs = ([0-9]+)", inspect.getsource(base.__init__))
            if found:
                return int(found[-1])

continues = sys.argv[2] == "continue"
for name in sys.argv[3:]:
    try:
        number = count(find_trainer_class(name))
        if isinstance(number, int):
            epochs[name] = number
    except Exception as error:
        problems[name] = f"{type(error).__name__}: {error}"
gpus = 0
if sys.argv[1] == "cuda":
    import torch
    gpus = torch.cuda.device_count()
print(json.dumps({"gpus": gpus, "trainers": problems, "epochs": epochs}), file=out, flush=True)
"""


def find_machine(study: Study, environment: Mapping[str, str]) -> Machine:
    """Ask torch and nnU-Net, in a process of their own: they take seconds and memory, which this one needs not."""
    names = sorted(set(_trainers(study)))
    start = "continue" if any(dataset.start_from is not None for dataset in study.datasets) else "scratch"
    done = subprocess.run(
        [sys.executable, "-P", "-c", _LOOK, study.device, start, *names],
        env=dict(environment),
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise ChildProcessError(f"nnU-Net cannot be imported:\n{done.stderr.strip()}")
    found = json.loads(done.stdout.splitlines()[-1])
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(index) for index in range(found["gpus"])]
    return Machine(tuple(gpus[: found["gpus"]]), found["trainers"], found["epochs"])


def check_machine(study: Study, machine: Machine, *, local: bool) -> None:
    """Raise for trainers that nnU-Net does not find, and for a GPU that is asked for here where there is none."""
    for name, problem in machine.trainers.items():
        raise ValueError(
            f"nnU-Net finds no trainer {name} ({problem}); correct aleatoric, trainer or start_from, or name with "
            "trainers the folder of its file"
        )
    if local and study.device == "cuda" and not machine.gpus:
        raise ValueError("torch sees no GPU on this machine; write device: cpu, or run the jobs elsewhere (--executor)")


def check_programs(study: Study, jobs: Iterable[Job]) -> None:
    """Raise ``FileNotFoundError`` where a job has a command that is not there: it would fail after those before it."""
    used = {(job.kind, command.argv[0]): job for job in jobs for command in job.commands}
    for (kind, program), job in used.items():
        try:
            processes.find_program(program, environment_of(study, kind, job.environment))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{kind} {job.name}: {error}") from error


def _trainers(study: Study) -> Iterable[str]:
    for dataset in study.datasets:
        yield from (dataset.trainer_of(model, method) for model, method in dataset.models)
        if dataset.start_from is not None:
            yield dataset.start_from
