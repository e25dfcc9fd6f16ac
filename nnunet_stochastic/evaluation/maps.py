"""Uncertainty maps of a case: where they are, and what must be true of them.

AU, EU and TU are the files of the folders aleatoric, epistemic and total beside the segmentations: nats, finite and at
least 0, on the voxel grid of the segmentation. An entropy of C classes is at most ln C, that of regions ln 2;
so are AU and EU before the factor of ``--rescale_epistemic``, and TU is not more than their sum.
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

__all__ = ["FOLDERS", "MEASURES", "Measure", "check_range", "find_map", "find_maps", "read_map"]


def find_map(prediction_folder: Path, map_name: str, case: str, file_ending: str) -> Path | None:
    """The file of a map, or None. Where the dataset's format holds no fractions (png), maps are tif."""
    for ending in (file_ending, ".tif"):
        path = prediction_folder / map_name / f"{case}{ending}"
        if path.is_file():
            return path
    return None


def find_maps(prediction_folder: Path, case: str, file_ending: str) -> dict[Measure, Path]:
    """Files of the measures that a case has."""
    found = {measure: find_map(prediction_folder, folder, case, file_ending) for measure, folder in FOLDERS.items()}
    return {measure: path for measure, path in found.items() if path is not None}


def check_range(path: Path, volume: np.ndarray, measure: Measure, labels: EvaluatedLabels) -> None:
    """Raise ``ValueError`` if a map (z, y, x) has values that are no uncertainty of these classes in nats."""
    entropy = np.log(2 if labels.has_regions else labels.num_labels)
    factor = _epistemic_factor(path.parent.parent)
    limit = {"AU": entropy, "EU": factor * entropy, "TU": (1 + factor) * entropy}[measure]
    if (largest := float(volume.max(initial=0))) > 1.01 * limit:
        raise ValueError(
            f"{path} has values up to {largest:g}, which is more than {limit:g} nats, the largest {measure} of the "
            "classes of dataset.json; predict this case again"
        )


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


def read_map(path: Path, reader: ImageReader, *, prediction: Path, shape: tuple[int, ...], grid: dict) -> np.ndarray:
    """Read a map (z, y, x), float.

    Parameters
    ----------
    path
        File of the map.
    reader
        nnU-Net's reader of the dataset.
    prediction, shape, grid
        File, size (z, y, x) and grid of the segmentation.

    Raises
    ------
    ValueError
        Another grid, or values that are no uncertainty.
    """
    channels, map_grid = read_volume(path, reader)
    check_same_grid(prediction, shape, grid, path, channels.shape[1:], map_grid)
    volume = channels[0]
    if not (volume.min() >= 0 and np.isfinite(volume.max())):  # false for NaN too
        raise ValueError(
            f"{path} must have finite values of at least 0, got {volume.min():g} to {volume.max():g}; "
            "predict this case again"
        )
    return volume
