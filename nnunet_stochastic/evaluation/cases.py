"""A case to evaluate: prediction, its probabilities, the reference and the raters' annotations on one voxel grid.

Everything that can be wrong with the files is found here, before a metric is computed, and named case by case.
Files are read through nnU-Net's reader of the dataset, which is handed in, so that axes mean the same as in the
probabilities that nnU-Net wrote.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from nnunet_stochastic.evaluation.labels import EvaluatedLabels

__all__ = [
    "Case",
    "CaseFiles",
    "ImageReader",
    "check_same_grid",
    "find_cases",
    "flipped_axes",
    "load_case",
    "read_label_map",
]


class ImageReader(Protocol):
    """What is used of nnU-Net's ``BaseReaderWriter``."""

    def read_images(self, image_fnames: Sequence[str]) -> tuple[np.ndarray, dict]:
        """Images as (channels, z, y, x) and their properties."""

    def read_seg(self, seg_fname: str) -> tuple[np.ndarray, dict]:
        """A segmentation as (1, z, y, x) and its properties."""


@dataclass(frozen=True)
class CaseFiles:
    """Paths of one case; ``raters`` is empty without rater annotations."""

    name: str
    prediction: Path
    probabilities: Path
    reference: Path
    raters: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Case:
    """Arrays of one case: probabilities (C, z, y, x) float; the label maps (z, y, x) integer."""

    name: str
    probabilities: np.ndarray
    prediction: np.ndarray
    reference: np.ndarray
    raters: tuple[np.ndarray, ...]


def find_cases(
    prediction_folder: Path,
    reference_folder: Path,
    rater_folder: Path | None = None,
    *,
    file_ending: str,
    num_raters: int | None = None,
    allow_missing_predictions: bool = False,
) -> tuple[list[CaseFiles], list[str]]:
    """Pair the files of each case by name.

    Parameters
    ----------
    prediction_folder
        case{file_ending} and case.npz, as the predict command writes them.
    reference_folder
        case{file_ending}.
    rater_folder
        case_rater0{file_ending}, case_rater1 …, or None.
    file_ending
        The dataset's, with its dot.
    num_raters
        A; taken from the files of rater_folder where dataset.json does not say.
    allow_missing_predictions
        Evaluate the predicted cases although the reference folder holds more.

    Returns
    -------
    tuple[list[CaseFiles], list[str]]
        Cases in order of name, and what is missing, one line per finding.
    """
    predictions = _stems(prediction_folder, file_ending)
    references = _stems(reference_folder, file_ending)
    if not predictions:
        raise ValueError(f"There is no prediction (*{file_ending}) in {prediction_folder}.")
    if rater_folder is not None and num_raters is None:
        num_raters = _count_raters(rater_folder, file_ending)

    problems = []
    if unknown := sorted(predictions.keys() - references.keys()):
        problems.append(f"{', '.join(unknown)}: predicted, but not in {reference_folder}")
    if (unpredicted := sorted(references.keys() - predictions.keys())) and not allow_missing_predictions:
        problems.append(
            f"{', '.join(unpredicted)}: in {reference_folder}, but not predicted (--chill evaluates the others)"
        )
    cases = []
    for name in sorted(predictions.keys() & references.keys()):
        raters = ()
        if rater_folder is not None:
            raters = tuple(rater_folder / f"{name}_rater{rater}{file_ending}" for rater in range(num_raters))
        case = CaseFiles(name, predictions[name], prediction_folder / f"{name}.npz", references[name], raters)
        if not case.probabilities.is_file():
            problems.append(f"{name}: no probabilities {case.probabilities}; predict again with --save_probabilities")
        missing = [str(path) for path in raters if not path.is_file()]
        if missing:
            problems.append(f"{name}: rater files are missing: {', '.join(missing)}")
        if case.probabilities.is_file() and not missing:
            cases.append(case)
    return cases, problems


def load_case(files: CaseFiles, labels: EvaluatedLabels, reader: ImageReader) -> Case:
    """Read a case and check it.

    Raises
    ------
    ValueError
        Grids differ, labels are outside the dataset's, or probabilities are unusable.
    """
    prediction, grid = read_label_map(files.prediction, labels, reader)
    annotations = []
    for path in (files.reference, *files.raters):
        annotation, annotation_grid = read_label_map(path, labels, reader)
        check_same_grid(files.prediction, prediction.shape, grid, path, annotation.shape, annotation_grid)
        annotations.append(annotation)
    probabilities = _read_probabilities(files.probabilities, (labels.num_channels, *prediction.shape))
    return Case(files.name, probabilities, prediction, annotations[0], tuple(annotations[1:]))


def read_label_map(path: Path, labels: EvaluatedLabels, reader: ImageReader) -> tuple[np.ndarray, dict]:
    """Label map (z, y, x), integer, and the reader's properties of its grid."""
    array, properties = reader.read_seg(str(path))
    if array.shape[0] != 1:
        raise ValueError(f"{path} has {array.shape[0]} channels; a label map has one.")
    highest = labels.num_labels - 1 if labels.ignore_label is None else labels.ignore_label
    found = np.unique(array)
    # ``isin`` also refuses fractions and NaN, which a cast to integers would hide.
    outside = found[~np.isin(found, np.arange(highest + 1))]
    if outside.size:
        values = ", ".join(f"{value:g}" for value in outside[:10])
        raise ValueError(f"{path} holds {values}; the labels of dataset.json are 0 to {highest}.")
    return array[0].astype(np.uint8 if highest < 256 else np.int32), properties


def check_same_grid(
    path: Path, shape: tuple[int, ...], grid: dict, other_path: Path, other_shape: tuple[int, ...], other_grid: dict
) -> None:
    """Require the same size, spacing, origin and direction (or affine), up to the rounding of file formats."""
    if shape != other_shape:
        raise ValueError(f"{path} has size {_xyz(shape)}, {other_path} has {_xyz(other_shape)} (x, y, z).")
    smallest_mm = float(np.min(grid["spacing"]))
    mine, other = _geometry(grid), _geometry(other_grid)
    for name in sorted(mine.keys() & other.keys()):
        tolerance = 1e-4 if name == "direction" else 1e-2 * smallest_mm
        if mine[name].shape != other[name].shape or not np.allclose(mine[name], other[name], rtol=1e-4, atol=tolerance):
            raise ValueError(
                f"{path} and {other_path} differ in {name}: {_text(mine[name])} and {_text(other[name])}. "
                "Both must be on the voxel grid of the image."
            )


def _geometry(grid: dict) -> dict[str, np.ndarray]:
    """What the reader knows of the voxel grid beyond its size; readers keep it under different names."""
    geometry = {"spacing": grid["spacing"]}
    if "sitk_stuff" in grid:
        geometry |= {key: grid["sitk_stuff"][key] for key in ("origin", "direction")}
    if "nibabel_stuff" in grid:
        affines = grid["nibabel_stuff"]
        geometry["affine"] = affines.get("reoriented_affine", affines["original_affine"])
    return {name: np.asarray(value, dtype=float) for name, value in geometry.items()}


def flipped_axes(grid: dict) -> tuple[bool, bool, bool]:
    """Which array axes (z, y, x) run against superior, posterior, left; none where the reader knows no directions.

    Grids whose axes are no z, y, x of the patient, up to an oblique angle, are taken as they are.
    """
    geometry = _geometry(grid)
    if "direction" in geometry and geometry["direction"].size == 9:
        matrix = geometry["direction"].reshape(3, 3)
    elif "affine" in geometry:
        matrix = geometry["affine"][:3, :3] * np.array([[-1], [-1], [1]])  # nibabel's patient axes: right, anterior
    else:
        return (False, False, False)
    if not np.array_equal(np.abs(matrix).argmax(axis=0), [0, 1, 2]):
        return (False, False, False)
    x, y, z = np.diag(matrix) < 0
    return bool(z), bool(y), bool(x)


def _read_probabilities(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        with np.load(path) as archive:
            if "probabilities" not in archive:
                raise ValueError(f"{path} has no array named probabilities; predict again with --save_probabilities.")
            probabilities = archive["probabilities"]
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}); predict this case again.") from error
    if probabilities.shape != shape:
        raise ValueError(
            f"{path} has shape {probabilities.shape}; segmentation and dataset.json give (C, z, y, x) = {shape}."
        )
    # Half precision would overflow in sums and is slow on the CPU.
    probabilities = probabilities.astype(np.float32) if probabilities.dtype == np.float16 else probabilities
    if np.isnan(probabilities).any():
        raise ValueError(f"{path} has NaN in {int(np.isnan(probabilities).sum())} of its probabilities.")
    if probabilities.min() < -1e-5 or probabilities.max() > 1 + 1e-5:
        raise ValueError(
            f"{path} has probabilities outside [0, 1]: {probabilities.min():g} to {probabilities.max():g}."
        )
    return probabilities


def _stems(folder: Path, file_ending: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {folder} does not exist.")
    return {
        path.name.removesuffix(file_ending): path
        for path in folder.iterdir()
        if path.name.endswith(file_ending) and not path.name.startswith(".")  # macOS leaves ._case files
    }


def _count_raters(folder: Path, file_ending: str) -> int:
    indices = [int(match[1]) for stem in _stems(folder, file_ending) if (match := re.search(r"_rater(\d+)$", stem))]
    if not indices:
        raise ValueError(f"There is no rater file (case_rater0{file_ending}, …) in {folder}.")
    return max(indices) + 1


def _xyz(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in reversed(shape))


def _text(values: np.ndarray) -> str:
    return np.array2string(values, precision=6, separator=", ").replace("\n", "")
