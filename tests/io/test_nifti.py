import gzip

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_stochastic.io.nifti import check_nifti

ARRAY = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)


@pytest.fixture(params=[".nii", ".nii.gz"])
def image(request, tmp_path):
    path = tmp_path / f"a_0000{request.param}"
    sitk.WriteImage(sitk.GetImageFromArray((100 * ARRAY).astype(np.int16)), str(path))
    return path


def read(path) -> np.ndarray:
    return SimpleITKIO().read_images([str(path)])[0]


def test_a_whole_file_passes(image):
    check_nifti(image)


def test_a_file_that_ends_early(image):
    content = image.read_bytes()
    image.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(OSError, match=image.name):
        check_nifti(image)
    assert (read(image) == 0).any()  # why this is checked: the reader fills it up with zeros


def test_a_compressed_file_of_too_few_voxels(image):
    content = image.read_bytes()
    whole = gzip.decompress(content) if image.suffix == ".gz" else content
    image.write_bytes(gzip.compress(whole[:-20]) if image.suffix == ".gz" else whole[:-20])
    with pytest.raises(OSError, match=f"is truncated: {len(whole) - 20} bytes of {len(whole)}"):
        check_nifti(image)


def test_a_damaged_file(tmp_path):
    path = tmp_path / "a_0000.nii.gz"
    path.write_bytes(b"no image")
    with pytest.raises(OSError, match=r"a_0000.nii.gz cannot be read"):
        check_nifti(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_stored_values_must_be_finite(tmp_path, value):
    array = ARRAY.copy()
    path = tmp_path / "b_0000.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    check_nifti(path)
    array[0, 1, 2:4] = value
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    with pytest.raises(ValueError, match=r"b_0000.nii.gz has 2 voxels that are NaN"):
        check_nifti(path)
    assert np.isfinite(read(path)).all()
