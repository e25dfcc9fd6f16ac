"""Predict a folder: which images, whose folder, what is done already; the work itself is the ``pipeline``'s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_stochastic.dicom.folders import holds_series_folders
from nnunet_stochastic.inference.cases import (
    InputCase,
    OutputFolder,
    cases_from_files,
    check_output_folder,
    find_input_cases,
)
from nnunet_stochastic.inference.dicom_cases import find_dicom_cases
from nnunet_stochastic.inference.images import map_ending
from nnunet_stochastic.inference.pipeline import Pipeline, note
from nnunet_stochastic.inference.predictor import StochasticPredictor
from nnunet_stochastic.inference.record import Record, earlier_predictions
from nnunet_stochastic.inference.structures import LesionChoice
from nnunet_stochastic.inference.threads import thread_executor
from nnunet_stochastic.inference.weight_cache import remove_dead_caches
from nnunet_stochastic.io.names import shown
from nnunet_stochastic.io.output_locks import locked_output_folder
from nnunet_stochastic.io.text import write_json
from nnunet_stochastic.labels import EvaluatedLabels
from nnunet_stochastic.prediction_choices import MAX_MAP_DIGITS, MIN_MAP_DIGITS, PROBABILITY_FORMATS, ProbabilityFormat

__all__ = ["FolderReport", "predict_folder"]

_NO_LESIONS = LesionChoice()


@dataclass(frozen=True)
class FolderReport:
    """What became of the cases of a folder.

    Parameters
    ----------
    failures
        Cases that failed, and why; empty if all went well.
    cases
        Entries of uncertainty.json, of this command's complete cases.
    """

    failures: dict[str, str]
    cases: dict[str, Any]


def predict_folder(
    predictor: StochasticPredictor,
    images: str | Path | Sequence[Sequence[str | Path]],
    output_folder: str | Path,
    *,
    save_probabilities: bool = False,
    continue_prediction: bool = False,
    previous_stage_folder: str | Path | None = None,
    preprocessing_threads: int = 3,
    export_threads: int = 3,
    num_parts: int = 1,
    part_id: int = 0,
    progress: bool = False,
    lesions: LesionChoice = _NO_LESIONS,
    map_digits: int = MAX_MAP_DIGITS,
    probability_format: ProbabilityFormat = "npz",
) -> FolderReport:
    """Predict all cases of a folder.

    Parameters
    ----------
    predictor
        Predictor with model and options.
    images
        A folder of images named as for nnU-Net, or of folders of DICOM series (see ``dicom.folders``), or lists of
        files, one list per case.
    output_folder
        Folder to write to; made if missing.
    save_probabilities
        Whether to write the predictive mean, too.
    continue_prediction
        Whether to skip the cases that are complete in the folder and in its uncertainty.json, if their images and files
        are those that the record says; other settings than the record's are an error.
    previous_stage_folder
        Folder of the previous stage's segmentations, for a cascade.
    preprocessing_threads, export_threads
        Numbers of threads beside the one that runs the network; 0 does the work in that one.
    num_parts, part_id
        Number of commands that share the cases, and index of this one from 0: it predicts every ``num_parts``-th case
        from the ``part_id``-th on.
    progress
        Whether to show bars over cases and tiles.
    lesions
        Which structures have lesions, for lesions.csv.
    map_digits
        Binary digits that the numbers of maps keep, 6 to 23, see ``round_mantissa``.
    probability_format
        ``"npz"``: CASE.npz and CASE.pkl, as nnU-Net writes them; ``"nifti"``: an image per class in probabilities/,
        with the file ending of the maps.

    Examples
    --------
    >>> from nnunet_stochastic import StochasticPredictor, predict_folder
    >>> folder = "nnUNet_results/Dataset501_X/nnUNetTrainerMoB__nnUNetPlans__3d_fullres"
    >>> predictor = StochasticPredictor.from_model_folder(folder, folds=(0,))
    >>> report = predict_folder(predictor, [["imagesTs/case_001_0000.nii.gz"]], "out")
    >>> report.failures, list(report.cases)
    ({}, ['case_001'])
    >>> sorted(report.cases["case_001"]["volume_ml"])
    ['nodule']
    """
    if probability_format not in PROBABILITY_FORMATS:
        raise ValueError(f"probability_format must be one of {PROBABILITY_FORMATS}, got {shown(probability_format)}")
    if not MIN_MAP_DIGITS <= map_digits <= MAX_MAP_DIGITS:
        raise ValueError(f"map_digits must be {MIN_MAP_DIGITS} to {MAX_MAP_DIGITS}, got {map_digits}")
    lesions = lesions.checked(EvaluatedLabels.from_dataset_json(predictor.model.dataset_json))
    if not 0 <= part_id < num_parts:
        raise ValueError(f"part_id must be in 0 … num_parts - 1, got part {part_id} of {num_parts}")
    if min(preprocessing_threads, export_threads) < 0:
        raise ValueError(f"numbers of threads must not be negative, got {preprocessing_threads} and {export_threads}")
    model = predictor.model
    stage = model.configuration_manager.previous_stage_name
    if (previous_stage_folder is None) != (stage is None):
        raise ValueError(
            f"{model.configuration_name} is no cascade, it takes no predictions of a previous stage"
            if stage is None
            else f"{model.configuration_name} is a cascade: predict the images with {stage} first and name that folder "
            "with -prev_stage_predictions"
        )
    images_folder = images if isinstance(images, (str, Path)) else None
    check_output_folder(output_folder, images_folder, previous_stage_folder)
    file_ending = model.dataset_json["file_ending"]
    if isinstance(images, (str, Path)) and Path(images).is_dir() and holds_series_folders(Path(images)):
        cases: Sequence[InputCase] = find_dicom_cases(
            Path(images),
            Path(output_folder),
            file_ending=file_ending,
            num_channels=model.num_image_channels,
            previous_stage_folder=None if previous_stage_folder is None else Path(previous_stage_folder),
        )
    elif isinstance(images, (str, Path)):
        cases = find_input_cases(
            images,
            file_ending=file_ending,
            num_channels=model.num_image_channels,
            previous_stage_folder=previous_stage_folder,
        )
    else:
        cases = cases_from_files(images, file_ending=file_ending, previous_stage_folder=previous_stage_folder)
    reader_writer = model.plans_manager.image_reader_writer_class
    output = OutputFolder(
        Path(output_folder),
        file_ending,
        map_ending(reader_writer, file_ending),
        predictor.maps,
        save_probabilities,
        predictor.options.num_saved_samples,
        map_digits,
        predictor.model.label_manager.num_segmentation_heads if probability_format == "nifti" else None,
    )
    if lesions.min_ml and cases:
        _check_volumes(cases[0], lesions, reader_writer())
    remove_dead_caches()
    with locked_output_folder(output.folder, num_parts=num_parts, part_id=part_id):
        cases = cases[part_id::num_parts]
        names = {case.name for case in cases}
        foreign = output.common_files()  # before the records are read: another part may write both meanwhile
        earlier = earlier_predictions(output.folder)
        output.check_free(cases, foreign, earlier)
        output.create()
        settings = {**predictor.settings(), **output.settings(), **lesions.settings()}
        record = Record(
            output.folder,
            settings,
            resume=continue_prediction,
            num_parts=num_parts,
            part_id=part_id,
            other_cases=names | earlier.cases,
        )
        _copy_model_files(predictor, images, output, num_parts, part_id)

        output.discard_leftovers(names)
        pipeline = Pipeline(predictor, output, record, lesions)
        if continue_prediction:
            if others := sorted(record.cases.keys() - names):
                note(f"of other images, and kept: {', '.join(others)}")
            with thread_executor(preprocessing_threads) as executor:
                cases = [
                    case for case, done in zip(cases, executor.map(pipeline.is_done, cases), strict=True) if not done
                ]
        failures = pipeline.run(cases, preprocessing_threads, export_threads, progress)
        record.finish()
        return FolderReport(failures, record.cases)


def _check_volumes(case: InputCase, lesions: LesionChoice, reader: BaseReaderWriter) -> None:
    """Refuse at once, and not case by case, a least volume of lesions in images whose voxels have no volume."""
    try:
        _, properties = case.read(reader)
    except Exception:  # readers raise what their libraries raise: that is the failure of this case, told later
        return
    lesions.check_image(case.files[0], properties)


def _copy_model_files(
    predictor: StochasticPredictor, images: Any, output: OutputFolder, num_parts: int, part_id: int
) -> None:
    """The files that nnU-Net's predictor leaves beside its predictions; its other commands read them."""
    arguments = {
        "list_of_lists_or_source_folder": str(images)
        if isinstance(images, (str, Path))
        else [list(map(str, i)) for i in images],
        "output_folder_or_list_of_truncated_output_files": str(output.folder),
        "save_probabilities": output.probabilities,
        "num_parts": num_parts,
        "part_id": part_id,
    }
    write_json(output.folder / "predict_from_raw_data_args.json", arguments)
    write_json(output.folder / "dataset.json", predictor.model.dataset_json)
    write_json(output.folder / "plans.json", predictor.model.plans_manager.plans)
