"""Write a planned conversion: in processes, each case complete or absent, continued where an earlier run stopped.

    nnUNet_raw/DatasetNNN_Name/
        imagesTr/case_0000.nii.gz       one file per channel
        labelsTr/case.nii.gz            vote of the raters; written last
        ratersTr/case_rater0.nii.gz     each rater, where there are several
        imagesTs, labelsTs, ratersTs    the test part; imagesOOD_NAME and so on for shifted data
        conversion.json                 settings, written first: other settings are not continued; what was skipped
        splits_final.json               the training and the validation cases, as fold 0
        patients.csv                    case,patient of all parts, for intervals over patients
        dataset.json                    nnU-Net's, written last: the dataset is complete

nnU-Net reads splits_final.json from nnUNet_preprocessed/DatasetNNN_Name, so a copy goes there where that is known.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw

from nnunet_stochastic.datasets.conversion.common import (
    TRAIN,
    VALIDATION,
    Conversion,
    Skipped,
    convert_source,
    label_file,
    part_suffix,
    reasons,
)
from nnunet_stochastic.evaluation.parallel import map_in_processes
from nnunet_stochastic.io.hashing import file_states
from nnunet_stochastic.io.images import check_image_file
from nnunet_stochastic.io.output_locks import is_folder_lock
from nnunet_stochastic.io.schemas import ConversionFile
from nnunet_stochastic.io.staging import holds_anything, remove_leftovers
from nnunet_stochastic.io.text import as_read_back, read_json, read_json_if_complete, write_json
from nnunet_stochastic.io.written import has_right_checksums, is_whole
from nnunet_stochastic.patients import PATIENTS_FILE, write_patients

__all__ = ["Converted", "PlannedFolder", "dataset_name", "planned_path"]

_SETTINGS, _SPLITS, _DESCRIPTION = "conversion.json", "splits_final.json", "dataset.json"


@dataclass(frozen=True)
class Converted:
    """What a run did.

    Attributes
    ----------
    counts
        Number of complete cases of each part.
    skipped
        Sources and cases that were left out.
    splits
        File splits_final.json that nnU-Net will read, or None if nnUNet_preprocessed is not set.
    splits_kept
        Whether that file was there with other splits and stays as it is.
    """

    counts: dict[str, int]
    skipped: list[Skipped]
    splits: Path | None
    splits_kept: bool


def dataset_name(number: int, name: str) -> str:
    """nnU-Net's name of a dataset."""
    if not 1 <= number <= 999:
        raise ValueError(f"nnU-Net numbers datasets from 1 to 999, got -d {number}")
    return f"Dataset{number:03d}_{name}"


def planned_path(conversion: Conversion) -> Path:
    """Folder nnUNet_raw/DatasetNNN_Name of a conversion; ``ValueError`` where nnUNet_raw is not set."""
    if not nnUNet_raw.is_set():
        raise ValueError("the environment variable nnUNet_raw is not set; set it as for nnU-Net")
    return Path(nnUNet_raw) / conversion.dataset_name


class PlannedFolder:
    """The folder of a conversion, compared with what is there.

    Attributes
    ----------
    path
        Folder nnUNet_raw/DatasetNNN_Name.
    missing
        Names of the cases that are not complete yet; with ``overwrite`` all.

    Raises
    ------
    ValueError
        nnUNet_raw is not set, the number belongs to another dataset, or the folder holds something that this
        conversion would not write; with ``overwrite`` a dataset that a converter wrote is replaced.
    """

    def __init__(self, conversion: Conversion, *, overwrite: bool = False) -> None:
        self.conversion = conversion
        self.path = planned_path(conversion)
        self.overwrite = overwrite
        prefix = conversion.dataset_name.split("_")[0]
        if others := sorted(o.name for o in self.path.parent.glob(f"{prefix}_*") if o.name != self.path.name):
            raise ValueError(f"{self.path.parent} has another dataset of this number, {others[0]}; choose another -d")
        self._sources = {case: file_states(source.files) for source in conversion.sources for case in source.cases}
        recorded = self._check_existing() if holds_anything(self.path) else {}
        self.missing = set(conversion.parts)
        if not overwrite:
            with ThreadPoolExecutor() as executor:  # what is there is read to its end
                complete = executor.map(self._is_complete, conversion.parts, conversion.parts.values())
                self.missing = {name for name, done in zip(conversion.parts, complete, strict=True) if not done}
            self.missing |= {name for name, states in recorded.items() if self._sources.get(name, states) != states}

    def _is_complete(self, name: str, part: str) -> bool:
        """Whether the files of a case are whole and undamaged; images that are copies may end as their makers like."""
        ending, suffix = self.conversion.ending, part_suffix(part)
        description = self.conversion.description
        raters = [self.path / f"raters{suffix}" / f"{name}_rater{n}{ending}" for n in range(_num_raters(description))]
        images = [
            self.path / f"images{suffix}" / f"{name}_{channel:04d}{ending}"
            for channel in range(self.conversion.files_per_image or len(description["channel_names"]))
        ]
        written = [label_file(self.path, name, part, ending), *raters]
        return (
            all(map(is_whole, written))
            and all(is_whole(file) or _is_readable(file) for file in images)
            and all(map(has_right_checksums, (*written, *images)))
        )

    def _check_existing(self) -> dict[str, list[Any]]:
        """States of the files that the cases there were made of."""
        if not (self.path / _SETTINGS).is_file():
            raise ValueError(f"{self.path} exists and was not written by this command; choose another -d or remove it")
        if self.overwrite:
            return {}
        remedy = "--overwrite replaces the dataset, or choose another -d"
        record = read_json(self.path / _SETTINGS, ConversionFile, remedy=remedy)
        found, settings = record["settings"], as_read_back(dict(self.conversion.settings))
        if found != settings:
            different = [
                f"{key} was {found.get(key)}, is {settings.get(key)}"
                for key in sorted(found.keys() | settings.keys())
                if found.get(key) != settings.get(key)
            ]
            raise ValueError(
                f"{self.path} was written with other settings ({'; '.join(different)}); give the same ones to continue "
                "it, another -d, or --overwrite to replace it"
            )
        parts = self.conversion.parts
        if moved := [name for name, part in record["parts"].items() if parts.get(name) != part]:
            raise ValueError(
                f"the data have changed since {self.path} was begun: {len(moved)} of its cases, {moved[0]} among them, "
                "are now in another part or left out, so training and test cases would mix; --overwrite starts anew"
            )
        return record.get("sources", {})

    def run(self, *, num_processes: int = 1, show_progress: bool = False) -> Converted:
        """Convert what is missing."""
        conversion = self.conversion
        _check_split(conversion.parts, conversion.skipped)
        previous = _read_splits(self.path / _SPLITS)
        if self.overwrite and self.path.exists():
            _empty(self.path)
        self._make_folders()
        sources = [
            replace(source, cases={name: part for name, part in source.cases.items() if name in self.missing})
            for source in conversion.sources
        ]
        failed = map_in_processes(
            partial(convert_source, convert=conversion.convert, dataset=self.path, ending=conversion.ending),
            [source for source in sources if source.cases],
            num_processes=num_processes,
            description=conversion.dataset_name,
            show_progress=show_progress,
        )
        skipped = [*conversion.skipped, *filter(None, failed)]
        complete = {
            name: part
            for name, part in conversion.parts.items()
            if label_file(self.path, name, part, conversion.ending).is_file()
        }
        return self._finish(complete, skipped, previous)

    def _make_folders(self) -> None:
        conversion = self.conversion
        kinds = ("images", "labels", "raters") if _num_raters(conversion.description) else ("images", "labels")
        self.path.mkdir(parents=True, exist_ok=True)
        if self.missing:  # nnU-Net takes a folder with this file for a whole dataset
            (self.path / _DESCRIPTION).unlink(missing_ok=True)
        for name in self.missing:  # what is there of them is damaged, or of other files; before the record says these
            label_file(self.path, name, conversion.parts[name], conversion.ending).unlink(missing_ok=True)
        write_json(self.path / _SETTINGS, self._record(conversion.skipped))
        remove_leftovers(self.path)
        for suffix in {part_suffix(part) for part in conversion.parts.values()}:
            for kind in kinds:
                (self.path / f"{kind}{suffix}").mkdir(exist_ok=True)

    def _finish(self, complete: dict[str, str], skipped: list[Skipped], previous: list[Any] | None) -> Converted:
        conversion = self.conversion
        _check_split(complete, skipped)
        splits = [{part: sorted(n for n, p in complete.items() if p == part) for part in (TRAIN, VALIDATION)}]
        file, kept = _write_splits(self.path, splits, previous)
        write_json(self.path / _SETTINGS, self._record(skipped))
        write_patients(self.path / PATIENTS_FILE, {name: conversion.patients[name] for name in complete})
        counts = dict(Counter(complete.values()))
        description = {
            **conversion.description,
            "numTraining": counts[TRAIN] + counts[VALIDATION],
            "name": conversion.dataset_name,
        }
        write_json(self.path / _DESCRIPTION, description)
        return Converted(counts, skipped, file, kept)

    def _record(self, skipped: Sequence[Skipped]) -> dict[str, Any]:
        return {
            "settings": dict(self.conversion.settings),
            "notes": list(self.conversion.notes),
            "skipped": {skip.name: skip.reason for skip in skipped},
            "parts": dict(self.conversion.parts),
            "sources": self._sources,
        }


def _empty(folder: Path) -> None:
    """Remove what is in a folder, but for its lock, which this command has."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif not is_folder_lock(path):
            path.unlink()


def _check_split(parts: Mapping[str, str], skipped: Sequence[Skipped]) -> None:
    """Raise if nothing is there to train or to validate on."""
    if absent := {TRAIN, VALIDATION} - set(parts.values()):
        raise ValueError(
            f"there is no case for {' and '.join(sorted(absent))}; was skipped:{reasons(skipped) or ' nothing'}"
        )


def _write_splits(
    dataset: Path, splits: list[dict[str, list[str]]], previous: list[Any] | None
) -> tuple[Path | None, bool]:
    """Write the splits where nnU-Net reads them, unless someone else has written other ones there."""
    file = Path(nnUNet_preprocessed) / dataset.name / _SPLITS if nnUNet_preprocessed.is_set() else None
    kept = file is not None and (found := _read_splits(file)) is not None and found not in (previous, splits)
    if file is not None and not kept:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, splits)
    write_json(dataset / _SPLITS, splits)
    return file, kept


def _read_splits(file: Path) -> list[Any] | None:
    """Splits of a file, ``None`` if there is none that can be read."""
    return read_json_if_complete(file, list)


def _num_raters(description: Mapping[str, Any]) -> int:
    return description.get("num_raters", 0)


def _is_readable(image: Path) -> bool:
    """Whether a NIfTI image that another program wrote has all its voxels."""
    if not image.is_file() or not image.name.endswith((".nii", ".nii.gz")):
        return False
    try:
        check_image_file(image)
    except (OSError, ValueError):
        return False
    return True
