"""A case to evaluate: prediction, its probabilities, the reference and the raters' annotations on one voxel grid.

Everything that can be wrong with the files is found here, before a metric is computed, and named case by case.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnunet_stochastic.evaluation.maps import FOLDERS, Measure, find_maps, float_endings, read_map
from nnunet_stochastic.evaluation.model import unfinished_cases
from nnunet_stochastic.evaluation.readers import (
    ImageReader,
    read_label_map,
    read_probabilities,
    read_probability_images,
)
from nnunet_stochastic.io.folders import files_by_name
from nnunet_stochastic.io.grid import check_same_grid, spacing_mm, voxel_volume_ml
from nnunet_stochastic.io.names import few, same_letters
from nnunet_stochastic.labels import EvaluatedLabels
from nnunet_stochastic.prediction_choices import PROBABILITIES_FOLDER

__all__ = [
    "CaseFiles",
    "EvaluatedCase",
    "check_case",
    "check_different_folders",
    "find_cases",
    "load_case",
    "load_probabilities",
    "read_case_map",
    "read_sample",
    "read_samples",
]


@dataclass(frozen=True)
class CaseFiles:
    """Paths of one case; all but ``prediction`` only where there are such files.

    ``probabilities`` are one npz file, or an image per channel in order.
    """

    name: str
    prediction: Path
    probabilities: tuple[Path, ...] = ()
    reference: Path | None = None
    raters: tuple[Path, ...] = ()
    maps: Mapping[Measure, Path] = field(default_factory=dict)
    samples: tuple[Path, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """All files of the case."""
        references = () if self.reference is None else (self.reference,)
        return [self.prediction, *self.probabilities, *references, *self.raters, *self.maps.values(), *self.samples]


@dataclass(frozen=True)
class EvaluatedCase:
    """Arrays of one case: probabilities (C, z, y, x) float; the label maps (z, y, x) integer.

    ``grid`` is what the reader says of the voxel grid, empty for arrays that come from no file.
    """

    name: str
    probabilities: np.ndarray | None
    prediction: np.ndarray
    reference: np.ndarray | None
    raters: tuple[np.ndarray, ...] = ()
    grid: dict = field(default_factory=dict)

    @property
    def annotations(self) -> tuple[np.ndarray, ...]:
        """What the tasks compare with: the raters, or the reference alone where there are none."""
        return self.raters or (() if self.reference is None else (self.reference,))

    @property
    def voxel_ml(self) -> float | None:
        """Volume of a voxel in ml; 2D images have none."""
        return voxel_volume_ml(self.grid) if self.grid else None

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """Distance of neighbouring voxels along (z, y, x) in mm; natural images have none."""
        return spacing_mm(self.grid) if self.grid else None


def find_cases(
    prediction_folder: Path,
    reference_folder: Path | None,
    rater_folder: Path | None = None,
    *,
    file_ending: str,
    num_raters: int | None = None,
    allow_missing_predictions: bool = False,
    probabilities: bool = True,
) -> tuple[list[CaseFiles], list[str]]:
    """Pair the files of each case by name.

    Parameters
    ----------
    prediction_folder
        Folder of case{file_ending} and case.npz, as the predict command writes them, with its folders of maps,
        samples, and probabilities where these are images.
    reference_folder
        Folder of case{file_ending}; None for images that nobody annotated.
    rater_folder
        Folder of case_rater0{file_ending}, case_rater1 …, or None.
    file_ending
        File ending of the dataset, with its dot.
    num_raters
        Number A of raters; taken from the files of rater_folder where dataset.json does not say.
    allow_missing_predictions
        Whether to evaluate the predicted cases although the reference folder holds more.
    probabilities
        Whether probabilities must be there; otherwise they are used where they are.

    Returns
    -------
    tuple[list[CaseFiles], list[str]]
        Cases in order of name, and what is missing, one line per finding.
    """
    for what, folder in (("references", reference_folder), ("raters", rater_folder)):
        check_different_folders({"predictions": prediction_folder, what: folder})
    predictions = files_by_name(prediction_folder, file_ending)
    if not predictions:
        raise ValueError(f"there is no prediction (*{file_ending}) in {prediction_folder}")
    references = None if reference_folder is None else files_by_name(reference_folder, file_ending)
    if rater_folder is not None and num_raters == 0:
        raise ValueError(f"dataset.json has num_raters 0, and {rater_folder} is given for raters; correct one of them")
    if rater_folder is not None and num_raters is None:
        num_raters = _count_raters(rater_folder, file_ending)

    problems, names = [], sorted(predictions)
    if references is not None:
        names = sorted(predictions.keys() & references.keys())
        if other_forms := sorted(
            {same_letters(name) for name in predictions.keys() - references.keys()}
            & {same_letters(name) for name in references.keys() - predictions.keys()}
        ):
            problems.append(
                f"{', '.join(other_forms)}: named in two forms of Unicode, in {prediction_folder} and in "
                f"{reference_folder}; rename the files of one of them"
            )
        if unknown := sorted(predictions.keys() - references.keys()):
            problems.append(f"{few(unknown)}: predicted, but not in {reference_folder}")
        if (unpredicted := sorted(references.keys() - predictions.keys())) and not allow_missing_predictions:
            problems.append(
                f"{few(unpredicted)}: in {reference_folder}, but not predicted (--allow_missing_predictions evaluates "
                "the others)"
            )
    if unfinished := sorted(unfinished_cases(prediction_folder) & set(names)):
        problems.append(
            f"{', '.join(unfinished)}: of an earlier prediction, maybe with other settings, as "
            f"{prediction_folder / 'uncertainty.json'} says (other_cases); finish the last one with "
            "--continue_prediction, or remove the files of these cases"
        )
    samples = _numbered(prediction_folder / "samples", file_ending, r"\d{3,}")
    images = _probability_images(prediction_folder / PROBABILITIES_FOLDER, file_ending)
    cases = []
    without_probabilities, in_two_formats, without_raters, absent = [], [], [], []
    for name in names:
        raters: tuple[Path, ...] = ()
        if rater_folder is not None and num_raters is not None:
            raters = tuple(rater_folder / f"{name}_rater{rater}{file_ending}" for rater in range(num_raters))
        npz = prediction_folder / f"{name}.npz"
        of_case = (npz,) if npz.is_file() else tuple(images.get(name, ()))
        if npz.is_file() and name in images:
            in_two_formats.append(name)
        if probabilities and not of_case:
            without_probabilities.append(name)
        if missing := [str(path) for path in raters if not path.is_file()]:
            without_raters.append(name)
            absent += missing
        case = CaseFiles(
            name,
            predictions[name],
            of_case,
            None if references is None else references[name],
            raters,
            find_maps(prediction_folder, name, file_ending),
            tuple(samples.get(name, ())),
        )
        if not missing and (case.probabilities or not probabilities):
            cases.append(case)
    if without_probabilities:
        npz = prediction_folder / f"{without_probabilities[0]}.npz"
        nor_images = f" and none in {prediction_folder / PROBABILITIES_FOLDER}" if images else ""
        problems.append(
            f"{few(without_probabilities)}: no probabilities {npz}{nor_images}; predict again with --save_probabilities"
        )
    if in_two_formats:
        problems.append(
            f"{few(in_two_formats)}: probabilities both as npz file and as images in "
            f"{prediction_folder / PROBABILITIES_FOLDER}; remove those of the older prediction"
        )
    if without_raters:
        problems.append(f"{few(without_raters)}: rater files are missing: {few(absent, 'files')}")
    return cases, [*problems, *_uneven(cases, prediction_folder)]


def check_different_folders(folders: Mapping[str, Path | None]) -> None:
    """Raise if two folders of different meaning are the same: a prediction would be compared with itself.

    Parameters
    ----------
    folders
        By what they are; folders that are not there are left to others.
    """
    found: dict[Path, str] = {}
    for what, folder in folders.items():
        if folder is not None and (other := found.setdefault(folder.resolve(), what)) != what:
            raise ValueError(f"{folder} is given as the folder of {other} and of {what}; name the right one for each")


def load_case(files: CaseFiles, labels: EvaluatedLabels, reader: ImageReader) -> EvaluatedCase:
    """Read the segmentation, probabilities and annotations of a case and check them.

    Raises
    ------
    ValueError
        Grids differ, labels are outside the dataset's, or probabilities are unusable.
    """
    prediction, grid = read_label_map(files.prediction, labels, reader)
    annotations = []
    for path in (*(() if files.reference is None else (files.reference,)), *files.raters):
        annotation, annotation_grid = read_label_map(path, labels, reader)
        check_same_grid(files.prediction, prediction.shape, grid, path, annotation.shape, annotation_grid)
        annotations.append(annotation)
    probabilities = load_probabilities(files, prediction, grid, labels, reader)
    reference = None if files.reference is None else annotations.pop(0)
    return EvaluatedCase(files.name, probabilities, prediction, reference, tuple(annotations), grid)


def load_probabilities(
    files: CaseFiles, prediction: np.ndarray, grid: dict, labels: EvaluatedLabels, reader: ImageReader
) -> np.ndarray | None:
    """Predictive mean (C, z, y, x) of a case whose segmentation was read with its grid; ``None``: no files of it."""
    if not files.probabilities:
        return None
    if files.probabilities[0].suffix == ".npz":
        return read_probabilities(files.probabilities[0], prediction, labels)
    return read_probability_images(files.probabilities, files.prediction, prediction, grid, labels, reader)


def read_case_map(
    files: CaseFiles, case: EvaluatedCase, measure: Measure, labels: EvaluatedLabels, reader: ImageReader
) -> np.ndarray:
    """Map (z, y, x) of a case that was read, in nats."""
    return read_map(
        files.maps[measure], reader, labels, prediction=files.prediction, shape=case.prediction.shape, grid=case.grid
    )


def read_samples(files: CaseFiles, case: EvaluatedCase, labels: EvaluatedLabels, reader: ImageReader) -> np.ndarray:
    """Sampled segmentations (N, z, y, x) of a case that was read, integer."""
    samples = np.empty((len(files.samples), *case.prediction.shape), dtype=case.prediction.dtype)
    for place, path in zip(samples, files.samples, strict=True):
        place[...] = read_sample(path, files, case, labels, reader)
    return samples


def read_sample(
    path: Path, files: CaseFiles, case: EvaluatedCase, labels: EvaluatedLabels, reader: ImageReader
) -> np.ndarray:
    """One sampled segmentation (z, y, x) of a case that was read, integer."""
    sample, grid = read_label_map(path, labels, reader)
    check_same_grid(files.prediction, case.prediction.shape, case.grid, path, sample.shape, grid)
    return sample


def check_case(files: CaseFiles, labels: EvaluatedLabels, reader: ImageReader) -> str | None:
    """Read everything of a case; what is wrong with it, or None."""
    try:
        case = load_case(files, labels, reader)
        for measure in files.maps:
            read_case_map(files, case, measure, labels, reader)
        read_samples(files, case, labels, reader)
    except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: what the readers raise for broken files
        return f"{files.name}: {error}"
    return None


def _uneven(cases: list[CaseFiles], prediction_folder: Path) -> list[str]:
    """Maps and samples that some cases have and others have not."""
    problems = []
    for measure, folder in FOLDERS.items():
        without = [case.name for case in cases if measure not in case.maps]
        if without and len(without) < len(cases):
            problems.append(
                f"{few(without)}: no map in {prediction_folder / folder}, which has those of other cases; "
                "predict these cases again"
            )
    counts = defaultdict(list)
    for case in cases:
        counts[len(case.samples)].append(case.name)
    if len(counts) > 1:
        listed = "; ".join(f"{count} of {few(names)}" for count, names in sorted(counts.items()))
        problems.append(
            f"{prediction_folder / 'samples'} has different numbers of samples: {listed}; predict all cases with the "
            "same --save_samples"
        )
    return problems


def _numbered(folder: Path, file_ending: str, number: str) -> dict[str, list[Path]]:
    """Files case_NUMBER of a folder by case, in order."""
    found: dict[str, list[Path]] = defaultdict(list)
    if folder.is_dir():
        for stem, path in sorted(files_by_name(folder, file_ending).items()):
            if match := re.fullmatch(rf"(.+)_{number}", stem):
                found[match[1]].append(path)
    return found


def _probability_images(folder: Path, file_ending: str) -> dict[str, list[Path]]:
    """Images of the predictive mean by case."""
    endings = float_endings(file_ending)
    return {name: paths for ending in endings for name, paths in _numbered(folder, ending, r"\d{4}").items()}


def _count_raters(folder: Path, file_ending: str) -> int:
    indices = [
        int(match[1]) for stem in files_by_name(folder, file_ending) if (match := re.search(r"_rater(\d+)$", stem))
    ]
    if not indices:
        raise ValueError(f"there is no rater file (case_rater0{file_ending}, …) in {folder}")
    return max(indices) + 1
