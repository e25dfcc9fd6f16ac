"""What a folder of predictions says of its data set: dataset.json, the classes, nnU-Net's reader."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunet_stochastic.evaluation.readers import ImageReader
from nnunet_stochastic.io.folders import files_by_name
from nnunet_stochastic.io.schemas import DatasetJson, PredictionPlans, read_dataset_json
from nnunet_stochastic.io.text import read_json
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = ["PredictedDataset", "read_dataset"]


@dataclass(frozen=True)
class PredictedDataset:
    """The data set that a folder of predictions is of: its file ending, number of raters, classes and reader."""

    file_ending: str
    num_raters: int | None
    labels: EvaluatedLabels
    reader: ImageReader


def read_dataset(
    prediction_folder: Path, dataset_json_file: Path | None, *, option: str, file_option: str = "-djfile"
) -> PredictedDataset:
    """Read what a prediction folder says of its data set.

    Parameters
    ----------
    prediction_folder
        Output folder of a predict command.
    dataset_json_file
        File with the labels; default: the one inside the folder.
    option, file_option
        Names under which the folder and the file are given, for messages.
    """
    if not prediction_folder.is_dir():
        raise FileNotFoundError(f"the folder {prediction_folder} ({option}) does not exist; name that of a prediction")
    path = dataset_json_file or prediction_folder / "dataset.json"
    content = read_dataset_json(path, DatasetJson, remedy=f"name the file with {file_option}")
    try:
        labels = EvaluatedLabels.from_dataset_json(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not files_by_name(prediction_folder, content["file_ending"]):
        raise ValueError(f"there is no prediction (*{content['file_ending']}) in {prediction_folder}")
    reader = _find_reader(prediction_folder, content, path)
    return PredictedDataset(content["file_ending"], content.get("num_raters"), labels, reader)


def _find_reader(prediction_folder: Path, dataset_json: dict, path: Path) -> ImageReader:
    """The reader that the predictions were written with, else the one nnU-Net would choose for the dataset."""
    # Here and not at the top: it takes seconds, which --help and a wrong path need not wait for.
    from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

    from nnunet_stochastic.plans import find_reader_writer

    plans = prediction_folder / "plans.json"
    if plans.is_file():
        name = read_json(plans, PredictionPlans, remedy="predict again")["image_reader_writer"]
        return find_reader_writer(f"{plans}: image_reader_writer", name)()
    name = dataset_json.get("overwrite_image_reader_writer")
    if name not in (None, "None"):
        return find_reader_writer(f"{path}: overwrite_image_reader_writer", name)()
    try:
        example = next(iter(files_by_name(prediction_folder, dataset_json["file_ending"]).values()))
        return determine_reader_writer_from_dataset_json(dataset_json, str(example), verbose=False)()
    except RuntimeError as error:
        raise ValueError(str(error)) from error
