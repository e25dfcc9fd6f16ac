import gzip

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

from nnunet_stochastic.datasets.corruptions.stored_image import read_stored_image
from nnunet_stochastic.inference.images import map_ending, write_labels, write_map
from nnunet_stochastic.io.grid import check_same_grid, voxel_volume_ml
from nnunet_stochastic.io.images import read_image, read_volume

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


def spaced(*steps: float, shift: float = 0) -> np.ndarray:
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = shift
    return affine


#: qform and its code, sform and its code, unit, spacing where it is not the forms': volume of a voxel in ml.
FORMS = {
    "ITK's": ((spaced(1, 2, 3), 1), (spaced(1, 2, 3), 1), "mm", None, 0.006),
    "nibabel's": ((None, 0), (spaced(-1, 2, 3), 2), "unknown", None, 0.006),
    "none": ((None, 0), (None, 0), "mm", (1, 2, 3), 0.006),
    "qform alone": ((spaced(1, 2, 3, shift=7), 3), (None, 0), "mm", None, 0.006),
    "coregistered": ((spaced(1, 2, 3), 1), (spaced(1, 2, 3, shift=5), 2), "mm", None, 0.006),
    "mirrored": ((spaced(1, 2, 3), 1), (spaced(-1, 2, 3), 4), "mm", None, 0.006),
    "micrometres": ((spaced(1, 2, 3), 1), (spaced(1, 2, 3), 1), "micron", None, 6e-12),
    "metres": ((None, 0), (spaced(1, 2, 3), 2), "meter", None, 6e6),
    "disagree": ((None, 0), (spaced(2, 2, 2), 1), "unknown", (1, 1, 1), None),
}


def write_forms(path, forms, array=ARRAY) -> None:
    (qform, qcode), (sform, scode), unit, spacing, _ = forms
    image = nibabel.Nifti1Image(array.T, qform if sform is None else sform)
    image.set_qform(qform, qcode)
    image.set_sform(sform, scode)
    image.header.set_xyzt_units(unit)
    if qform is None and sform is None:
        header = image.header.copy()
        header["pixdim"][1:4] = spacing
        image = nibabel.Nifti1Image(array.T, None, header)
    elif spacing is not None:
        image.header["pixdim"][1:4] = spacing
    nibabel.save(image, path)


def geometry(path) -> dict:
    header = nibabel.load(path).header
    names = [*("qform_code", "sform_code"), *(f"srow_{axis}" for axis in "xyz"), *(f"quatern_{axis}" for axis in "bcd")]
    names += [f"qoffset_{axis}" for axis in "xyz"]
    found = {name: np.asarray(header[name], dtype=float).tolist() for name in names}
    return found | {"spacing": header["pixdim"][1:4].tolist(), "unit": header.get_xyzt_units()[0]}


@pytest.mark.parametrize("forms", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("reader_writer", [SimpleITKIO, SimpleITKIOWithReorient, NibabelIO, NibabelIOWithReorient])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_both_forms_their_codes_and_the_unit_come_back(tmp_path, reader_writer, forms, ending):
    source, maps, labels = (tmp_path / f"{name}{ending}" for name in ("case_0000", "map", "labels"))
    write_forms(source, forms)
    array, properties = read_image([source], reader_writer())
    write_map(array[0], maps, properties, reader_writer)
    write_labels((array[0] > 0.5).astype(np.uint8), labels, properties, reader_writer)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, maps.name, labels.name])
    for written, expected in ((maps, ARRAY), (labels, ARRAY > 0.5)):
        np.testing.assert_array_equal(nibabel.load(written).get_fdata(), expected.T)
        kept, wanted = geometry(written), geometry(source)
        assert kept.pop("unit") == wanted.pop("unit")
        for name, values in wanted.items():
            np.testing.assert_allclose(kept[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    for path, read in ((source, properties), (labels, read_volume(labels, reader_writer())[1])):
        volume = voxel_volume_ml(read)
        assert volume == (None if forms[-1] is None else pytest.approx(forms[-1], rel=1e-5)), path


@pytest.mark.parametrize("name", ["ITK's", "coregistered"])
def test_2d_images_keep_their_forms(tmp_path, name):
    source, target = tmp_path / "case_0000.nii.gz", tmp_path / "map.nii.gz"
    write_forms(source, FORMS[name], ARRAY[0])
    array, properties = read_image([source], SimpleITKIO())
    write_map(array[0], target, properties, SimpleITKIO)
    assert nibabel.load(target).shape == (6, 5)
    np.testing.assert_allclose(nibabel.load(target).get_sform(), nibabel.load(source).get_sform())
    np.testing.assert_allclose(nibabel.load(target).get_qform(), nibabel.load(source).get_qform())
    assert voxel_volume_ml(properties) is None


@pytest.mark.parametrize("reader_writer", [SimpleITKIO, NibabelIO])
def test_files_are_the_librarys_where_they_hold_the_geometry_anyway(tmp_path, reader_writer):
    source = tmp_path / "case_0000.nii.gz"
    if reader_writer is SimpleITKIO:
        write_itk(source)
    else:
        write_forms(source, FORMS["nibabel's"])
    array, properties = read_image([source], reader_writer())
    labels = (array[0] > 0.5).astype(np.uint8)
    write_labels(labels, tmp_path / "ours.nii.gz", properties, reader_writer)
    reader_writer().write_seg(labels, str(tmp_path / "nnunets.nii.gz"), reader_writer().read_images([str(source)])[1])
    ours, nnunets = ((tmp_path / f"{name}.nii.gz").read_bytes() for name in ("ours", "nnunets"))
    assert gzip.decompress(ours) == gzip.decompress(nnunets)


def test_tif_without_a_spacing_has_no_volume_and_gets_no_spacing(tmp_path):
    tifffile.imwrite(tmp_path / "a_0000.tif", ARRAY, photometric="minisblack")
    array, properties = read_image([tmp_path / "a_0000.tif"], Tiff3DIO())
    assert voxel_volume_ml(properties) is None
    write_map(array[0], tmp_path / "map.tif", properties, Tiff3DIO)
    write_labels((array[0] > 0.5).astype(np.uint8), tmp_path / "a.tif", properties, Tiff3DIO)
    assert not list(tmp_path.glob("*.json"))
    assert voxel_volume_ml(read_volume(tmp_path / "a.tif", Tiff3DIO())[1]) is None


def test_maps_and_labels_of_tif_have_the_spacing_beside_them(tmp_path):
    (tmp_path / "case.json").write_text('{"spacing": [3, 2, 1]}')
    tifffile.imwrite(tmp_path / "case_0000.tif", ARRAY, photometric="minisblack")
    array, properties = read_image([tmp_path / "case_0000.tif"], Tiff3DIO())
    (tmp_path / "total").mkdir()
    write_map(array[0], tmp_path / "total" / "case.tif", properties, Tiff3DIO)
    again = read_volume(tmp_path / "total" / "case.tif", Tiff3DIO())[1]
    assert list(again["spacing"]) == list(properties["spacing"]) == [3, 2, 1]
    assert voxel_volume_ml(again) == pytest.approx(0.006)


NO_SPACING = b"# no spacing"
IN_UM = b'space dimension: 3\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace units: "um" "um" "um"'


@pytest.mark.parametrize(
    ("header", "volume_ml"),
    [
        (b"spacings: 1 1 1", 0.001),
        (b"space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)", 0.001),
        (b"space dimension: 3\nspace directions: (1,0,0) (1,1,0) (0,0,2)", 0.002),  # oblique axes
        (NO_SPACING, None),
        (b'spacings: 1 1 1\nunits: "" "" ""', 0.001),
        (b'spacings: 1 1 1\nunits: "s" "s" "s"', None),
        (b'spacings: 1 1 1\nunits: "mm" "mm" "cm"', None),
        (IN_UM, 1e-12),
    ],
)
def test_nrrd_has_a_volume_where_it_has_a_spacing_of_known_unit_and_so_has_what_is_written(tmp_path, header, volume_ml):
    path = tmp_path / "a_0000.nrrd"
    start = b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 3 4\nencoding: raw\n" + header
    path.write_bytes(start + b"\n\n" + bytes(range(24)))
    check_written_like(path, volume_ml)


@pytest.mark.parametrize(
    ("header", "volume_ml"),
    [
        (b"ElementSpacing = 1 2 3", 0.006),
        (b"ElementSize = 1 2 3", 0.006),
        (b"Offset = 0 0 0", None),
        (b"ElementSpacing = 1 2 3\nDistanceUnits = um", 6e-12),
    ],
)
def test_mha_has_a_volume_likewise(tmp_path, header, volume_ml):
    path = tmp_path / "a_0000.mha"
    start = b"ObjectType = Image\nNDims = 3\nBinaryData = True\n" + header
    end = b"\nDimSize = 2 3 4\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    path.write_bytes(start + end + bytes(range(24)))
    check_written_like(path, volume_ml)


def check_written_like(path, volume_ml) -> None:
    """Maps, labels and corrupted copies of an image are on its grid, and have its volume of a voxel or none."""
    expected = None if volume_ml is None else pytest.approx(volume_ml)
    array, properties = read_image([path], SimpleITKIO())
    maps, labels, copy = (path.with_stem(name) for name in ("map", "labels", "copy_0000"))
    write_map(array[0], maps, properties, SimpleITKIO)
    write_labels(array[0].astype(np.uint8), labels, properties, SimpleITKIO)
    stored = read_stored_image(path)
    stored.write(stored.values, copy)
    assert voxel_volume_ml(properties) == expected
    for written in (maps, labels, copy):
        again, grid = read_volume(written, SimpleITKIO())
        np.testing.assert_array_equal(again, np.arange(24).reshape(1, 4, 3, 2))
        check_same_grid(path, array.shape[1:], properties, written, again.shape[1:], grid)
        assert voxel_volume_ml(grid) == expected, written
