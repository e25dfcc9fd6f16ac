"""What the commands that work on a folder of predictions read first: dataset.json, the classes, nnU-Net's reader."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nnunet_stochastic.evaluation import EvaluatedLabels, ImageReader

__all__ = [
    "DEFAULT_PROCESSES",
    "PredictedDataset",
    "load_json",
    "read_dataset",
    "require_processes",
    "require_writable",
]

DEFAULT_PROCESSES = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class PredictedDataset:
    """The data set that a folder of predictions is of: its file ending, number of raters, classes and reader."""

    file_ending: str
    num_raters: int | None
    labels: EvaluatedLabels
    reader: ImageReader


def read_dataset(prediction_folder: Path, dataset_json_file: Path | None, *, option: str) -> PredictedDataset:
    """Read what a prediction folder says of its data set.

    Parameters
    ----------
    prediction_folder
        Output of a predict command.
    dataset_json_file
        Default: the one inside the folder.
    option
        With which the folder was given, for messages.
    """
    if not prediction_folder.is_dir():
        raise FileNotFoundError(f"the folder {prediction_folder} ({option}) does not exist")
    path = dataset_json_file or prediction_folder / "dataset.json"
    content = load_json(path, option="-djfile")
    if missing := {"labels", "file_ending"} - content.keys():
        raise ValueError(f"{path} lacks {' and '.join(sorted(missing))}; it is no nnU-Net dataset.json")
    labels = EvaluatedLabels.from_dataset_json(content)
    if not any(prediction_folder.glob(f"*{content['file_ending']}")):
        raise ValueError(f"there is no prediction (*{content['file_ending']}) in {prediction_folder}")
    reader = _find_reader(prediction_folder, content, option=option)
    return PredictedDataset(content["file_ending"], content.get("num_raters"), labels, reader)


def load_json(path: Path, *, option: str) -> dict:
    """Content of a JSON file that an option names."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; name the file with {option}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def require_writable(folder: Path) -> None:
    """Find out before the work, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"the output folder {folder} cannot be written ({error}); choose another with -o") from error


def require_processes(number: int) -> None:
    """Check the value of -np."""
    if number < 1:
        raise ValueError(f"-np must be at least 1, got {number}")


def _find_reader(prediction_folder: Path, dataset_json: dict, *, option: str) -> ImageReader:
    """The reader that the predictions were written with, else the one nnU-Net would choose for the dataset."""
    # Here and not at the top: it takes seconds, which --help and a wrong path need not wait for.
    from nnunetv2.imageio.reader_writer_registry import (
        determine_reader_writer_from_dataset_json,
        recursive_find_reader_writer_by_name,
    )

    plans = prediction_folder / "plans.json"
    try:
        if plans.is_file():
            name = load_json(plans, option=option)["image_reader_writer"]
            return recursive_find_reader_writer_by_name(name)()
        example = str(next(prediction_folder.glob(f"*{dataset_json['file_ending']}")))
        return determine_reader_writer_from_dataset_json(dataset_json, example, verbose=False)()
    except RuntimeError as error:
        raise ValueError(str(error)) from error
