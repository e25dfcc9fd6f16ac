"""Splits that make nnU-Net's folds an ensemble: fold e of M is member e, trained from its own random initialisation.

Written is splits_final.json = [s, s, …, s], M times one split s = {"train": …, "val": …}. nnU-Net trains fold e < M on
entry e, also for M > 5, and seeds nothing, so folds with the same cases differ by initialisation and batches alone.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_stochastic.datasets.folders import dataset_folders
from nnunet_stochastic.datasets.rater_cases import find_training_images
from nnunet_stochastic.io.output_locks import locked_output_file
from nnunet_stochastic.io.schemas import RawDatasetJson, Splits
from nnunet_stochastic.io.staging import staged_file
from nnunet_stochastic.io.text import read_json, write_text

__all__ = ["EnsembleSplits", "default_splits", "write_ensemble_splits"]

Split = dict[str, list[str]]


@dataclass(frozen=True)
class EnsembleSplits:
    """What was done.

    Attributes
    ----------
    file
        File splits_final.json.
    split
        Cases that every member trains and validates on.
    written
        Whether the file was written; False if it had these splits already.
    backup
        Copy of the file that was replaced, or None.
    """

    file: Path
    split: Split
    written: bool
    backup: Path | None = None


def write_ensemble_splits(
    dataset: str, *, num_members: int = 5, fold: int = 0, overwrite: bool = False
) -> EnsembleSplits:
    """Give every member the same split.

    Parameters
    ----------
    dataset
        Name or number of the dataset in nnU-Net.
    num_members
        Number M of members, at least 2.
    fold
        Number of the split they get: of splits_final.json, or without one of nnU-Net's default for five folds.
    overwrite
        Whether to replace a splits_final.json with other splits; a copy of it is kept.

    Raises
    ------
    ValueError
        There are other splits and not ``overwrite``, there is no such fold, or the file is no nnU-Net split file.
    """
    if num_members < 2:
        raise ValueError(f"an ensemble has at least 2 members, got --num_members {num_members}")
    raw, preprocessed = dataset_folders(dataset)
    if not preprocessed.is_dir():
        raise FileNotFoundError(f"there is no folder {preprocessed}; plan and preprocess the dataset first")
    file = preprocessed / "splits_final.json"
    # From the look at what is there: of two at once the second would keep no copy of the first's.
    with locked_output_file(file, option="-d"):
        existing = _read_splits(file) if file.is_file() else None
        splits = existing or default_splits(raw)
        if not 0 <= fold < len(splits):
            source = file if existing else "nnU-Net's default"
            raise ValueError(f"{source} has the folds 0 to {len(splits) - 1}, got -fold {fold}")
        split = splits[fold]
        ensemble = [split] * num_members
        if existing == ensemble:
            return EnsembleSplits(file, split, written=False)
        if existing and not overwrite:
            raise ValueError(
                f"{file} exists, with {len(existing)} folds; models trained on them do not belong to the ensemble; "
                "--overwrite replaces it and keeps a copy"
            )
        backup = _back_up(file) if existing else None
        write_text(file, json.dumps(ensemble, indent=4, sort_keys=True))
        return EnsembleSplits(file, split, written=True, backup=backup)


def default_splits(raw: Path) -> list[Split]:
    """The five folds that nnU-Net would make."""
    description = raw / "dataset.json"
    if not description.is_file():
        raise FileNotFoundError(f"{description} is missing, from which the cases of the dataset are listed")
    cases = sorted(find_training_images(raw, read_json(description, RawDatasetJson)))
    if len(cases) < 5:
        raise ValueError(f"{raw} has {len(cases)} training cases, nnU-Net's five folds need at least 5")
    splits = generate_crossval_split(cases, seed=12345, n_splits=5)  # as nnUNetTrainer.do_split calls it
    return [{part: list(map(str, names)) for part, names in split.items()} for split in splits]


def _read_splits(file: Path) -> list[Split]:
    remedy = 'remove or restore it, a list of {"train": …, "val": …}'
    if backups := [backup for backup in _backups(file) if backup.exists()]:
        remedy += f"; {backups[-1]} is a copy of what was there before the ensemble"
    return read_json(file, Splits, remedy=remedy)


def _back_up(file: Path) -> Path:
    """Copy a file, unless a command that was interrupted afterwards has copied it already."""
    for backup in _backups(file):
        if backup.exists() and backup.read_bytes() == file.read_bytes():
            break
        if not backup.exists():
            with staged_file(backup) as staged:
                shutil.copy2(file, staged)
            break
    return backup


def _backups(file: Path) -> list[Path]:
    """Paths of copies, and one that is free, the last."""
    paths = [file.with_name("splits_before_ensemble_0.json")]
    while paths[-1].exists():
        paths.append(file.with_name(f"splits_before_ensemble_{len(paths)}.json"))
    return paths
