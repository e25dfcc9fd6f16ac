"""What is read off the voxel grids that nnU-Net's readers describe."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_stochastic.io.grid import SOURCE, flipped_axes, spacing_mm, voxel_volume_ml, world_affine
from nnunet_stochastic.io.images import ImageSource

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


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        ({"spacing": (2.5, 0.8, 0.7), "sitk_stuff": {"spacing": (0.7, 0.8, 2.5)}}, (2.5, 0.8, 0.7)),
        ({"spacing": (999, 0.8, 0.7), "sitk_stuff": {"spacing": (0.7, 0.8)}}, (999, 0.8, 0.7)),
        ({"spacing": (999, 2, 1), "nibabel_stuff": {}}, (999, 2, 1)),
        ({"spacing": (999, 1, 1)}, None),
        ({"spacing": [3, 2, 1], "nibabel_stuff": {}, SOURCE: ImageSource(spacing_unit_mm=1000.0)}, (3000, 2000, 1000)),
        ({"spacing": [3, 2, 1], "nibabel_stuff": {}, SOURCE: ImageSource(spacing_unit_mm=None)}, None),
    ],
)
def test_spacing_in_mm(grid, expected):
    assert spacing_mm(grid) == expected


@pytest.mark.parametrize("reader", [SimpleITKIO, NibabelIO, NibabelIOWithReorient])
def test_world_coordinates_are_the_files_own_with_every_reader(tmp_path, reader):
    """A bright voxel of an oblique image, flipped and with its axes in another order."""
    turn, tilt = np.deg2rad(20), np.deg2rad(-35)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]
    )
    affine = np.eye(4)
    affine[:3, :3] = (rotation @ np.diag([-0.7, 1.5, 3]))[:, [1, 0, 2]]
    affine[:3, 3] = (-50, 20, 300)
    image = np.zeros((4, 5, 6), np.float32)
    image[3, 1, 4] = 1
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "image_0000.nii.gz")
    channels, grid = reader().read_images([tmp_path / "image_0000.nii.gz"])
    index = np.argwhere(channels[0] == 1)[0]
    np.testing.assert_allclose(world_affine(grid) @ [*index, 1], affine @ [3, 1, 4, 1], atol=1e-3)


def test_world_coordinates_of_2d_images_and_without_geometry(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((3, 4), np.float32))
    image.SetSpacing((0.5, 2.0))
    image.SetOrigin((10, -7))
    sitk.WriteImage(image, tmp_path / "image_0000.mha")
    _, grid = SimpleITKIO().read_images([tmp_path / "image_0000.mha"])
    x, y = image.TransformIndexToPhysicalPoint((3, 2))
    np.testing.assert_allclose(world_affine(grid) @ [0, 2, 3, 1], [-x, -y, 0, 1])
    np.testing.assert_allclose(world_affine({"spacing": (999, 1, 1)}) @ [0, 2, 3, 1], [3, 2, 0, 1])
    np.testing.assert_allclose(world_affine({"spacing": (3, 2, 1.5)}) @ [1, 2, 3, 1], [4.5, 4, 3, 1])
