"""The voxel grid of a file, as nnU-Net's reader describes it: equal grids, axes, the place and volume of a voxel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "SOURCE",
    "check_same_grid",
    "check_spacing",
    "flipped_axes",
    "spacing_mm",
    "voxel_volume_ml",
    "world_affine",
]

#: Where properties keep the `ImageSource` of their file.
SOURCE = "source_file"

# Slice distance that nnU-Net's reader of natural images gives them.
_NO_SLICE_DISTANCE = 999
# Of the cosines that headers keep, with which no image is oblique.
_ROUNDING = 1e-3


def check_spacing(grid: Mapping[str, Any], path: Path | None = None) -> None:
    """Raise ``ValueError`` unless there are three spacings, positive and finite, and all else of the grid is finite.

    Parameters
    ----------
    grid
        What the reader returned, or the caller of the API says.
    path
        File that it is of, for the message.
    """
    whose = "the image" if path is None else str(path)
    try:
        spacing = np.asarray(grid["spacing"], dtype=float)
    except (KeyError, TypeError, ValueError):
        spacing = np.empty(0)
    if spacing.shape != (3,) or not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ValueError(
            f"{whose} needs a spacing of three positive finite numbers (z, y, x), got {grid.get('spacing')!r:.80}; "
            "a 2D image has 999 or its like as the first"
        )
    for name, values in _geometry(grid).items():
        if not np.isfinite(values).all():
            raise ValueError(f"{whose} has {name} {_text(values)}: it must be finite; correct it in the file")
    if (affine := _geometry(grid).get("affine")) is not None and abs(np.linalg.det(affine[:3, :3])) < 1e-30:
        raise ValueError(f"{whose} has affine {_text(affine)}: it must be invertible; correct it in the file")


def check_same_grid(
    path: Path,
    shape: tuple[int, ...],
    grid: Mapping[str, Any],
    other_path: Path,
    other_shape: tuple[int, ...],
    other_grid: Mapping[str, Any],
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
    """Volume of a voxel in ml; ``None`` for 2D images, which have none, and where spacing or its unit is not known.

    Parameters
    ----------
    grid
        What `io.images` returned with the image; of what comes from elsewhere, spacing is in mm.
    """
    unit_mm = _unit_mm(grid)
    is_flat = _is_natural(grid) or ("sitk_stuff" in grid and len(grid["sitk_stuff"]["spacing"]) == 2)
    if is_flat or unit_mm is None:
        return None
    return float(np.prod(grid["spacing"])) * _share_of_box(grid) * unit_mm**3 / 1000


def _share_of_box(grid: Mapping[str, Any]) -> float:
    """Volume of a voxel as a share of the product of its sides: less than 1 where axes are oblique to each other."""
    affines = grid.get("nibabel_stuff", {})
    affine = affines.get("reoriented_affine", affines.get("original_affine"))
    direction = grid.get("sitk_stuff", {}).get("direction", ()) if affine is None else np.asarray(affine)[:3, :3]
    if np.size(direction) != 9:
        return 1.0
    matrix = np.reshape(np.asarray(direction, dtype=float), (3, 3))
    share = float(abs(np.linalg.det(matrix)) / np.prod(np.linalg.norm(matrix, axis=0)))
    return 1.0 if abs(share - 1) < _ROUNDING else share


def spacing_mm(grid: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Distance of neighbouring voxels along (z, y, x), mm; of a 2D image the first one means nothing.

    ``None`` where spacing or its unit is not known, as of natural images.

    Parameters
    ----------
    grid
        What `io.images` returned with the image; of what comes from elsewhere, spacing is in mm.
    """
    unit_mm = _unit_mm(grid)
    if unit_mm is None or _is_natural(grid):
        return None
    z, y, x = (float(spacing) * unit_mm for spacing in grid["spacing"])
    return z, y, x


def world_affine(grid: Mapping[str, Any]) -> np.ndarray:
    """From the index (z, y, x, 1) of a voxel to mm, (4, 4): the world of NIfTI, right, anterior and superior.

    Of a 2D image the first two coordinates are those of its plane. Where the reader knows no place and directions, as
    for natural images, the corner is the origin and the axes run as the array's.

    Parameters
    ----------
    grid
        What `io.images` returned with the image; of what comes from elsewhere, spacing is in mm.
    """
    geometry = _geometry(grid)
    affine = np.diag([*geometry["spacing"][::-1], 1.0])  # of (x, y, z)
    if "affine" in geometry:
        affine = geometry["affine"].copy()
    elif "direction" in geometry:
        number = len(geometry["origin"])
        axes = min(number, 3)  # a file may hold channels as a fourth
        directions = geometry["direction"].reshape(number, number)[:axes, :axes]
        affine[:axes, :axes] = directions * geometry["spacing"][::-1][:axes]
        affine[:axes, 3] = geometry["origin"][:axes]
        affine[:2] *= -1  # ITK's coordinates are left, posterior, superior
    unit_mm = _unit_mm(grid)
    affine[:3] *= 1.0 if unit_mm is None else unit_mm
    return affine[:, [2, 1, 0, 3]]


def _unit_mm(grid: Mapping[str, Any]) -> float | None:
    """Length of the unit of the spacing, mm; ``None`` where that is not known."""
    return grid[SOURCE].spacing_unit_mm if SOURCE in grid else 1.0


def _is_natural(grid: Mapping[str, Any]) -> bool:
    """Whether nnU-Net's reader of natural images made it, whose spacing is none."""
    return "sitk_stuff" not in grid and "nibabel_stuff" not in grid and grid["spacing"][0] == _NO_SLICE_DISTANCE


def _geometry(grid: Mapping[str, Any]) -> dict[str, np.ndarray]:
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
