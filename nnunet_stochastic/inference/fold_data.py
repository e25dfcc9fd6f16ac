"""Whether trained folds saw the same cases: a deep ensemble, or the folds of a cross-validation.

    same        every fold was trained on the same cases: members differ by initialisation and batches alone
    different   folds were trained on other cases: members differ by their data, too
    unknown     what is there does not tell

nnU-Net keeps no list of the cases that a fold was trained on. ``splits_final.json`` beside the preprocessed data has
one, as long as it has not been replaced since; ``fold_X/validation/summary.json``, which nnU-Net's closing validation
leaves and exported models have, tells the fold's validation cases, and with it whether the splits are those of the
training.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nnunetv2.paths import nnUNet_preprocessed

from nnunet_stochastic.io.schemas import Splits, ValidationSummary
from nnunet_stochastic.io.text import read_json, read_json_if_complete

__all__ = ["FoldData", "data_of_folds", "splits_of_training", "validated_cases"]


@dataclass(frozen=True)
class FoldData:
    """What is known of the training cases of several folds.

    Parameters
    ----------
    data
        ``same``, ``different`` or ``unknown``.
    reason
        Where it is known from, or why it is not.
    """

    data: Literal["same", "different", "unknown"]
    reason: str


def data_of_folds(
    dataset_name: str, fold_folders: Sequence[Path], *, file_ending: str, preprocessed: Path | None = None
) -> FoldData:
    """Compare the training cases of folds.

    Parameters
    ----------
    dataset_name
        Name of the dataset, as its folder is called.
    fold_folders
        Folders ``fold_X`` of a model folder, at least 2.
    file_ending
        Ending of the dataset's files.
    preprocessed
        Folder nnUNet_preprocessed; ``None``: that of the environment, if it is set.
    """
    splits, reason = splits_of_training(dataset_name, fold_folders, file_ending=file_ending, preprocessed=preprocessed)
    if splits is not None:
        trained_on = {_training_cases(splits, folder) for folder in fold_folders}
        return FoldData("same" if len(trained_on) == 1 else "different", reason)
    validated = (validated_cases(folder, file_ending) for folder in fold_folders)
    if len({cases for cases in validated if cases is not None}) > 1:
        return FoldData("different", "validation/summary.json of the folds: they were validated on different cases")
    return FoldData("unknown", reason)


def splits_of_training(
    dataset_name: str, fold_folders: Sequence[Path], *, file_ending: str, preprocessed: Path | None = None
) -> tuple[list[dict[str, list[str]]] | None, str]:
    """The splits that folds were trained by, and where they are from, or ``None`` and why they are not known.

    Parameters
    ----------
    dataset_name, fold_folders, file_ending, preprocessed
        As for ``data_of_folds``; there may be one folder.
    """
    if preprocessed is None and nnUNet_preprocessed.is_set():
        preprocessed = Path(str(nnUNet_preprocessed))
    if preprocessed is None:
        return None, "the environment variable nnUNet_preprocessed is not set"
    file = preprocessed / dataset_name / "splits_final.json"
    splits, reason = _read_splits(file)
    validated = {folder: validated_cases(folder, file_ending) for folder in fold_folders}
    if splits is not None and (other := _trained_on_others(splits, validated)) is not None:
        return None, f"{file} is not that of the training: {other.name} was validated on other cases"
    return splits, reason


def _read_splits(file: Path) -> tuple[list[dict[str, list[str]]] | None, str]:
    """The splits and where they are from, or ``None`` and why not: a name is no reason to predict nothing."""
    if not file.is_file():
        return None, f"there is no {file}"
    try:
        return read_json(file, Splits), str(file)
    except (ValueError, OSError) as error:
        return None, str(error)


def validated_cases(fold_folder: Path, file_ending: str) -> frozenset[str] | None:
    """The cases that nnU-Net's closing validation predicted; ``None`` where that is not known."""
    summary = read_json_if_complete(fold_folder / "validation" / "summary.json", ValidationSummary)
    if summary is None:
        return None
    names = (entry["prediction_file"].replace("\\", "/").rpartition("/")[2] for entry in summary["metric_per_case"])
    return frozenset(name.removesuffix(file_ending) for name in names) or None


def _number(fold_folder: Path) -> int | None:
    """Number of a fold; ``None``: fold ``all``, whose training cases are all."""
    number = fold_folder.name.removeprefix("fold_")
    return int(number) if number.isdigit() else None


def _trained_on_others(
    splits: Sequence[dict[str, list[str]]], validated: dict[Path, frozenset[str] | None]
) -> Path | None:
    """A fold that was validated on other cases than the splits say."""
    for folder, cases in validated.items():
        number = _number(folder)
        if cases is None or number is None or number >= len(splits):
            continue
        if cases != frozenset(splits[number]["val"]):
            return folder
    return None


def _training_cases(splits: Sequence[dict[str, list[str]]], fold_folder: Path) -> Hashable:
    """The cases that nnU-Net trains a fold on, or what is equal for equal cases."""
    number = _number(fold_folder)
    if number is None:
        return "all"
    if number >= len(splits):
        return number  # nnU-Net draws a split of its own for each such fold
    return frozenset(splits[number]["train"])
