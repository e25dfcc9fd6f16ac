"""The script that makes the fixture: contour to mask, and grouping, on cases worked out by hand."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def make_fixture():
    path = Path(__file__).parents[2] / "examples" / "demo" / "make_fixture.py"
    specification = importlib.util.spec_from_file_location("make_fixture", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def square(low, high):
    """Closed contour through every pixel of a square's border, (N, 2) as (row, column)."""
    side = np.arange(low, high)
    edges = [(low, side), (side, high), (high, side[::-1] + 1), (side[::-1] + 1, low), (low, [low])]
    return np.vstack([np.column_stack(np.broadcast_arrays(*edge)) for edge in edges])


def test_contour_pixels_do_not_belong_to_the_nodule(make_fixture):
    mask = make_fixture.rasterise([(True, 7, square(2, 8))], np.array([7, 2, 2]), (1, 7, 7))
    expected = np.zeros((1, 7, 7), bool)
    expected[0, 1:6, 1:6] = True
    np.testing.assert_array_equal(mask, expected)


def test_exclusion_contour_and_its_pixels_are_taken_out_whatever_the_order(make_fixture):
    contours = [(False, 0, square(3, 5)), (True, 0, square(0, 8))]
    mask = make_fixture.rasterise(contours, np.array([0, 0, 0]), (1, 9, 9))
    expected = np.zeros((1, 9, 9), bool)
    expected[0, 1:8, 1:8] = True
    expected[0, 3:6, 3:6] = False
    np.testing.assert_array_equal(mask, expected)


def test_two_regions_in_one_slice_are_joined(make_fixture):
    contours = [(True, 0, square(0, 3)), (True, 0, square(4, 7))]
    mask = make_fixture.rasterise(contours, np.array([0, 0, 0]), (1, 8, 8))
    assert mask.sum() == 8
    assert mask[0, 1:3, 1:3].all()
    assert mask[0, 5:7, 5:7].all()


def test_clusters_are_connected_components_of_near_contours(make_fixture):
    annotations = {
        10: [(True, 0, square(0, 4))],
        11: [(True, 1, square(0, 4))],  # one slice from 10
        12: [(True, 0, square(20, 24))],
        13: [(True, 3, square(0, 4))],  # two slices from 11
    }
    assert make_fixture.cluster_annotations(annotations, 1.0) == [[10, 11], [12], [13]]
    assert make_fixture.cluster_annotations(annotations, 2.0) == [[10, 11, 13], [12]]


def test_tolerance_shrinks_until_no_cluster_exceeds_four(make_fixture):
    annotations = {k: [(True, k, square(0, 4))] for k in range(4)}
    annotations[4] = [(True, 5, square(0, 4))]  # two slices from the others
    assert make_fixture.cluster_annotations(annotations, 2.0) == [[0, 1, 2, 3], [4]]
