"""Evaluate a folder of predictions from Python: ``nnunet_stochastic_evaluate`` without its tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_stochastic.conventions import DEFAULT_CONVENTION, find_convention
from nnunet_stochastic.evaluation.applied_decisions import read_applied_decisions
from nnunet_stochastic.evaluation.calibration import CALIBRATION_FILE, Calibration
from nnunet_stochastic.evaluation.case_sets import ID, SetFolders, find_case_sets
from nnunet_stochastic.evaluation.evaluate import Evaluation, evaluate_sets
from nnunet_stochastic.evaluation.model import check_same_model, describe_model
from nnunet_stochastic.evaluation.parallel import Workers
from nnunet_stochastic.evaluation.predicted_dataset import read_dataset
from nnunet_stochastic.evaluation.records import CaseSettings
from nnunet_stochastic.evaluation.structure_scores import SURFACE_TOLERANCE_MM
from nnunet_stochastic.io.output_locks import locked_output_folder
from nnunet_stochastic.patients import read_patients

__all__ = ["describe_one_model", "evaluate_folder"]


def describe_one_model(
    folders: Mapping[str, SetFolders], calibration: Calibration | None, calibration_file: Path | None
) -> dict[str, Any]:
    """Result of ``describe_model`` for the predictions in distribution.

    Parameters
    ----------
    folders
        Folders by name of the set, ID among them.
    calibration, calibration_file
        What was fitted to validation predictions, and its file; ``None`` where there is none.

    Raises
    ------
    ValueError
        A shift or the calibration is of another model.
    """
    predictions = folders[ID].predictions
    model = describe_model(predictions)
    for name, places in folders.items():
        if name != ID:
            check_same_model(model, predictions, describe_model(places.predictions), places.predictions)
    if calibration is not None and calibration.model is not None and calibration_file is not None:
        check_same_model(model, predictions, calibration.model, calibration_file)
    return model


def evaluate_folder(
    predictions: str | Path,
    references: str | Path,
    *,
    raters: str | Path | None = None,
    shifts: Mapping[str, SetFolders] | None = None,
    validation: str | Path | None = None,
    dataset_json: str | Path | None = None,
    convention: str = DEFAULT_CONVENTION,
    nsd_tolerance_mm: float = SURFACE_TOLERANCE_MM,
    decisions: str | Path | None = None,
    groups: str | Path | None = None,
    record_folder: str | Path | None = None,
    resume: bool = False,
    num_processes: int = 1,
    progress: bool = False,
) -> Evaluation:
    """Score the predictions of a folder, and compute the tasks whose input is there.

    Parameters
    ----------
    predictions
        Folder that a prediction with ``save_probabilities`` has written.
    references
        Folder with the reference segmentations.
    raters
        Folder with each rater's segmentation, CASE_rater0 and so on.
    shifts
        Folders of images out of distribution by the name of the shift, predicted with the same model.
    validation
        Folder of predictions with a calibration, as ``nnunet_stochastic_determine_calibration`` writes it.
    dataset_json
        File with the labels; by default the one inside ``predictions``.
    convention
        Preset that decides where papers differ, a key of ``evaluation.PRESETS``.
    nsd_tolerance_mm
        Tolerance of the normalised surface Dice, >= 0, mm.
    decisions
        Folder that ``nnunet_stochastic_apply_calibration --method decisions`` wrote about the predictions; judged.
    groups
        Table of patients, CSV with the columns case and patient; without it each case counts as a patient.
    record_folder
        Folder for a record per case; by default evaluation/records inside ``predictions``.
    resume
        Whether to keep the records of an earlier evaluation of the same files with the same settings.
    num_processes
        Number of cases at a time, at least 1; each process needs memory for the probabilities of its case.
    progress
        Whether to draw progress bars.

    Raises
    ------
    ValueError
        Something is wrong with the files; nothing was computed then. The message lists all findings.

    Examples
    --------
    >>> from nnunet_stochastic import StochasticPredictor, evaluate_folder, predict_folder
    >>> folder = "nnUNet_results/Dataset501_X/nnUNetTrainerMoB__nnUNetPlans__3d_fullres"
    >>> predictor = StochasticPredictor.from_model_folder(folder, folds=(0,))
    >>> predict_folder(predictor, "imagesTs", "out", save_probabilities=True).failures
    {}
    >>> evaluation = evaluate_folder("out", "labelsTs")
    >>> sorted(evaluation.rows["case"].unique())
    ['case_001', 'case_002']
    """
    predictions = Path(predictions)
    places = SetFolders(predictions, Path(references), None if raters is None else Path(raters))
    shifts = shifts or {}
    labels_file = None if dataset_json is None else Path(dataset_json)
    dataset = read_dataset(predictions, labels_file, option="predictions", file_option="dataset_json")
    folders = {ID: places, **shifts}
    fitted = None if validation is None else Path(validation) / CALIBRATION_FILE
    calibration = None if fitted is None else Calibration.load(fitted)
    describe_one_model(folders, calibration, fitted)
    sets, problems = find_case_sets(folders, file_ending=dataset.file_ending, num_raters=dataset.num_raters)
    patients = applied = None
    if groups is not None:
        patients = read_patients(Path(groups), [case.name for case_set in sets for case in case_set.cases])
    if decisions is not None:
        applied, found = read_applied_decisions(Path(decisions), sets, folders, dataset.labels)
        problems = [*problems, *found]
    settings = CaseSettings(dataset.labels, dataset.reader, find_convention(convention), calibration, nsd_tolerance_mm)
    # The command's default output folder, or what was named.
    output = predictions / "evaluation" if record_folder is None else Path(record_folder)
    records = output / "records" if record_folder is None else output
    with (
        locked_output_folder(output, option="record_folder"),
        Workers(num_processes, show_progress=progress) as workers,
    ):
        return evaluate_sets(
            sets,
            settings,
            records,
            problems=problems,
            patients=patients,
            applied=applied,
            resume=resume,
            workers=workers,
        )
