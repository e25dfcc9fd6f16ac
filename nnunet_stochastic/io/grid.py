"""The voxel grid of a file, as nnU-Net's reader describes it: equal grids, the patient's axes, a voxel's volume."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["check_same_grid", "flipped_axes", "voxel_volume_ml"]

# Slice distance that nnU-Net's reader of natural images gives them.
_NO_SLICE_DISTANCE = 999


def check_same_grid(
    path: Path, shape: tuple[int, ...], grid: dict, other_path: Path, other_shape: tuple[int, ...], other_grid: dict
) -> None:
    """Require the same size, spacing, origin and direction (or affine), up to the rounding of file formats."""
    if shape != other_shape:
        raise ValueError(f"{path} has size {_xyz(shape)}, {other_path} has {_xyz(other_shape)} (x, y, z)")
    smallest_mm = float(np.min(grid["spacing"]))
    mine, other = _geometry(grid), _geometry(other_grid)
    for name in sorted(mine.keys() & other.keys()):
        tolerance = 1e-4 if name == "direction" else 1e-2 * smallest_mm
        if mine[name].shape != other[name].shape or not np.allclose(mine[name], other[name], rtol=1e-4, atol=tolerance):
            raise ValueError(
                f"{path} and {other_path} differ in {name}: {_text(mine[name])} and {_text(other[name])}; "
                "both must be on the voxel grid of the image"
            )


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


def voxel_volume_ml(grid: Mapping[str, Any]) -> float | None:
    """Volume of a voxel in ml, ``None`` for 2D images, which have none; ``grid`` is what the reader returned."""
    if "sitk_stuff" in grid:
        is_flat = len(grid["sitk_stuff"]["spacing"]) == 2
    else:
        is_flat = "nibabel_stuff" not in grid and grid["spacing"][0] == _NO_SLICE_DISTANCE
    return None if is_flat else float(np.prod(grid["spacing"])) / 1000


def _geometry(grid: dict) -> dict[str, np.ndarray]:
    """What the reader knows of the voxel grid beyond its size; readers keep it under different names."""
    geometry = {"spacing": grid["spacing"]}
    if "sitk_stuff" in grid:
        geometry |= {key: grid["sitk_stuff"][key] for key in ("origin", "direction")}
    if "nibabel_stuff" in grid:
        affines = grid["nibabel_stuff"]
        geometry["affine"] = affines.get("reoriented_affine", affines["original_affine"])
    return {name: np.asarray(value, dtype=float) for name, value in geometry.items()}


def _xyz(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in reversed(shape))


def _text(values: np.ndarray) -> str:
    return np.array2string(values, precision=6, separator=", ").replace("\n", "")
