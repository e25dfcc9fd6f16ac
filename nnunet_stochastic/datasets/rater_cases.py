"""The raters' masks of nnU-Net's raw data: which files there must be, and whether they fit the image.

They are nnUNet_raw/DATASET/ratersTr/case_rater0.nii.gz … beside labelsTr: A label maps per image, on its voxel grid.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.utilities.utils import (
    get_filenames_of_train_images_and_targets,
    get_identifiers_from_splitted_dataset_folder,
)

from nnunet_stochastic.evaluation.readers import read_label_map
from nnunet_stochastic.io.grid import check_same_grid
from nnunet_stochastic.io.hashing import file_states
from nnunet_stochastic.io.images import ImageReader, read_image
from nnunet_stochastic.io.names import check_names, is_apple_double
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = [
    "RaterCase",
    "check_channels",
    "check_masks",
    "count_channels",
    "find_rater_cases",
    "find_training_images",
]


@dataclass(frozen=True)
class RaterCase:
    """Raw files of one training case: its image's channels, and one mask per rater."""

    name: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]

    def sources(self) -> list[list]:
        """States of the files: differ when a file has changed."""
        return file_states((*self.images, *self.masks))


def find_training_images(raw: Path, dataset_json: Mapping[str, Any]) -> dict[str, tuple[Path, ...]]:
    """Image files of each training case of nnUNet_raw/DATASET, as nnU-Net finds them.

    They are one per channel, or one that holds all channels, as a PNG in colours does.
    """
    ending = dataset_json["file_ending"]
    if (listed := dataset_json.get("dataset")) is not None:
        for name, entry in listed.items():
            if not (_are_texts(entry.get("images")) and _are_texts([entry.get("label")])):
                raise ValueError(
                    f'{raw / "dataset.json"}: dataset.{name} must have "images", a list of files, and "label", a file; '
                    "correct it"
                )
        check_names(listed, raw / "dataset.json")
        # nnU-Net writes absolute paths into what it is given.
        found = get_filenames_of_train_images_and_targets(str(raw), copy.deepcopy(dict(dataset_json)))
        return {name: tuple(map(Path, entry["images"])) for name, entry in sorted(found.items())}
    folder = raw / "imagesTr"
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; set nnUNet_raw to where the raw data are")
    names = [str(name) for name in get_identifiers_from_splitted_dataset_folder(str(folder), ending)]
    names = [name for name in names if not is_apple_double(name)]
    check_names(names, folder)
    files: dict[str, list[Path]] = {name: [] for name in names}
    for path in sorted(folder.iterdir()):
        channel = re.fullmatch(r"(.+)_\d{4}" + re.escape(ending), path.name, re.DOTALL)
        if channel and channel[1] in files:
            files[channel[1]].append(path)
    return {name: tuple(paths) for name, paths in files.items()}


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, str) for entry in value)


def count_channels(dataset_json: Mapping[str, Any]) -> int:
    """Number of channels of an image."""
    return len(dataset_json.get("channel_names") or dataset_json["modality"])  # the latter in old datasets


def find_rater_cases(
    raw: Path, dataset_json: Mapping[str, Any], num_raters: int
) -> tuple[list[RaterCase], dict[str, list[str]]]:
    """All training cases with their raters.

    Parameters
    ----------
    raw
        Folder nnUNet_raw/DATASET.
    dataset_json
        Description of the dataset.
    num_raters
        Number A of raters; every case needs as many masks.

    Returns
    -------
    tuple
        The cases in order of name, and the files that are missing, by case; cases without findings are not in there.
    """
    cases = []
    missing = {}
    for name, images in find_training_images(raw, dataset_json).items():
        masks = [raw / "ratersTr" / f"{name}_rater{r}{dataset_json['file_ending']}" for r in range(num_raters)]
        case = RaterCase(name, images, tuple(masks))
        cases.append(case)
        absent = [file for file in (*_expected_images(raw, case, dataset_json), *case.masks) if not file.is_file()]
        if absent:
            missing[name] = [f"{name}: files are missing: {', '.join(map(str, absent))}"]
        elif len(images) > count_channels(dataset_json):
            missing[name] = [
                f"{name}: has {len(images)} image files and dataset.json {count_channels(dataset_json)} channels, "
                f"remove what is none of them: {', '.join(map(str, images))}"
            ]
    if not cases:
        raise ValueError(f"{raw} has no training case; images are expected in {raw / 'imagesTr'}")
    return cases, missing


def _expected_images(raw: Path, case: RaterCase, dataset_json: Mapping[str, Any]) -> Sequence[Path]:
    """Files of the case's channels; of a case with the first one alone that one, which may hold all of them."""
    if dataset_json.get("dataset") is not None:
        return case.images
    ending = dataset_json["file_ending"]
    folder = raw / "imagesTr"
    files = [folder / f"{case.name}_{channel:04d}{ending}" for channel in range(count_channels(dataset_json))]
    return files[:1] if list(case.images) == files[:1] else files


def check_channels(case: RaterCase, num_channels: int, reader: ImageReader) -> list[str]:
    """What is wrong where the image has fewer files than channels: the first of them must hold all."""
    if len(case.images) >= num_channels:
        return []
    found = read_image(case.images, reader)[0].shape[0]
    if found == num_channels:
        return []
    return [
        f"{case.name}: files are missing: {', '.join(map(str, case.images))} has {found} of the {num_channels} "
        "channels that dataset.json names"
    ]


def check_masks(
    case: RaterCase, labels: EvaluatedLabels, reader: ImageReader, shape: tuple[int, ...], grid: dict
) -> list[str]:
    """What is wrong with the masks of a case: voxel grids other than the image's, values that are no labels.

    Parameters
    ----------
    case
        Case whose masks are checked.
    labels
        Labels of dataset.json.
    reader
        nnU-Net's reader of the dataset.
    shape, grid
        Size (z, y, x) of the image, and what ``reader`` returned with it.

    Raises
    ------
    EOFError, OSError, RuntimeError
        A file that cannot be read.
    """
    problems = []
    for path in case.masks:
        try:
            mask, mask_grid = read_label_map(path, labels, reader)
            check_same_grid(case.images[0], shape, grid, path, mask.shape, mask_grid)
        except ValueError as error:
            problems.append(f"{case.name}: {error}")
    return problems
