"""Uncertainty maps of a case: where they are, and what must be true of them.

AU, EU and TU are the files of the folders aleatoric, epistemic and total beside the segmentations: nats, finite and at
least 0, on the voxel grid of the segmentation. An entropy of C classes is at most ln C, that of regions ln 2;
so are AU and EU before the factor of ``--rescale_epistemic``, and TU is not more than their sum. The folder variance
holds

    Σ_c Var[p_c] = E[Σ_c p_c²] - Σ_c E[p_c]² <= 1 - 1/C    for C > 2 classes: Σ p_c² <= 1, Σ E[p_c]² >= 1/C
                   Var[p_1] <= 1/4                         for two classes, of the foreground
                                 Σ_c Var[p_c] <= C/4       for C regions
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from nnunet_stochastic.io.grid import check_same_grid
from nnunet_stochastic.io.images import ImageReader, read_volume
from nnunet_stochastic.io.text import read_json_if_complete
from nnunet_stochastic.labels import EvaluatedLabels
from nnunet_stochastic.measures import FOLDERS, MEASURES, Measure

__all__ = ["FOLDERS", "MEASURES", "Measure", "check_values", "find_map", "find_maps", "float_endings", "read_map"]

_VARIANCE = "variance"
_ROUNDING = 1e-2  # of files that keep few digits


def float_endings(file_ending: str) -> tuple[str, ...]:
    """File endings that images of fractions may have; where the dataset's format holds none (png), they are tif."""
    return tuple(dict.fromkeys((file_ending, ".tif")))


def find_map(prediction_folder: Path, map_name: str, case: str, file_ending: str) -> Path | None:
    """The file of a map, or None."""
    for ending in float_endings(file_ending):
        path = prediction_folder / map_name / f"{case}{ending}"
        if path.is_file():
            return path
    return None


def find_maps(prediction_folder: Path, case: str, file_ending: str) -> dict[Measure, Path]:
    """Files of the measures that a case has."""
    found = {measure: find_map(prediction_folder, folder, case, file_ending) for measure, folder in FOLDERS.items()}
    return {measure: path for measure, path in found.items() if path is not None}


def check_values(path: Path, volume: np.ndarray, labels: EvaluatedLabels) -> None:
    """Raise ``ValueError`` if a map (z, y, x) has values that a map of its folder cannot have of these classes."""
    smallest, largest = float(volume.min(initial=0)), float(volume.max(initial=0))
    if not (smallest >= 0 and np.isfinite(largest)):  # false for NaN too
        raise ValueError(
            f"{path} must have finite values of at least 0, got {smallest:g} to {largest:g}; predict this case again"
        )
    limit, unit = _limit(path, labels)
    if largest > (1 + _ROUNDING) * limit:
        raise ValueError(
            f"{path} has values up to {largest:g}, which is more than {limit:g}{unit}, the largest {path.parent.name} "
            "uncertainty of the classes of dataset.json; predict this case again"
        )
    if largest > 0 and np.array_equal(volume, np.rint(volume)):
        raise ValueError(
            f"{path} holds whole numbers alone, as a label map does and no uncertainty; predict this case again"
        )


def _limit(path: Path, labels: EvaluatedLabels) -> tuple[float, str]:
    """The largest value of the maps of a folder, and its unit."""
    if path.parent.name == _VARIANCE:
        if labels.has_regions or labels.num_labels == 2:
            return len(labels.classes) / 4, ""
        return 1 - 1 / labels.num_labels, ""
    entropy = float(np.log(2 if labels.has_regions else labels.num_labels))
    factor = _epistemic_factor(path.parent.parent)
    return {FOLDERS["AU"]: 1, FOLDERS["EU"]: factor}.get(path.parent.name, 1 + factor) * entropy, " nats"


def _epistemic_factor(prediction_folder: Path) -> float:
    """Factor of ``--rescale_epistemic``, by the folder's record."""
    path = prediction_folder / "uncertainty.json"
    return _recorded_factor(path, path.stat().st_mtime_ns) if path.is_file() else 1.0


@lru_cache(maxsize=64)
def _recorded_factor(path: Path, changed: int) -> float:
    """The record is long, and read for each map: once, until it is changed."""
    record = read_json_if_complete(path, dict) or {}
    settings = record.get("settings")
    factor = settings.get("epistemic_factor", 1.0) if isinstance(settings, dict) else 1.0
    return float(factor) if isinstance(factor, (int, float)) else 1.0


def read_map(
    path: Path,
    reader: ImageReader,
    labels: EvaluatedLabels,
    *,
    prediction: Path,
    shape: tuple[int, ...],
    grid: dict,
) -> np.ndarray:
    """Read a map (z, y, x), float.

    Parameters
    ----------
    path
        File of the map, in the folder of its kind.
    reader
        nnU-Net's reader of the dataset.
    labels
        The classes.
    prediction, shape, grid
        File, size (z, y, x) and grid of the segmentation.

    Raises
    ------
    ValueError
        Another grid, or values that are no uncertainty.
    """
    channels, map_grid = read_volume(path, reader)
    check_same_grid(prediction, shape, grid, path, channels.shape[1:], map_grid)
    check_values(path, channels[0], labels)
    return channels[0]
