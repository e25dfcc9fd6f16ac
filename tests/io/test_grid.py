"""What is read off the voxel grids that nnU-Net's readers describe."""

import numpy as np
import pytest

from nnunet_stochastic.io.grid import flipped_axes, voxel_volume_ml

ARRAY_AXES_TO_LPS = [
    ((1, 0, 0, 0, 1, 0, 0, 0, 1), (False, False, False)),
    ((-1, 0, 0, 0, -1, 0, 0, 0, 1), (False, True, True)),
    ((0.9, 0.1, 0, -0.1, 0.9, 0, 0, 0, -1), (True, False, False)),
    ((0, 0, 1, 1, 0, 0, 0, -1, 0), (False, False, False)),
]


@pytest.mark.parametrize(("direction", "expected"), ARRAY_AXES_TO_LPS)
def test_flipped_axes_of_both_kinds_of_geometry(direction, expected):
    grid = {"spacing": (1, 1, 1), "sitk_stuff": {"origin": (0, 0, 0), "direction": direction}}
    assert flipped_axes(grid) == expected
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1, -1, 1]) @ np.reshape(direction, (3, 3))
    assert flipped_axes({"spacing": (1, 1, 1), "nibabel_stuff": {"original_affine": affine}}) == expected


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        ({"spacing": (2.5, 0.8, 0.7), "sitk_stuff": {"spacing": (0.7, 0.8, 2.5)}}, 0.0014),
        ({"spacing": (999, 0.8, 0.7), "sitk_stuff": {"spacing": (0.7, 0.8)}}, None),
        ({"spacing": (999, 2, 1), "sitk_stuff": {"spacing": (1, 2, 999)}}, 1.998),  # slices may be that far apart
        ({"spacing": (999, 2, 1), "nibabel_stuff": {}}, 1.998),
        ({"spacing": (999, 1, 1)}, None),
        ({"spacing": [1, 1, 1]}, 0.001),
    ],
)
def test_volume_of_a_voxel(grid, expected):
    assert voxel_volume_ml(grid) == (None if expected is None else pytest.approx(expected))
