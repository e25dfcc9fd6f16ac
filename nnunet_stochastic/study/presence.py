"""What is there already: files, nnU-Net's plans and its preprocessed cases."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nnunet_stochastic.io.schemas import PlannedConfigurations, RawDatasetJson
from nnunet_stochastic.io.text import read_json, read_json_if_complete
from nnunet_stochastic.io.written import is_whole

__all__ = ["are_complete", "discard_broken_checkpoints", "has_plans", "is_preprocessed"]


def are_complete(paths: Iterable[Path]) -> bool:
    """Whether folders are there, and files whole: a checkpoint is a zip file, for one, and must have its end."""
    return all(path.is_dir() or is_whole(path) for path in paths)


def discard_broken_checkpoints(folder: Path) -> list[Path]:
    """Delete the checkpoints of a training that was interrupted while it wrote them.

    nnU-Net's own trainers write them in place. nnUNetv2_train --c then goes on from another one.
    """
    broken = [path for path in sorted(folder.glob("checkpoint_*.pth")) if not is_whole(path)]
    for path in broken:
        path.unlink()
    return broken


def has_plans(preprocessed: Path, plans: str) -> bool:
    """Whether nnU-Net has planned a dataset, given its folder in nnUNet_preprocessed."""
    return (preprocessed / "dataset.json").is_file() and bool(_read(preprocessed / f"{plans}.json"))


def is_preprocessed(raw: Path, preprocessed: Path, plans: str, configuration: str) -> bool:
    """Whether nnU-Net has preprocessed all training cases.

    Parameters
    ----------
    raw, preprocessed
        The dataset's folders.
    plans, configuration
        Names in nnU-Net.

    Raises
    ------
    ValueError
        The plans have no such configuration.
    """
    configurations = read_json(preprocessed / f"{plans}.json", PlannedConfigurations)["configurations"]
    if configuration not in configurations:
        raise ValueError(
            f"{preprocessed / f'{plans}.json'} has no configuration {configuration}, only {', '.join(configurations)}; "
            "correct the configuration"
        )
    name = configuration
    while "data_identifier" not in configurations[name]:  # a configuration may inherit from another one
        if "inherits_from" not in configurations[name]:
            file = preprocessed / f"{plans}.json"
            raise ValueError(f"{file}: configurations.{name}.data_identifier: is missing; plan again")
        name = configurations[name]["inherits_from"]
    folder = preprocessed / configurations[name]["data_identifier"]
    description = read_json(raw / "dataset.json", RawDatasetJson)
    ending = description["file_ending"]
    images = (file.name for file in (raw / "imagesTr").glob(f"*{ending}"))
    # As nnU-Net names its cases; itself it takes seconds to import.
    cases = description.get("dataset") or {name[: -len(f"_0000{ending}")] for name in images}
    # The .pkl is what nnU-Net writes last of a case.
    return bool(cases) and all((folder / f"{case}.pkl").is_file() for case in cases)


def _read(file: Path) -> dict[str, Any]:
    """A JSON file; empty where it is not there, or was cut short by an interruption."""
    return read_json_if_complete(file, dict) or {}
