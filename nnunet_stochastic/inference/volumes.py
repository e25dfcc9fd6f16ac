"""Volumes of the segmented structures in ml, and how they vary over whole samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_stochastic.io.text import write_table

__all__ = ["VOLUMES_FILE", "structure_volumes", "summarize_volumes", "write_volume_table"]

VOLUMES_FILE = "volumes.csv"
_SPREAD = ("mean_ml", "sd_ml", "p5_ml", "p95_ml")


def structure_volumes(
    segmentation: np.ndarray, labels: Mapping[str, int | Sequence[int]], voxel_ml: float
) -> dict[str, float]:
    """Volume of each class or region in ml.

    Parameters
    ----------
    segmentation
        Label map, integers.
    labels
        Labels of dataset.json: a name's label, or the labels of a region. Background and ignore are left out.
    voxel_ml
        Volume of a voxel.
    """
    counts = np.bincount(segmentation.ravel())
    return {
        name: float(sum(counts[label] for label in np.atleast_1d(values) if label < len(counts)) * voxel_ml)
        for name, values in labels.items()
        if name not in ("background", "ignore")
    }


def summarize_volumes(volumes: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Spread of the volumes of N samples, by structure.

    Returns
    -------
    dict
        ``mean_ml``, ``sd_ml`` (of the samples, N - 1; ``None`` for one sample), ``p5_ml`` and ``p95_ml`` (percentiles
        with linear interpolation), and the ``samples_ml`` themselves.
    """
    result = {}
    for name in volumes[0]:
        values = [volume[name] for volume in volumes]
        low, high = np.percentile(values, [5, 95])
        result[name] = {
            "mean_ml": float(np.mean(values)),
            "sd_ml": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "p5_ml": float(low),
            "p95_ml": float(high),
            "samples_ml": values,
        }
    return result


def write_volume_table(path: Path, cases: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a row per case and structure from the cases of a record; none of them need have samples.

    Columns: case, structure, volume_ml (of the segmentation), num_samples, mean_ml, sd_ml, p5_ml, p95_ml.
    """
    rows = (
        {
            "case": case,
            "structure": structure,
            "volume_ml": volume,
            "num_samples": len(spread.get("samples_ml", ())),
            **{key: spread.get(key) for key in _SPREAD},
        }
        for case, entry in cases.items()
        for structure, volume in entry.get("volume_ml", {}).items()
        for spread in [entry.get("sample_volumes", {}).get(structure, {})]
    )
    write_table(path, ["case", "structure", "volume_ml", "num_samples", *_SPREAD], rows)
