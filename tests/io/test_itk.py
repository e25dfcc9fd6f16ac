"""Bad files of ITK's own formats, all read through nnU-Net's reader: what is refused, and what is said of it."""

import re

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from nnunet_stochastic.datasets.corruptions.stored_image import SUPPORTED_ENDINGS, read_stored_image
from nnunet_stochastic.io.images import read_image

ARRAY = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)


def write(path, array=ARRAY, *, compress: bool = True, vectors: bool = False):
    image = sitk.GetImageFromArray(array, isVector=vectors)
    if image.GetDimension() == 3:
        image.SetSpacing((1, 2, 3))
    sitk.WriteImage(image, str(path), compress)
    return path


def refused(path, message: str, reader=SimpleITKIO) -> None:
    """Refuse a file by its name: as a channel, and as an image to corrupt."""
    with pytest.raises((ValueError, OSError), match=f"{re.escape(path.name)}.*{message}") as caught:
        read_image([path], reader())
    assert "\n" not in str(caught.value)
    if path.name.endswith(SUPPORTED_ENDINGS):
        with pytest.raises((ValueError, OSError), match=f"{re.escape(path.name)}.*{message}") as caught:
            read_stored_image(path)
        assert "\n" not in str(caught.value)


def replace_line(path, pattern: bytes, line: bytes) -> None:
    content, count = re.subn(rb"^" + pattern + rb".*$", line, path.read_bytes(), count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_bytes(content)


@pytest.mark.parametrize("ending", ["nrrd", "nhdr", "mha", "mhd", "gipl"])
@pytest.mark.parametrize("compress", [True, False])
def test_whole_files_are_read(tmp_path, ending, compress):
    array, properties = read_image([write(tmp_path / f"a_0000.{ending}", compress=compress)], SimpleITKIO())
    np.testing.assert_array_equal(array[0], ARRAY)
    assert list(properties["spacing"]) == [3, 2, 1]


@pytest.mark.parametrize("ending", ["nrrd", "mha", "gipl"])
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("cut", [1, 10, 200])
def test_files_that_end_early(tmp_path, ending, compress, cut):
    path = write(tmp_path / f"a_0000.{ending}", compress=compress)
    path.write_bytes(path.read_bytes()[:-cut])
    refused(path, "is truncated")


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_damaged_voxels(tmp_path, ending):
    path = write(tmp_path / f"a_0000.{ending}")
    content = path.read_bytes()
    path.write_bytes(content[:-150] + bytes(50) + content[-100:])
    assert np.isfinite(SimpleITKIO().read_images([str(path)])[0]).all()  # why: ITK reads them as if they were whole
    refused(path, "is damaged")


@pytest.mark.parametrize("ending", ["nrrd", "mha", "gipl"])
@pytest.mark.parametrize("compress", [True, False])
def test_bytes_behind_the_voxels_are_no_part_of_them(tmp_path, ending, compress):
    path = write(tmp_path / f"a_0000.{ending}", compress=compress)
    path.write_bytes(path.read_bytes() + b"more" * 9)
    np.testing.assert_array_equal(read_image([path], SimpleITKIO())[0][0], ARRAY)


@pytest.mark.parametrize("ending", ["nhdr", "mhd"])
@pytest.mark.parametrize("compress", [True, False])
def test_voxels_in_another_file(tmp_path, ending, compress):
    path = write(tmp_path / f"a_0000.{ending}", compress=compress)
    (voxels,) = set(tmp_path.iterdir()) - {path}
    content = voxels.read_bytes()
    for damaged in (content[:-40], b""):
        voxels.write_bytes(damaged)
        refused(path, "is truncated")
    voxels.unlink()
    refused(path, f"(which is not there|{re.escape(voxels.name)})")


@pytest.mark.parametrize("ending", ["nrrd", "mha", "gipl", "mhd"])
@pytest.mark.parametrize(("value", "number_type"), [(np.nan, "f4"), (np.inf, "f4"), (-np.inf, "f8"), (1e300, "f8")])
def test_numbers_that_are_none(tmp_path, ending, value, number_type):
    array = ARRAY.astype(number_type)
    array[1, 2, 3:5] = value
    refused(write(tmp_path / f"a_0000.{ending}", array), "2 voxels that are NaN or infinite")


@pytest.mark.parametrize("ending", ["nrrd", "mha", "mhd"])
@pytest.mark.parametrize(
    ("array", "vectors"), [(np.zeros((5, 6, 7, 3), np.uint8), True), (ARRAY.astype(np.complex64), False)]
)
def test_voxels_of_several_numbers(tmp_path, ending, array, vectors):
    refused(write(tmp_path / f"a_0000.{ending}", array, vectors=vectors), "a file per channel")


META = {
    "DimSize": [("0 6 7", "no voxels"), ("70000 60000 50000", "is truncated")],
    "ElementSpacing": [(text, "ElementSpacing") for text in ("nan 2 3", "inf 2 3", "0 2 3", "-1 2 3", "0,7 0,7 3")],
    "Offset": [("nan 0 0", "Offset nan"), ("inf 0 0", "Offset inf")],
    "TransformMatrix": [("1 0 0 1 0 0 0 0 1", "determinant is 0"), ("nan 0 0 0 1 0 0 0 1", "TransformMatrix nan")],
}
NRRD = {
    "sizes": [("0 6 7", "size is zero"), ("70000 60000 50000", "is truncated")],
    "space directions": [
        *((f"({value},0,0) (0,2,0) (0,0,3)", "vector") for value in ("nan", "inf")),
        ("(0,0,0) (0,2,0) (0,0,3)", "spacing"),
        ("(1,0,0) (1,0,0) (0,0,3)", "determinant is 0"),
    ],
    "space origin": [("(nan,0,0)", "vector")],
}
LINES = [
    *(("mha", key, "=", text, message) for key, cases in META.items() for text, message in cases),
    *(("mhd", key, "=", text, message) for key, cases in META.items() for text, message in cases),
    *(("nrrd", key, ":", text, message) for key, cases in NRRD.items() for text, message in cases),
]


@pytest.mark.parametrize(("ending", "key", "separator", "text", "message"), LINES)
def test_headers(tmp_path, ending, key, separator, text, message):
    path = write(tmp_path / f"a_0000.{ending}", compress=False)
    replace_line(path, key.encode(), f"{key}{' ' * (separator == '=')}{separator} {text}".encode())
    refused(path, message)


@pytest.mark.parametrize("text", ["nan 2 3", "0 2 3", "-1 2 3", "inf 2 3"])
def test_spacings_of_nrrd_without_a_space(tmp_path, text):
    path = tmp_path / "a_0000.nrrd"
    start = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 3 4\nencoding: raw\nspacings: {text}\n\n"
    path.write_bytes(start.encode() + bytes(24))
    refused(path, "(spacings|spacing)")


@pytest.mark.parametrize("ending", ["hdr", "img", "img.gz"])
def test_pairs_of_files(tmp_path, ending):
    write(tmp_path / "a_0000.hdr" if ending == "hdr" else tmp_path / f"a_0000.{ending}")
    refused(tmp_path / f"a_0000.{ending}", "part of two files")


@pytest.mark.parametrize("content", [b"", b"no image\n", write], ids=["empty", "text", "another format"])
@pytest.mark.parametrize("ending", ["nrrd", "mha", "gipl", "png", "bmp", "tif"])
def test_files_that_are_no_images(tmp_path, ending, content):
    path = tmp_path / f"a_0000.{ending}"
    if content is write:
        content = write(tmp_path / ("b.mha" if ending != "mha" else "b.nrrd")).read_bytes()
    path.write_bytes(content)
    readers = {"png": NaturalImage2DIO, "bmp": NaturalImage2DIO, "tif": Tiff3DIO}
    refused(path, "cannot be read", readers.get(ending, SimpleITKIO))


@pytest.mark.parametrize("ending", ["nrrd", "mha", "nii.gz", "png", "tif"])
def test_folders_and_links_to_nothing(tmp_path, ending):
    (tmp_path / f"a_0000.{ending}").mkdir()
    (tmp_path / f"b_0000.{ending}").symlink_to(tmp_path / "nothing")
    for name in "ab":
        refused(tmp_path / f"{name}_0000.{ending}", "no such file")
