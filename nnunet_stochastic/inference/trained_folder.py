"""What the files of a model folder tell of a training: data, trainer, folds, epistemic methods, hashes.

Nothing is loaded but the checkpoints' plain values: no network is built, so a folder whose trainer is not installed can
be described, too. What no file says is ``None``, with the reason where there are several.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_raw

from nnunet_stochastic.checkpoints import read_checkpoint
from nnunet_stochastic.epistemic import EPISTEMIC_METHODS, EpistemicMethod
from nnunet_stochastic.inference.fold_data import FoldData, data_of_folds, splits_of_training, validated_cases
from nnunet_stochastic.inference.model import read_header
from nnunet_stochastic.io.hashing import file_sha256
from nnunet_stochastic.io.schemas import PlansJson, ValidationSummary, read_dataset_json
from nnunet_stochastic.io.text import read_json, read_json_if_complete
from nnunet_stochastic.patients import PATIENTS_FILE, read_patients
from nnunet_stochastic.posteriors import posterior_class

__all__ = ["FoldFacts", "MethodFacts", "TrainedFolder", "read_trained_folder"]


@dataclass(frozen=True)
class FoldFacts:
    """A trained fold.

    Attributes
    ----------
    name
        fold_0, fold_all.
    num_training, num_validation
        Cases that it was trained and validated on.
    num_epochs
        Epochs that were trained.
    recipe
        ``fine_tuning`` or ``scratch``; None for trainers of others.
    starting_checkpoint
        Checkpoint that the training began from, below its dataset's folder.
    seed
        Seed of the training; None where it cannot be repeated.
    validation_dice
        Foreground Dice of nnU-Net's closing validation, mean over cases and classes, in [0, 1].
    torch_version
        Version that it was trained with.
    sha256
        Hash of the checkpoint, and of the files of epistemic methods, by name.
    """

    name: str
    num_training: int | None
    num_validation: int | None
    num_epochs: int | None
    recipe: str | None
    starting_checkpoint: str | None
    seed: int | None
    validation_dice: float | None
    torch_version: str | None
    sha256: Mapping[str, str]


@dataclass(frozen=True)
class MethodFacts:
    """An epistemic method that the folder has: its name, title, members in words, and what says that it has it."""

    name: str
    title: str
    members: str
    known_from: str


@dataclass(frozen=True)
class TrainedFolder:
    """A model folder.

    Attributes
    ----------
    dataset_json
        Content of dataset.json, labels as numbers.
    patch_size, spacing_mm
        Of the configuration, in the order of its axes; mm.
    num_cases
        Cases in the splits of the training.
    num_patients
        Patients of these cases.
    patients_from
        Table that says so, or why it is not known.
    data_of_folds
        What is known of the training cases of several folds; None for one fold.
    """

    folder: Path
    dataset: str
    dataset_json: Mapping[str, Any]
    trainer: str
    plans: str
    configuration: str
    patch_size: Sequence[int] | None
    spacing_mm: Sequence[float] | None
    num_cases: int | None
    num_patients: int | None
    patients_from: str
    data_of_folds: FoldData | None
    folds: Sequence[FoldFacts]
    methods: Sequence[MethodFacts]


def read_trained_folder(folder: Path, *, checkpoint_name: str = "checkpoint_final.pth") -> TrainedFolder:
    """Read a model folder with all of its folds that have a checkpoint.

    Parameters
    ----------
    folder
        Folder TRAINER__PLANS__CONFIGURATION, as nnUNetv2_train leaves it.
    checkpoint_name
        Name of the checkpoint in each fold's folder.

    Raises
    ------
    FileNotFoundError
        If it is no such folder.
    ValueError
        If a file is damaged, a checkpoint holds more than plain values, or the folds are of several trainers.
    """
    for name in ("plans.json", "dataset.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"-m {folder} is no model folder of nnU-Net: {name} is missing")
    paths = sorted(folder.glob(f"fold_*/{checkpoint_name}"))
    if not paths:
        raise FileNotFoundError(f"-m {folder}: no fold has {checkpoint_name}: check -chk, or train first")
    plans = read_json(folder / "plans.json", PlansJson)
    dataset_json = read_dataset_json(folder / "dataset.json")
    headers = {path: read_header(path, trust=False)[:2] for path in paths}
    trainer, configuration = headers[paths[0]]
    if others := [path for path, header in headers.items() if header != (trainer, configuration)]:
        raise ValueError(
            f"{others[0]} is of {' and '.join(headers[others[0]])}, {paths[0]} of {trainer} and {configuration}: keep "
            "the folds of one trainer and configuration in a folder"
        )
    ending, fold_folders = dataset_json["file_ending"], [path.parent for path in paths]
    splits, _ = splits_of_training(plans["dataset_name"], fold_folders, file_ending=ending)
    methods = [facts for method in EPISTEMIC_METHODS.values() if (facts := _method(method, trainer, fold_folders))]
    cases = {case for split in splits or () for part in ("train", "val") for case in split[part]}
    num_patients, patients_from = _patients(plans["dataset_name"], cases)
    planned = _planned(plans["configurations"], configuration)
    return TrainedFolder(
        folder=folder,
        dataset=plans["dataset_name"],
        dataset_json=dataset_json,
        trainer=trainer,
        plans=plans["plans_name"],
        configuration=configuration,
        patch_size=planned.get("patch_size"),
        spacing_mm=planned.get("spacing"),
        num_cases=len(cases) or None,
        num_patients=num_patients,
        patients_from=patients_from,
        data_of_folds=(
            data_of_folds(plans["dataset_name"], fold_folders, file_ending=ending) if len(paths) > 1 else None
        ),
        folds=[_fold(path, splits, ending, [method.name for method in methods]) for path in paths],
        methods=methods,
    )


def _fold(
    path: Path, splits: Sequence[Mapping[str, Sequence[str]]] | None, ending: str, methods: Sequence[str]
) -> FoldFacts:
    checkpoint, folder = read_checkpoint(path), path.parent
    arguments = checkpoint["init_args"]
    number = folder.name.removeprefix("fold_")
    training, validation = None, validated_cases(folder, ending)
    num_validation = None if validation is None else len(validation)
    if splits is not None and number.isdecimal() and int(number) < len(splits):
        training, num_validation = len(splits[int(number)]["train"]), len(splits[int(number)]["val"])
    elif splits is not None and number == "all":  # nnU-Net trains it on all cases, and validates it on the same
        training = len({case for split in splits for part in split.values() for case in part})
    noted = read_json_if_complete(folder / "debug.json", dict) or {}
    files = dict.fromkeys(file for name in methods for file in posterior_class(EPISTEMIC_METHODS[name]).files)
    return FoldFacts(
        name=folder.name,
        num_training=training,
        num_validation=num_validation,
        num_epochs=_of_type(checkpoint.get("current_epoch"), int),
        recipe=_of_type(arguments.get("stochastic_recipe"), str),
        starting_checkpoint=_below_dataset(_of_type(arguments.get("stochastic_starting_checkpoint"), str)),
        seed=_of_type(arguments.get("stochastic_seed"), int),
        validation_dice=_validation_dice(folder),
        torch_version=_of_type(noted.get("torch_version"), str),
        sha256={file.name: file_sha256(file) for file in (path, *(folder / name for name in files))},
    )


def _method(method: EpistemicMethod, trainer: str, folds: Sequence[Path]) -> MethodFacts | None:
    """What is said of a method; None where the folder does not have it."""
    files = posterior_class(method).files
    if method.least_folds > 1:
        known_from = f"{len(folds)} folds" if len(folds) >= method.least_folds else None
    elif files:
        known_from = ", ".join(files) if all((fold / file).is_file() for fold in folds for file in files) else None
    elif method.trainer_suffix:
        known_from = "the name of the trainer" if method.trainer_suffix in trainer else None
    else:
        known_from = "every fold"
    return None if known_from is None else MethodFacts(method.name, method.title, method.members, known_from)


def _patients(dataset: str, cases: set[str]) -> tuple[int | None, str]:
    """Number of patients of the cases, and where it is known from or why it is not."""
    if not cases:
        return None, "no splits_final.json of this training was found"
    if not nnUNet_raw.is_set():
        return None, "the environment variable nnUNet_raw is not set"
    table = Path(str(nnUNet_raw)) / dataset / PATIENTS_FILE
    if not table.is_file():
        return None, f"there is no {PATIENTS_FILE} beside the dataset"
    return len(set(read_patients(table, cases).values())), PATIENTS_FILE


def _planned(configurations: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    """A configuration with what it inherits, which ``PlansJson`` has found to end; nothing where there is none."""
    entry = configurations.get(name, {})
    parent = entry.get("inherits_from")
    return {**(_planned(configurations, parent) if parent is not None else {}), **entry}


def _validation_dice(folder: Path) -> float | None:
    summary = read_json_if_complete(folder / "validation" / "summary.json", ValidationSummary) or {}
    found = summary.get("foreground_mean")
    dice = _of_type(found.get("Dice"), float) if isinstance(found, dict) else None
    return None if dice is None or math.isnan(dice) else dice


def _below_dataset(checkpoint: str | None) -> str | None:
    """The end of a path: model folder, fold and file; what stands before is of the machine of the training."""
    return None if checkpoint is None else "/".join(checkpoint.replace("\\", "/").split("/")[-3:])


def _of_type(value: Any, kind: type) -> Any:
    return value if isinstance(value, kind) and not isinstance(value, bool) else None
