import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from scipy.spatial.transform import Rotation
from skimage import io

from nnunet_stochastic.inference.images import map_ending, write_map
from nnunet_stochastic.io.grid import voxel_volume_ml

ARRAY = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)


def oblique(flips: tuple[int, int, int] = (1, 1, 1)) -> np.ndarray:
    return Rotation.from_euler("xyz", [10, -20, 30], degrees=True).as_matrix() * flips


def write_itk(path, array=ARRAY):
    image = sitk.GetImageFromArray(array)
    dimension = image.GetDimension()
    image.SetSpacing((0.7, 0.8, 2.5)[:dimension])
    image.SetOrigin((-10.0, 20.0, 30.0)[:dimension])
    image.SetDirection(oblique((-1, 1, 1)).flatten() if dimension == 3 else (0, 1, -1, 0))
    sitk.WriteImage(image, str(path))


def assert_same_geometry(first, second):
    first, second = sitk.ReadImage(str(first)), sitk.ReadImage(str(second))
    assert first.GetSize() == second.GetSize()
    np.testing.assert_allclose(first.GetSpacing(), second.GetSpacing(), rtol=1e-5)
    np.testing.assert_allclose(first.GetOrigin(), second.GetOrigin(), rtol=1e-5)
    np.testing.assert_allclose(first.GetDirection(), second.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(sitk.GetArrayFromImage(first), sitk.GetArrayFromImage(second), rtol=1e-6)


@pytest.mark.parametrize("reader_writer", [SimpleITKIO, SimpleITKIOWithReorient, NibabelIO, NibabelIOWithReorient])
def test_an_image_written_as_map_is_the_image(tmp_path, reader_writer):
    source, target = tmp_path / "case_0000.nii.gz", tmp_path / "map.nii.gz"
    write_itk(source)
    array, properties = reader_writer().read_images([str(source)])
    write_map(array[0], target, properties, reader_writer)
    assert_same_geometry(source, target)
    assert nibabel.load(target).get_data_dtype() == np.float32
    assert voxel_volume_ml(properties) == pytest.approx(0.7 * 0.8 * 2.5 / 1000, rel=1e-5)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_other_formats_of_simpleitk(tmp_path, ending):
    source, target = tmp_path / f"case_0000{ending}", tmp_path / f"map{ending}"
    write_itk(source)
    array, properties = SimpleITKIO().read_images([str(source)])
    write_map(array[0], target, properties, SimpleITKIO)
    assert_same_geometry(source, target)


def test_2d_image_of_simpleitk(tmp_path):
    source, target = tmp_path / "case_0000.nii.gz", tmp_path / "map.nii.gz"
    write_itk(source, ARRAY[0])
    array, properties = SimpleITKIO().read_images([str(source)])
    write_map(array[0], target, properties, SimpleITKIO)
    assert_same_geometry(source, target)
    assert voxel_volume_ml(properties) is None


def test_natural_image(tmp_path):
    assert map_ending(NaturalImage2DIO, ".png") == ".tif"
    io.imsave(tmp_path / "case_0000.png", np.zeros((5, 6), dtype=np.uint8), check_contrast=False)
    _, properties = NaturalImage2DIO().read_images([str(tmp_path / "case_0000.png")])
    write_map(ARRAY[:1], tmp_path / "map.tif", properties, NaturalImage2DIO)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "map.tif"), ARRAY[0])
    assert voxel_volume_ml(properties) is None


def test_tif_with_its_spacing(tmp_path):
    properties = {"spacing": [2.5, 0.8, 0.7]}
    write_map(ARRAY, tmp_path / "map.tif", properties, Tiff3DIO)
    array, read = Tiff3DIO().read_seg(str(tmp_path / "map.tif"))
    np.testing.assert_array_equal(array[0], ARRAY)
    assert read == properties


def test_unknown_reader_is_an_error():
    with pytest.raises(ValueError, match="cannot be written for images read with int"):
        map_ending(int, ".xyz")
