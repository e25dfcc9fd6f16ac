"""Which model made a folder of predictions, from what the predict command wrote beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_stochastic.epistemic import (
    EPISTEMIC_METHODS,
    EPISTEMIC_TITLES,
    NO_METHOD,
    RESULTS_OF_FOLDS,
    UNKNOWN_FOLDS,
    are_of_one_name,
    name_of_result,
)
from nnunet_stochastic.io.result_schemas import PredictionRecord
from nnunet_stochastic.io.schemas import DescribedPlans
from nnunet_stochastic.io.text import read_json

__all__ = [
    "STAND_IN_FOOTNOTE",
    "STAND_IN_MARK",
    "aleatoric_title",
    "check_same_model",
    "describe_model",
    "epistemic_title",
    "model_title",
    "named_as_said",
    "recorded_cases",
    "recorded_images",
    "stand_in_mark",
    "without_epistemic_suffix",
]

# What tables, figures and pictures put behind the EU of one member with aleatoric samples, and say of it once.
STAND_IN_MARK = "†"
STAND_IN_FOOTNOTE = (
    f"{STAND_IN_MARK} one member: its aleatoric samples stand in for members; not to be read as epistemic uncertainty"
)

# Aleatoric models that are called otherwise than their trainers.
_ALEATORIC_TITLES = {"ProbUNet": "Prob. U-Net"}

# Words at the end of a trainer's name that say how members are made, and not what the aleatoric model is.
_EPISTEMIC_SUFFIXES = sorted({method.trainer_suffix for method in EPISTEMIC_METHODS.values()} - {""})


def describe_model(prediction_folder: Path) -> dict[str, Any]:
    """Name, data set, trainer, configuration, plans, spacing, folds, aleatoric and epistemic method, members and seed.

    ``epistemic_is_stand_in``: the epistemic map is of one member, and shows how much its aleatoric samples disagree.
    ``training_data_of_folds``: whether several folds were trained on the ``same`` or on ``different`` cases, or
    ``unknown``; the epistemic method ``ensemble`` is called accordingly.
    What is unknown is ``None``: predictions of nnU-Net's own command have no uncertainty.json.
    """
    settings = _record(prediction_folder).get("settings", {})
    plans_file = prediction_folder / "plans.json"
    plans = read_json(plans_file, DescribedPlans, remedy="predict again") if plans_file.is_file() else {}
    trainer = settings.get("trainer")
    aleatoric = epistemic = stands_in = None
    if trainer is not None:
        aleatoric = "TTA" if settings.get("aleatoric_source") == "tta" else _aleatoric(trainer)
        source = settings.get("epistemic_source", NO_METHOD.name)
        stands_in = source == "aleatoric_samples"
        epistemic = NO_METHOD.name if stands_in else name_of_result(source, settings.get("training_data_of_folds"))
    folds = sorted(name.removeprefix("fold_") for name in settings.get("checkpoints", {}))
    return {
        "name": None if trainer is None else f"{aleatoric} / {epistemic}",
        "dataset": plans.get("dataset_name"),
        "trainer": trainer,
        "configuration": settings.get("configuration"),
        "plans": plans.get("plans_name"),
        "spacing_mm": _planned_spacing(plans.get("configurations", {}), settings.get("configuration")),
        "folds": [int(fold) if fold.isdigit() else fold for fold in folds] or None,
        "aleatoric": aleatoric,
        "epistemic": epistemic,
        "epistemic_is_stand_in": stands_in,
        "training_data_of_folds": settings.get("training_data_of_folds"),
        "members": settings.get("members"),
        "seed": settings.get("seed"),
    }


def recorded_images(prediction_folder: Path) -> dict[str, Path]:
    """File with the first channel of each case's image, there or not, as the predict command recorded it.

    Empty where it did not: predictions of nnU-Net's own command have no uncertainty.json.
    """
    entries = recorded_cases(prediction_folder)
    if lacking := [name for name, entry in entries.items() if not entry.get("input_files")]:
        raise ValueError(
            f"{prediction_folder / 'uncertainty.json'}: cases.{lacking[0]}.input_files: is missing; predict again"
        )
    return {name: Path(entry["input_files"][0]) for name, entry in entries.items()}


def recorded_cases(prediction_folder: Path) -> dict[str, dict[str, Any]]:
    """What uncertainty.json says of each case, checked; nothing where there is no such file."""
    return _record(prediction_folder).get("cases", {})


def unfinished_cases(prediction_folder: Path) -> set[str]:
    """Cases whose files, if there are any, are not those of the prediction that the folder's record tells of."""
    return set(_record(prediction_folder).get("other_cases", ()))


def stand_in_mark(model: Mapping[str, Any]) -> str:
    """What stands behind a number, name or heading of EU: nothing where it is epistemic, or of unknown origin."""
    return f" {STAND_IN_MARK}" if model.get("epistemic_is_stand_in") else ""


def aleatoric_title(name: str) -> str:
    """What everything that is read calls an aleatoric model: tables, figures, pages and the terminal."""
    return _ALEATORIC_TITLES.get(name, name)


def epistemic_title(name: str) -> str:
    """What everything that is read calls an epistemic method."""
    return EPISTEMIC_TITLES.get(name, name)


def model_title(aleatoric: str, epistemic: str) -> str:
    """What everything that is read calls a model: ``Prob. U-Net / SWAG-D`` of ``ProbUNet`` and ``swag_diag``."""
    return f"{aleatoric_title(aleatoric)} / {epistemic_title(epistemic)}"


def named_as_said(recorded: Mapping[str, Any], said: Mapping[str, str], place: Path) -> dict[str, Any]:
    """What a record says of a model, and a user of it otherwise; what the folds are is what the record says.

    Parameters
    ----------
    recorded
        Result of ``describe_model``, or some of it.
    said
        Dataset, seed, aleatoric or epistemic method, or some of these.
    place
        Where the record is, for the message.

    Raises
    ------
    ValueError
        If the user calls a deep ensemble what the record has as the folds of a cross-validation, or the other way.
    """
    known, called = recorded.get("epistemic"), said.get("epistemic")
    if known in RESULTS_OF_FOLDS and called in RESULTS_OF_FOLDS:
        if not are_of_one_name(known, called):
            raise ValueError(f"{place} has the epistemic method {known}, by the data of its folds, and not {called}")
        if called == UNKNOWN_FOLDS:
            return {**recorded, **said, "epistemic": known}
    return {**recorded, **said}


def without_epistemic_suffix(trainer: str) -> str:
    """The trainer of the same aleatoric model without epistemic method."""
    return re.sub(f"({'|'.join(_EPISTEMIC_SUFFIXES)})+$", "", trainer)


def check_same_model(model: Mapping[str, Any], place: Path, other: Mapping[str, Any], other_place: Path) -> None:
    """Require that two predictions come from the same kind of model, as far as it is known.

    Parameters
    ----------
    model, other
        Results of ``describe_model``.
    place, other_place
        Where they were found, for the message.
    """
    compared = ("dataset", "trainer", "configuration", "plans", "spacing_mm", "aleatoric", "epistemic")
    different = [
        f"{key} {model[key]} and {other[key]}"
        for key in compared
        if None not in (model.get(key), other.get(key))
        and model[key] != other[key]
        and not (key == "epistemic" and are_of_one_name(model[key], other[key]))
    ]
    if different:
        raise ValueError(
            f"{place} and {other_place} come from different models: {', '.join(different)}; predict both with the same"
        )


def _planned_spacing(configurations: Mapping[str, Mapping[str, Any]], name: str | None) -> list[float] | None:
    """Spacing that images are resampled to, in mm; None where the plans do not say it."""
    looked_at: set[str | None] = {None}
    while name not in looked_at and (entry := configurations.get(name or "")) is not None:
        if entry.get("spacing") is not None:
            return list(entry["spacing"])
        looked_at.add(name)
        name = entry.get("inherits_from")
    return None


def _aleatoric(trainer: str) -> str:
    """Short name of a trainer's aleatoric model: MoBVolume of nnUNetTrainerMoBVolumeSWAG, Softmax of nnUNetTrainer."""
    return without_epistemic_suffix(trainer.removeprefix("nnUNetTrainer")) or "Softmax"


def _record(prediction_folder: Path) -> dict[str, Any]:
    path = prediction_folder / "uncertainty.json"
    return read_json(path, PredictionRecord, remedy="predict again") if path.is_file() else {}
