"""Predictions of models of one task that segment different structures, as TotalSegmentator's five, merged into one.

    label map   where several parts p have a structure, that of the last one; structures are numbered 1, 2, … through
                all parts in their order
    maps        u(x) = max_p u_p(x)
    volumes     of the merged label map; their spread is that of the part that has the structure, over its samples

The maximum is a bound from below of what all parts are uncertain of together: H(y_1, …, y_P) >= max_p H(y_p), and so
for the expected entropies, and for the mutual information of labels and members. Merged, total is at most aleatoric +
epistemic, whose maxima may be of different parts.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_stochastic.evaluation.maps import find_map, read_map
from nnunet_stochastic.evaluation.predicted_dataset import PredictedDataset, read_dataset
from nnunet_stochastic.evaluation.readers import read_label_map
from nnunet_stochastic.io.folders import files_by_name
from nnunet_stochastic.io.grid import check_same_grid, voxel_volume_ml
from nnunet_stochastic.io.hashing import file_sha256
from nnunet_stochastic.io.names import few
from nnunet_stochastic.io.output_locks import locked_output_folder
from nnunet_stochastic.io.result_schemas import PredictionRecord
from nnunet_stochastic.io.staging import remove_leftovers, staged_files
from nnunet_stochastic.io.text import read_json, write_json
from nnunet_stochastic.measures import MAPS

__all__ = ["MAPS_RULE", "Merge", "Part", "read_parts"]

MAPS_RULE = "maximum over the parts, at each voxel"
LABELS_RULE = "where several parts have a structure, that of the last one"
_RECORD = "uncertainty.json"
#: What a merged prediction has not, though each of its parts may.
_NOT_MERGED = (
    "checkpoints",
    "lesions",
    "min_lesion_ml",
    "notes",
    "num_saved_samples",
    "save_probabilities",
    "versions",
)


@dataclass(frozen=True)
class Part:
    """Predictions of one sub-model.

    Attributes
    ----------
    folder
        Folder of the predictions.
    dataset
        What they say of their data set.
    record
        Content of their uncertainty.json.
    numbers
        Label of each structure in the merged label map, by its label here; a table whose entry 0 is 0.
    """

    folder: Path
    dataset: PredictedDataset
    record: Mapping[str, Any]
    numbers: np.ndarray

    def file(self, case: str) -> Path:
        """The segmentation of a case."""
        return self.folder / f"{case}{self.dataset.file_ending}"

    def maps(self, case: str) -> dict[str, Path]:
        """Files of the maps of a case, by the names of their folders."""
        ending = self.dataset.file_ending
        return {name: path for name in sorted(MAPS) if (path := find_map(self.folder, name, case, ending)) is not None}


def read_parts(folders: Sequence[Path]) -> list[Part]:
    """Read what folders of predictions say of themselves.

    Parameters
    ----------
    folders
        Folders that the predict command wrote, in the order in which structures are numbered; at least two.

    Raises
    ------
    ValueError
        They are not of the same images, files or maps, have a structure twice, or regions.
    """
    if len(folders) < 2 or len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError(f"parts must be at least two different folders, got {', '.join(map(str, folders))}")
    parts: list[Part] = []
    named: dict[str, Path] = {}
    for folder in folders:
        dataset = read_dataset(folder, None, option="-i")
        if dataset.labels.has_regions:
            raise ValueError(f"{folder}: its labels are regions, which overlap; parts must have labels")
        for name in dataset.labels.names:
            if name in named:
                raise ValueError(f"{folder} and {named[name]} both have the structure {name}; leave one folder out")
            named[name] = folder
        record = read_json(
            folder / _RECORD, PredictionRecord, remedy="parts are what nnunet_stochastic_predict has written"
        )
        first = len(named) - len(dataset.labels.names)
        numbers = np.arange(dataset.labels.highest + 1)
        numbers[1:] += first
        if dataset.labels.ignore_label is not None:
            numbers[dataset.labels.ignore_label] = 0
        parts.append(Part(folder, dataset, record, numbers))
    for part in parts[1:]:
        _check_alike(parts[0], part)
    return parts


def _check_alike(first: Part, part: Part) -> None:
    for name, mine, theirs in (
        ("file endings", first.dataset.file_ending, part.dataset.file_ending),
        ("readers", type(first.dataset.reader).__name__, type(part.dataset.reader).__name__),
    ):
        if mine != theirs:
            raise ValueError(f"{first.folder} and {part.folder} have different {name}, {mine} and {theirs}")
    ours, others = first.record["cases"], part.record["cases"]
    if different := sorted(ours.keys() ^ others.keys()):
        raise ValueError(f"{first.folder} and {part.folder} must have the same cases; one lacks {few(different)}")
    if other := [name for name in ours if ours[name].get("input_sha256") != others[name].get("input_sha256")]:
        raise ValueError(f"{first.folder} and {part.folder} were predicted from different images of {few(other)}")
    if other := [name for name in ours if first.maps(name).keys() != part.maps(name).keys()]:
        has = " and ".join(", ".join(each.maps(other[0])) or "none" for each in (first, part))
        raise ValueError(
            f"{first.folder} and {part.folder} must have the same maps; {other[0]} has {has}: predict all parts with "
            "the same --maps, and a method that gives each of them the same"
        )


@dataclass(frozen=True)
class Merge:
    """A merged prediction, in a folder of its own.

    Attributes
    ----------
    parts
        What is merged.
    folder
        Output folder.
    """

    parts: tuple[Part, ...]
    folder: Path

    @property
    def cases(self) -> list[str]:
        """Names of the cases."""
        return sorted(self.parts[0].record["cases"])

    @property
    def labels(self) -> dict[str, int]:
        """Labels of the merged label map by name, background included."""
        names = [name for part in self.parts for name in part.dataset.labels.names]
        return {"background": 0, **{name: number for number, name in enumerate(names, start=1)}}

    def run(self) -> dict[str, Any]:
        """Merge all cases, each written whole or not at all; returns their entries of uncertainty.json.

        Raises
        ------
        ValueError
            Files lie in the output folder that are none of an earlier merge.
        """
        from nnunet_stochastic.inference.record import Record  # here: torch comes with it, which takes seconds

        with locked_output_folder(self.folder):
            self._check()
            remove_leftovers(self.folder, set(self.cases))
            record = Record(self.folder, self.settings(), other_cases=self.cases)
            write_json(self.folder / "dataset.json", self._dataset_json())
            for name in self.cases:
                record.add(name, self._merge_case(name))
            record.finish()
        return record.cases

    def _check(self) -> None:
        """Raise ``ValueError`` where files lie in the output folder that are none of an earlier merge."""
        if self.folder.resolve() in {part.folder.resolve() for part in self.parts}:
            raise ValueError(f"-o must not be one of -i, {self.folder}: choose another output folder")
        record = self.folder / _RECORD
        of_merge = record.is_file() and "merged_from" in read_json(record, dict).get("settings", {})
        if not of_merge and (record.is_file() or files_by_name(self.folder, self.parts[0].dataset.file_ending)):
            raise ValueError(f"{self.folder} holds predictions that no merge has written; choose another output folder")

    def settings(self) -> dict[str, Any]:
        """Settings of the merged prediction: those that all parts have in common, and what each part is."""
        first, *others = (part.record["settings"] for part in self.parts)
        common = {
            key: value
            for key, value in first.items()
            if key not in _NOT_MERGED and all(other.get(key) == value for other in others)
        }
        merged = [
            {
                "folder": str(part.folder.resolve()),
                "model_folder": part.record["settings"].get("model_folder"),
                "record_sha256": file_sha256(part.folder / _RECORD),
                "labels": {name: int(part.numbers[values[0]]) for name, values in part.dataset.labels.by_name.items()},
            }
            for part in self.parts
        ]
        versions = {name: version(name) for name in ("nnunet_stochastic", "nnunetv2")} | {
            "python": platform.python_version()
        }
        return {
            **common,
            "merged_from": merged,
            "merged_labels": LABELS_RULE,
            "merged_maps": MAPS_RULE,
            "versions": versions,
        }

    def _dataset_json(self) -> dict[str, Any]:
        first = self.parts[0]
        original = read_json(first.folder / "dataset.json", dict)
        return {
            **{key: original[key] for key in ("channel_names", "modality", "numTraining") if key in original},
            "labels": self.labels,
            "file_ending": first.dataset.file_ending,
            "overwrite_image_reader_writer": type(first.dataset.reader).__name__,
        }

    def _merge_case(self, name: str) -> dict[str, Any]:
        """Write a case; returns its entry."""
        from nnunet_stochastic.inference.images import write_labels, write_map
        from nnunet_stochastic.inference.volumes import structure_volumes

        first = self.parts[0]
        reader = type(first.dataset.reader)
        segmentation, grid = read_label_map(first.file(name), first.dataset.labels, first.dataset.reader)
        segmentation = first.numbers[segmentation].astype(np.uint16)
        overlap = np.zeros(segmentation.shape, bool)
        for part in self.parts[1:]:
            own, own_grid = read_label_map(part.file(name), part.dataset.labels, part.dataset.reader)
            check_same_grid(first.file(name), segmentation.shape, grid, part.file(name), own.shape, own_grid)
            numbered = part.numbers[own].astype(np.uint16)
            has_structure = numbered > 0
            overlap |= has_structure & (segmentation > 0)
            segmentation[has_structure] = numbered[has_structure]
        paths = first.maps(name)
        entries = [part.record["cases"][name] for part in self.parts]
        entry: dict[str, Any] = {
            key: entries[0][key] for key in ("input_files", "input_sha256", "dicom_series") if key in entries[0]
        }
        files = {label: Path(label) / path.name for label, path in paths.items()}
        written = [*files.values(), Path(first.file(name).name)]
        with staged_files(self.folder, written, name=name) as staging:
            for label, file in files.items():
                highest = self._highest(name, label, segmentation.shape, grid)
                entry[f"mean_{label}"] = float(highest.mean(dtype=np.float64))
                write_map(highest, staging / file, grid, reader)
            write_labels(segmentation, staging / written[-1], grid, reader)
            entry["files"] = {file.as_posix(): file_sha256(staging / file) for file in written}
        if entry.get("mean_aleatoric") and "mean_epistemic" in entry:
            entry["epistemic_to_aleatoric"] = entry["mean_epistemic"] / entry["mean_aleatoric"]
        if (voxel_ml := voxel_volume_ml(grid)) is not None:
            entry["volume_ml"] = structure_volumes(segmentation, self.labels, voxel_ml)
        spread = {key: value for each in entries for key, value in (each.get("sample_volumes") or {}).items()}
        if spread:
            entry["sample_volumes"] = spread
        return entry | {"overlap_voxels": int(overlap.sum())}

    def _highest(self, name: str, label: str, shape: tuple[int, ...], grid: dict) -> np.ndarray:
        """A map of a case, (z, y, x): the maximum over the parts."""
        highest: np.ndarray | None = None
        for part in self.parts:
            array = read_map(
                part.maps(name)[label],
                part.dataset.reader,
                part.dataset.labels,
                prediction=self.parts[0].file(name),
                shape=shape,
                grid=grid,
            )
            highest = array if highest is None else np.maximum(highest, array)
        assert highest is not None  # there are at least two parts
        return highest
