"""The raters' masks of nnU-Net's raw data: which files there must be, and whether they fit the image.

They are nnUNet_raw/DATASET/ratersTr/case_rater0.nii.gz … beside labelsTr: A label maps per image, on its voxel grid.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.utilities.utils import (
    get_filenames_of_train_images_and_targets,
    get_identifiers_from_splitted_dataset_folder,
)

from nnunet_stochastic.evaluation.readers import read_label_map
from nnunet_stochastic.io.grid import check_same_grid
from nnunet_stochastic.io.images import ImageReader
from nnunet_stochastic.io.names import check_names, is_apple_double
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = ["RaterCase", "check_masks", "find_rater_cases", "find_training_images"]


@dataclass(frozen=True)
class RaterCase:
    """Raw files of one training case: its image's channels, and one mask per rater."""

    name: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]

    def sources(self) -> list[list]:
        """Name, size in bytes and time of change in ns of each file: differs when a file has changed."""
        files = ((file, file.stat()) for file in (*self.images, *self.masks))
        return [[file.name, state.st_size, state.st_mtime_ns] for file, state in files]


def find_training_images(raw: Path, dataset_json: Mapping[str, Any]) -> dict[str, tuple[Path, ...]]:
    """Image files of each training case of nnUNet_raw/DATASET, as nnU-Net finds them."""
    if "dataset" in dataset_json:
        # nnU-Net writes absolute paths into what it is given.
        listed = get_filenames_of_train_images_and_targets(str(raw), copy.deepcopy(dict(dataset_json)))
        return {name: tuple(map(Path, entry["images"])) for name, entry in sorted(listed.items())}
    if not (raw / "imagesTr").is_dir():
        raise FileNotFoundError(f"there is no folder {raw / 'imagesTr'}; set nnUNet_raw to where the raw data are")
    ending = dataset_json["file_ending"]
    channels = range(len(dataset_json.get("channel_names", dataset_json.get("modality"))))  # the latter in old datasets
    names = [str(name) for name in get_identifiers_from_splitted_dataset_folder(str(raw / "imagesTr"), ending)]
    names = [name for name in names if not is_apple_double(name)]
    check_names(names, raw / "imagesTr")
    return {name: tuple(raw / "imagesTr" / f"{name}_{channel:04d}{ending}" for channel in channels) for name in names}


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
        if absent := [str(file) for file in (*case.images, *case.masks) if not file.is_file()]:
            missing[name] = [f"{name}: files are missing: {', '.join(absent)}"]
    if not cases:
        raise ValueError(f"{raw} has no training case; images are expected in {raw / 'imagesTr'}")
    return cases, missing


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
