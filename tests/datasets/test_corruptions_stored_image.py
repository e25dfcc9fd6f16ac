"""Files that are read and written back: the same geometry, numbers and type, in every format."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from scipy.spatial.transform import Rotation
from skimage import io

from nnunet_stochastic.datasets.corruptions import read_stored_image

ARRAY = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
OBLIQUE = Rotation.from_euler("xyz", [10, -20, 30], degrees=True).as_matrix()


def write_itk(path, array=ARRAY):
    image = sitk.GetImageFromArray(array, isVector=False)
    dimension = image.GetDimension()
    image.SetSpacing((0.7, 0.8, 2.5, 1.0)[:dimension])
    image.SetOrigin((-10.0, 20.0, 30.0, 0.0)[:dimension])
    image.SetDirection(OBLIQUE.flatten() if dimension == 3 else np.eye(dimension).flatten())
    sitk.WriteImage(image, str(path))
    return path


def geometry(path):
    image = sitk.ReadImage(str(path))
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection(), image.GetPixelID()


def round_trip(path, change=lambda values: values):
    image = read_stored_image(path)
    target = path.with_name(f"copy_{path.name}")
    image.write(change(image.values), target)
    return image, target


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".gipl"])
@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 5, 6), (5, 6)])
def test_geometry_and_numbers_are_those_of_the_source(tmp_path, ending, shape):
    path = write_itk(tmp_path / f"case_0000{ending}", np.resize(ARRAY, shape))
    image, target = round_trip(path, lambda values: values + 1)
    expected, properties = SimpleITKIO().read_images([str(path)])
    np.testing.assert_array_equal(image.values, expected)
    assert image.number_type == np.int16
    assert geometry(target) == geometry(path)
    written, written_properties = SimpleITKIO().read_images([str(target)])
    np.testing.assert_array_equal(written, expected + 1)
    assert written_properties == properties
    if len(shape) == 3:
        assert image.spacing == pytest.approx(properties["spacing"])


def test_affine_that_is_no_rotation_and_its_codes_stay(tmp_path):
    affine = np.array([[0.7, 0.2, 0, 5], [0, 0.8, 0, 6], [0, 0, -2.5, 7], [0, 0, 0, 1.0]])  # sheared
    source = nibabel.Nifti1Image(ARRAY.T, affine)
    source.header["descrip"] = b"scanner"
    nibabel.save(source, tmp_path / "case_0000.nii.gz")
    _, target = round_trip(tmp_path / "case_0000.nii.gz")
    before, after = nibabel.load(tmp_path / "case_0000.nii.gz"), nibabel.load(target)
    np.testing.assert_array_equal(after.affine, before.affine)
    np.testing.assert_array_equal(after.get_fdata(), before.get_fdata())
    assert after.header == before.header
    assert NibabelIO().read_images([str(target)])[1]["spacing"] == pytest.approx([2.5, np.hypot(0.2, 0.8), 0.7])


def test_scaled_integers_become_floats(tmp_path):
    source = nibabel.Nifti1Image(ARRAY.T, np.eye(4))
    source.header.set_slope_inter(0.5, 3)
    nibabel.save(source, tmp_path / "case_0000.nii.gz")
    expected = nibabel.load(tmp_path / "case_0000.nii.gz").get_fdata()
    image, target = round_trip(tmp_path / "case_0000.nii.gz", lambda values: values + 0.125)
    np.testing.assert_allclose(image.values[0], expected.T)
    assert nibabel.load(target).get_data_dtype() == np.float32
    np.testing.assert_allclose(nibabel.load(target).get_fdata(), expected + 0.125, rtol=1e-6)


def test_channels_of_a_4d_file(tmp_path):
    for ending in (".nii.gz", ".nrrd"):
        path = write_itk(tmp_path / f"case_0000{ending}", np.stack([ARRAY, ARRAY + 1]))
        image, target = round_trip(path)
        np.testing.assert_array_equal(image.values, [ARRAY, ARRAY + 1])
        assert image.spacing == pytest.approx((2.5, 0.8, 0.7))
        assert geometry(target) == geometry(path)


@pytest.mark.parametrize(
    ("number_type", "values", "expected"),
    [
        (np.uint8, [-3.0, 1.5, 2.5, 254.6, 300.0], [0, 2, 2, 255, 255]),
        (np.int16, [-4e4, -1.4, 0.6, 5e4, 7.0], [-32768, -1, 1, 32767, 7]),
        (np.int32, [-3e9, -1.4, 0.6, 3e9, 7.0], [-(2**31), -1, 1, 2**31 - 1, 7]),
        (np.float64, [-3.0, 1.5, 0.1, 1e9, 7.0], np.array([-3.0, 1.5, 0.1, 1e9, 7.0], dtype=np.float32)),
    ],
)
def test_integers_are_rounded_and_clipped_to_their_type(tmp_path, number_type, values, expected):
    path = tmp_path / "case_0000.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 2, 2), dtype=number_type), np.eye(4)), path)
    _, target = round_trip(path, lambda old: np.broadcast_to(np.float32(values), old.shape))
    written = nibabel.load(target)
    np.testing.assert_array_equal(np.asanyarray(written.dataobj)[:, 0, 0], expected)
    assert written.get_data_dtype() == (np.float32 if number_type is np.float64 else number_type)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_pictures(tmp_path, ending, channels):
    pixels = np.random.default_rng(1).integers(0, 250, (9, 10, *channels)).astype(np.uint8)
    path = tmp_path / f"case_0000{ending}"
    io.imsave(path, pixels, check_contrast=False)
    image, target = round_trip(path, lambda values: values + 5)
    expected, _ = NaturalImage2DIO().read_images([str(path)])
    assert image.is_colour == bool(channels)
    np.testing.assert_array_equal(image.values, expected[:3])
    written, _ = NaturalImage2DIO().read_images([str(target)])
    np.testing.assert_array_equal(written[:3], expected[:3] + 5)
    np.testing.assert_array_equal(written[3:], expected[3:])  # alpha
    assert io.imread(target).dtype == np.uint8


def test_png_of_16_bits(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 65536, (9, 10)).astype(np.uint16)
    io.imsave(tmp_path / "case_0000.png", pixels, check_contrast=False)
    image, target = round_trip(tmp_path / "case_0000.png")
    assert image.number_type == np.uint16
    np.testing.assert_array_equal(io.imread(target), pixels)


def test_volume_in_a_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "case_0000.tif", ARRAY, photometric="minisblack")
    (tmp_path / "case.json").write_text(json.dumps({"spacing": [0.5, 2.0, 0.6]}))
    image, target = round_trip(tmp_path / "case_0000.tif")
    assert image.spacing == (0.5, 2.0, 0.6)
    assert image.slice_axis == 1
    np.testing.assert_array_equal(Tiff3DIO().read_images([str(target)])[0][0], ARRAY)
    assert tifffile.imread(target).dtype == np.int16


def test_tiff_with_its_colours_plane_by_plane(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (3, 9, 10)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "case_0000.tif", pixels, photometric="rgb", planarconfig="separate")
    image, target = round_trip(tmp_path / "case_0000.tif")
    assert image.is_colour
    np.testing.assert_array_equal(image.values[:, 0], pixels)
    np.testing.assert_array_equal(NaturalImage2DIO().read_images([str(target)])[0][:, 0], pixels)


def test_files_that_are_no_images(tmp_path):
    path = write_itk(tmp_path / "case_0000.nii.gz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(OSError, match=r"case_0000\.nii\.gz cannot be read"):
        read_stored_image(path)
    with pytest.raises(OSError, match=r"none_0000\.nrrd cannot be read"):
        read_stored_image(tmp_path / "none_0000.nrrd")
    with pytest.raises(ValueError, match="no known format"):
        read_stored_image(tmp_path / "case_0000.dcm")
    write_itk(tmp_path / "nan_0000.mha", np.full((2, 3, 4), np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="NaN or infinite"):
        read_stored_image(tmp_path / "nan_0000.mha")
    vectors = sitk.GetImageFromArray(np.zeros((2, 3, 4, 3), dtype=np.uint8), isVector=True)
    sitk.WriteImage(vectors, str(tmp_path / "rgb_0000.nrrd"))
    with pytest.raises(ValueError, match="colours, vectors or complex"):
        read_stored_image(tmp_path / "rgb_0000.nrrd")
    tifffile.imwrite(tmp_path / "bits_0000.tif", np.ones((8, 9), dtype=bool), photometric="minisblack")
    with pytest.raises(ValueError, match="integers or floats, got bool"):
        read_stored_image(tmp_path / "bits_0000.tif")


def test_headers_that_say_nothing_of_the_spacing(tmp_path):
    path = write_itk(tmp_path / "case_0000.nii")
    whole = path.read_bytes()
    for place, value, error, message in (
        (88, np.nan, ValueError, "has spacing"),
        (84, np.inf, ValueError, "has spacing"),
        (280, np.nan, ValueError, "has sform"),
    ):
        damaged = bytearray(whole)
        damaged[place : place + 4] = np.float32(value).tobytes()
        path.write_bytes(bytes(damaged))
        with pytest.raises(error, match=rf"case_0000\.nii.*{message}"):
            read_stored_image(path)
    tiff = tmp_path / "case_0000.tif"
    tifffile.imwrite(tiff, ARRAY, photometric="minisblack")
    for spacing in ("", "null", '["a", 1, 1]', "[NaN, 1, 1]", "[0, 1, 1]", "[1, 1]"):
        (tmp_path / "case.json").write_text(f'{{"spacing": {spacing}}}')
        with pytest.raises((OSError, ValueError), match=r"case_0000\.tif"):
            read_stored_image(tiff)


def test_values_of_another_shape_are_not_written(tmp_path):
    image = read_stored_image(write_itk(tmp_path / "case_0000.nii.gz"))
    with pytest.raises(ValueError, match=r"shape \(1, 4, 5, 6\) are needed, got \(1, 4, 5, 7\)"):
        image.write(np.zeros((1, 4, 5, 7)), tmp_path / "copy_0000.nii.gz")
