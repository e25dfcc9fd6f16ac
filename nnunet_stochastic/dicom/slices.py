"""The order of slices by their positions, and the regular grid that they must form; see ``series`` for the formula."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nnunet_stochastic.io.names import counted, few

__all__ = ["on_same_grid", "ordered_slices"]

_SAME_PLACE_MM = 1e-2
_TOLERANCE_VOXELS = 0.1
_TOLERANCE_DIRECTIONS = 1e-3
#: A gap of so many slice distances has a slice missing in it.
_GAP = 1.5
#: From DICOM's left and posterior to right and anterior.
_TO_RIGHT_ANTERIOR_SUPERIOR = np.array([-1.0, -1.0, 1.0])


def ordered_slices(
    folder: Path,
    names: Sequence[str],
    *,
    positions: np.ndarray,
    orientation: np.ndarray,
    pixel_spacing_mm: np.ndarray,
) -> tuple[list[int], np.ndarray]:
    """Order slices along their normal.

    Parameters
    ----------
    folder, names
        Folder of the slices and names of the N files, for messages.
    positions
        Centre of the first pixel of each, (N, 3), mm: left, posterior, superior.
    orientation
        Directions along which columns and rows are counted, (6,), unit vectors.
    pixel_spacing_mm
        Distance of rows and of columns, (2,), > 0, mm.

    Returns
    -------
    tuple[list[int], numpy.ndarray]
        Indices of the slices in order, and the affine (4, 4) from (slice, row, column, 1) to mm: right, anterior,
        superior.

    Raises
    ------
    ValueError
        The slices form no regular grid.
    """
    if len(names) < 2:
        raise ValueError(f"{folder} has one slice, {names[0]}: an image of at least two is needed")
    along_columns, along_rows = orientation[:3], orientation[3:]
    lengths = np.linalg.norm([along_columns, along_rows], axis=1)
    numbers = np.concatenate([positions.ravel(), orientation, pixel_spacing_mm])
    if not np.isfinite(numbers).all() or pixel_spacing_mm.min() <= 0:
        raise ValueError(f"{folder} has positions or spacings that are no numbers, or not positive: export it again")
    if np.abs(lengths - 1).max() > _TOLERANCE_DIRECTIONS or abs(along_columns @ along_rows) > _TOLERANCE_DIRECTIONS:
        raise ValueError(
            f"{folder} has ImageOrientationPatient {orientation}: two perpendicular unit vectors are needed"
        )
    normal = np.cross(along_columns, along_rows)
    order = np.argsort(positions @ normal, kind="stable")
    positions, named = positions[order], [names[index] for index in order]
    gaps = np.diff(positions @ normal)
    _check_gaps(folder, named, gaps)
    distance_mm = gaps.sum() / len(gaps)
    steps = np.stack([distance_mm * normal, pixel_spacing_mm[0] * along_rows, pixel_spacing_mm[1] * along_columns])
    expected = positions[0] + np.arange(len(named))[:, None] * steps[0]
    _check_places(folder, named, np.linalg.solve(steps.T, (positions - expected).T).T)
    affine = np.eye(4)
    affine[:3, :3] = (steps * _TO_RIGHT_ANTERIOR_SUPERIOR).T
    affine[:3, 3] = positions[0] * _TO_RIGHT_ANTERIOR_SUPERIOR
    return order.tolist(), affine


def on_same_grid(affine: np.ndarray, other: np.ndarray, shape: tuple[int, int, int]) -> bool:
    """Whether the voxels of two affines (4, 4) lie within a tenth of a voxel of each other, all over a volume."""
    corners = np.array([[*index, 1] for index in itertools.product(*((0, size - 1) for size in shape))], dtype=float)
    offsets = np.linalg.solve(affine, (other - affine) @ corners.T)
    return bool(np.abs(offsets).max() <= _TOLERANCE_VOXELS)


def _check_gaps(folder: Path, names: Sequence[str], gaps: np.ndarray) -> None:
    """Raise for slices that are there twice, or missing; ``gaps`` (N - 1,), mm, between neighbours of N names."""
    pairs = [f"{first} and {second}" for first, second in itertools.pairwise(names)]
    if twice := [pair for pair, gap in zip(pairs, gaps, strict=True) if gap < _SAME_PLACE_MM]:
        raise ValueError(
            f"{folder} has duplicate slices, {few(twice, 'pairs')} lie at one place: leave one image in it"
        )
    distance_mm = float(np.median(gaps))
    holes = [(pair, gap) for pair, gap in zip(pairs, gaps, strict=True) if gap > _GAP * distance_mm]
    if holes:
        number = sum(max(1, round(gap / distance_mm) - 1) for _, gap in holes)
        raise ValueError(
            f"{folder} lacks {counted(number, 'slice')}, between {few([pair for pair, _ in holes], 'pairs')}: slices "
            f"are {distance_mm:g} mm apart, and these {', '.join(f'{gap:g}' for _, gap in holes[:3])} mm"
        )


def _check_places(folder: Path, names: Sequence[str], offsets: np.ndarray) -> None:
    """Raise where slices are not on the grid; ``offsets`` (N, 3), voxels along slices, rows and columns."""
    in_plane, across = np.abs(offsets[:, 1:]).max(axis=1), np.abs(offsets[:, 0])
    if in_plane.max() > _TOLERANCE_VOXELS:
        worst = int(in_plane.argmax())
        raise ValueError(
            f"{folder} has slices that are not above each other, as a gantry tilt gives them: {names[worst]} lies "
            f"{in_plane[worst]:.3g} pixels beside {names[0]}; resample the series to a regular grid first"
        )
    if across.max() > _TOLERANCE_VOXELS:
        worst = int(across.argmax())
        raise ValueError(
            f"{folder} has slices at uneven distances: {names[worst]} lies {across[worst]:.3g} slices beside its place "
            f"between {names[0]} and {names[-1]}; resample the series to a regular grid first"
        )
