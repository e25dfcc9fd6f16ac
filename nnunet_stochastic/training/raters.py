"""Train on one rater's mask, drawn anew each time a case is loaded.

The label of a case is replaced by y_r, r uniform in {0, …, A - 1}, so that its expected loss is the mean over its
raters. The masks lie beside the preprocessed cases, on their voxel grid, in a folder that nnU-Net does not read:

    nnUNet_preprocessed/DATASET/DATA_IDENTIFIER_raters/
        case_rater0.b2nd    segmentation (1, z, y, x), blosc2
        case_rater0.pkl     the rater's own class_locations, from which nnU-Net oversamples foreground
        case.json           written last: with which settings and from which files; without it the case is absent
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_pickle
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_stochastic.io.hashing import file_sha256
from nnunet_stochastic.io.schemas import MAX_RATERS
from nnunet_stochastic.io.text import as_read_back, read_json_if_complete

__all__ = ["RaterDataset", "RaterFolder", "choose_training_labels", "count_raters", "trained_on_raters"]


def count_raters(dataset_json: dict[str, Any]) -> int:
    """A, the entry ``num_raters`` of dataset.json; 0 without one."""
    count = dataset_json.get("num_raters", 0)
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_RATERS:
        raise ValueError(
            f"num_raters in dataset.json must be a whole number of at most {MAX_RATERS}, got {repr(count)[:60]}; "
            "correct it or remove it"
        )
    return count


def trained_on_raters(init_args: Mapping[str, Any], *, train_on_raters: bool) -> bool:
    """Whether a training drew the masks of raters.

    Parameters
    ----------
    init_args
        Entry ``init_args`` of its checkpoint: dataset.json as the training read it, and what the trainers of this
        package record of their options.
    train_on_raters
        Attribute of the trainer's class, for a checkpoint that records no options; False for a class without one.
    """
    recorded = init_args.get("stochastic_settings", {}).get("train_on_raters", train_on_raters)
    return bool(recorded) and count_raters(init_args.get("dataset_json", {})) > 0


@dataclass(frozen=True)
class RaterFolder:
    """Preprocessed masks of the raters of one configuration.

    Attributes
    ----------
    path
        The folder.
    num_raters
        Number A of raters.
    settings
        All that decides the result beside the raw files. A case that was preprocessed with others counts as absent.
    """

    path: Path
    num_raters: int
    settings: dict[str, Any]

    @classmethod
    def of_configuration(
        cls, preprocessed: Path, plans: PlansManager, configuration: ConfigurationManager, dataset_json: dict[str, Any]
    ) -> RaterFolder:
        """The folder that belongs to a configuration; ``preprocessed`` is the folder nnUNet_preprocessed/DATASET."""
        num_raters = count_raters(dataset_json)
        settings = {
            "num_raters": num_raters,
            "labels": dataset_json["labels"],
            "image_reader_writer": plans.plans["image_reader_writer"],
            "transpose_forward": plans.transpose_forward,
            "preprocessor_name": configuration.preprocessor_name,
            "spacing": configuration.spacing,
            "resampling_fn_seg": configuration.configuration["resampling_fn_seg"],
            "resampling_fn_seg_kwargs": configuration.configuration["resampling_fn_seg_kwargs"],
        }
        return cls(Path(preprocessed) / f"{configuration.data_identifier}_raters", num_raters, as_read_back(settings))

    def mask(self, case: str, rater: int) -> Path:
        """File of a rater's segmentation."""
        return self.path / f"{case}_rater{rater}.b2nd"

    def class_locations(self, case: str, rater: int) -> Path:
        """File of a rater's class_locations."""
        return self.path / f"{case}_rater{rater}.pkl"

    def record(self, case: str) -> Path:
        """File that makes the case complete."""
        return self.path / f"{case}.json"

    def files(self, case: str) -> list[Path]:
        """All files of the case, the record last."""
        raters = range(self.num_raters)
        return [*(file(case, r) for r in raters for file in (self.mask, self.class_locations)), self.record(case)]

    def is_complete(self, case: str, sources: list[list] | None = None) -> bool:
        """Whether every file of the case is there at its size, and made with these settings.

        With ``sources`` also whether it was made from those, and each file is as it was written; this reads all files.
        """
        record = read_json_if_complete(self.record(case), dict)
        if record is None:
            return False
        sizes = self.sizes(case)
        whole = (
            record.get("settings") == self.settings
            and record.get("sizes", sizes) == sizes  # earlier versions did not record them
            and all(sizes.values())
        )
        if not whole or sources is None:
            return whole
        return record.get("sources") == sources and record.get("sha256") == self.sha256(case)

    def require_complete(self, cases: Sequence[str]) -> None:
        """Raise ``ValueError`` if a case lacks its masks, or has them of other settings."""
        if incomplete := [case for case in cases if not self.is_complete(case)]:
            raise ValueError(
                f"{self.path} lacks the raters' masks, or has them from other plans or labels, of "
                f"{len(incomplete)} of {len(cases)} training cases: {', '.join(incomplete)}"
            )

    def sizes(self, case: str, folder: Path | None = None) -> dict[str, int]:
        """Bytes of the case's files, but its record, 0 of what is not there; in another folder if given."""
        files = [(folder or self.path) / file.name for file in self.files(case)[:-1]]
        return {file.name: file.stat().st_size if file.is_file() else 0 for file in files}

    def sha256(self, case: str, folder: Path | None = None) -> dict[str, str]:
        """SHA-256 of the case's files, but its record; in another folder if given."""
        files = [(folder or self.path) / file.name for file in self.files(case)[:-1]]
        return {file.name: file_sha256(file) for file in files}

    def load(self, case: str, rater: int) -> tuple[blosc2.NDArray, dict]:
        """A rater's segmentation (1, z, y, x), opened and not yet read, and class_locations."""
        # Memory mapping as nnU-Net opens its own files, and not on Windows either.
        mapping = {} if os.name == "nt" else {"mmap_mode": "r"}
        path = self.mask(case, rater)
        try:
            mask = blosc2.open(urlpath=str(path), mode="r", dparams={"nthreads": 1}, **mapping)
            path = self.class_locations(case, rater)
            locations = load_pickle(str(path))
            if not isinstance(locations, dict):
                raise TypeError("it holds no class_locations")
            return mask, locations
        except Exception as error:  # of blosc2 and pickle, neither of which names the file
            raise OSError(
                f"{path} cannot be read: {error}; remove {self.record(case)} and run "
                "nnunet_stochastic_preprocess_raters again"
            ) from error


class RaterDataset:
    """nnU-Net's dataset with the label of a case replaced by the mask of one rater at random.

    Parameters
    ----------
    cases
        nnU-Net's dataset of the same cases, in any of its formats.
    raters
        Their raters; all must be complete.
    """

    def __init__(self, cases: nnUNetBaseDataset, raters: RaterFolder) -> None:
        raters.require_complete(cases.identifiers)
        self.cases = cases
        self.raters = raters
        self.identifiers = cases.identifiers

    def __getitem__(self, identifier: str) -> tuple:
        return self.load_case(identifier)

    def load_case(self, identifier: str) -> tuple:
        """Image (C, z, y, x), one rater's segmentation (1, z, y, x), the previous stage's or None, properties."""
        image, _, previous_stage, properties = self.cases.load_case(identifier)
        rater = np.random.randint(self.raters.num_raters)  # noqa: NPY002 nnU-Net seeds no other one in its workers
        mask, class_locations = self.raters.load(identifier, rater)
        if mask.shape[1:] != image.shape[1:]:
            raise ValueError(
                f"{self.raters.mask(identifier, rater)} has shape {mask.shape[1:]}, the preprocessed image "
                f"{image.shape[1:]} (z, y, x): the image was preprocessed again; do the same with the raters"
            )
        return image, mask, previous_stage, properties | {"class_locations": class_locations}


def choose_training_labels(
    cases: nnUNetBaseDataset,
    raters: RaterFolder,
    *,
    train_on_raters: bool,
    command: str,
    log: Callable[[str], None],
) -> nnUNetBaseDataset | RaterDataset:
    """The dataset to train on where there are raters: ``cases`` with their masks, or as they are.

    Parameters
    ----------
    cases
        nnU-Net's training cases.
    raters
        Their raters.
    train_on_raters
        Whether to train on them; False keeps the labels of labelsTr although there are raters.
    command
        Command that preprocesses the raters, for the message where that was not done.
    log
        Function that takes one line that says which labels are trained on.
    """
    if not train_on_raters:
        log(f"trains on labelsTr, not on its {raters.num_raters} raters: train_on_raters is False")
        return cases
    try:
        dataset = RaterDataset(cases, raters)
    except ValueError as error:
        raise ValueError(
            f"{error}; run `{command}`, or train on labelsTr alone with a trainer that sets train_on_raters = False"
        ) from error
    log(
        f"trains on the masks of {raters.num_raters} raters, one at random each time a case is loaded; validates on "
        "labelsTr"
    )
    return dataset
