"""How often a prediction decompresses its images: once, for the check and for nnU-Net's reader."""

from __future__ import annotations

import gzip
import math
import shutil
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient

from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor, predict_folder
from nnunet_stochastic.io.images import read_image, read_label_map
from nnunet_stochastic.io.nifti import check_nifti

READERS = [SimpleITKIO, SimpleITKIOWithReorient, NibabelIO, NibabelIOWithReorient]
HEADER_BYTES = 1 << 16  # read by a header's reader at most


@pytest.fixture
def decompressed_bytes(monkeypatch):
    """Bytes of each compressed file that came out of gzip, whose class ISA-L inherits, or ITK, which takes all."""
    counts = Counter()

    def count(kind, name):
        plain = getattr(kind, name)

        def counting(self, *arguments):
            result = plain(self, *arguments)
            counts[Path(str(self.name)).name] += result if isinstance(result, int) else len(result)
            return result

        monkeypatch.setattr(kind, name, counting)

    for name in ("read", "readinto"):
        count(gzip.GzipFile, name)
    read = sitk.ReadImage

    def read_image(path, *arguments, **keywords):
        image = read(path, *arguments, **keywords)
        if str(path).endswith(".gz"):
            counts[Path(path).name] += sitk.GetArrayViewFromImage(image).nbytes
        return image

    monkeypatch.setattr(sitk, "ReadImage", read_image)
    return counts


@pytest.mark.parametrize("reader", READERS)
def test_a_prediction_decompresses_each_image_once(tmp_path, folders, decompressed_bytes, reader):
    shape, channels = (30, 40, 50), ("a_0000.nii.gz", "a_0001.nii.gz")
    for seed, name in enumerate(channels):
        folders.write_image(tmp_path / "images" / name, folders.image_array(seed, shape))
    model = folders.write_model_folder(tmp_path / "model", reader_writer=reader.__name__, channels=2)
    predictor = StochasticPredictor.from_model_folder(
        model, folds=(0,), options=PredictionOptions(mirroring=False, step_size=1)
    )
    decompressed_bytes.clear()
    assert predict_folder(predictor, tmp_path / "images", tmp_path / "out").failures == {}
    content = 4 * math.prod(shape)
    for name in channels:
        assert content <= decompressed_bytes[name] <= content + HEADER_BYTES


@pytest.mark.parametrize("reader", READERS)
def test_what_is_read_is_what_the_reader_reads(tmp_path, folders, monkeypatch, reader):
    path = folders.write_image(tmp_path / "a_0000.nii.gz", folders.image_array(), spacing=(0.7, 0.8, 2.5))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    expected, expected_properties = reader().read_images([str(path)])
    array, properties = read_image([path], reader())
    np.testing.assert_array_equal(array, expected)
    assert {name: properties[name] for name in expected_properties}.__repr__() == expected_properties.__repr__()
    labels = (array[0] > 300).astype(np.uint8)
    reader().write_seg(labels, str(tmp_path / "a.nii.gz"), expected_properties)
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.nii.gz", reader(), highest=1)[0], labels)
    assert list((tmp_path / "temporary").iterdir()) == []


class OwnReader(SimpleITKIO):
    """Of a user's: it goes by the name of the file."""

    def read_images(self, image_fnames):
        assert image_fnames[0].endswith("a_0000.nii.gz")
        return super().read_images(image_fnames)


def test_a_reader_of_a_users_gets_the_file_itself(tmp_path, folders):
    path = folders.write_image(tmp_path / "a_0000.nii.gz", folders.image_array())
    array, _ = read_image([path], OwnReader())
    np.testing.assert_array_equal(array[0], folders.image_array())


def test_a_message_of_the_reader_names_the_image(tmp_path, folders, monkeypatch):
    path = folders.write_image(tmp_path / "a_0000.nii.gz", folders.image_array())

    def fail(name, *_):
        raise RuntimeError(f"ITK ERROR: {name} is refused")

    monkeypatch.setattr(sitk, "ReadImage", fail)
    with pytest.raises(ValueError, match=rf"^{path} cannot be read: {path} is refused$"):
        read_image([path], SimpleITKIO())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is Linux'")
def test_no_room_for_what_is_decompressed(tmp_path, folders):
    path = folders.write_image(tmp_path / "a_0000.nii.gz", folders.image_array())
    with pytest.raises(OSError, match=r"a_0000.nii.gz cannot be decompressed, /dev has no room for it: .* set TMPDIR"):
        check_nifti(path, decompress_to=Path("/dev/full"))


def test_the_copy_is_the_content(tmp_path, folders):
    path = folders.write_image(tmp_path / "a_0000.nii.gz", folders.image_array(shape=(70, 80, 90)))
    check_nifti(path, decompress_to=tmp_path / "a.nii")
    with gzip.open(path) as stream, (tmp_path / "b.nii").open("wb") as target:
        shutil.copyfileobj(stream, target)
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()
    assert nibabel.load(tmp_path / "a.nii").shape == (90, 80, 70)
