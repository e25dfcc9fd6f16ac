"""Images in memory are predicted as their files are, and what is predicted lies where they lie."""

from __future__ import annotations

import gc
import os
import threading
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nibabel.spatialimages import SpatialImage
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient

from nnunet_stochastic.inference import predict_folder
from nnunet_stochastic.inference.image_objects import image_object
from nnunet_stochastic.io.images import read_image
from tests.inference.predictors import build

READERS = [SimpleITKIO, SimpleITKIOWithReorient, NibabelIO, NibabelIOWithReorient]
#: Columns of the axes x, y, z of a file: to left, posterior, superior, permuted and turned about two axes.
DIRECTION = (0.0, -0.8, 0.6, -1.0, 0.0, 0.0, 0.0, -0.6, -0.8)


def write_case(folders, folder, seed=0, number=0):
    """An oblique image, its axes no z, y, x of the patient."""
    image = sitk.GetImageFromArray(folders.image_array(seed, (14, 16, 11)))
    image.SetSpacing((0.9, 1.1, 1.3))
    image.SetOrigin((-10.0, 20.0, 30.0))
    image.SetDirection(DIRECTION)
    folder.mkdir(exist_ok=True)
    path = folder / f"a_{number:04d}.nii.gz"
    sitk.WriteImage(image, str(path))
    return path


def loaded(library, path):
    return sitk.ReadImage(str(path)) if library == "SimpleITK" else nibabel.load(path)


def voxels(image):
    """Of an image of either library, (z, y, x)."""
    return sitk.GetArrayFromImage(image) if isinstance(image, sitk.Image) else np.asarray(image.dataobj).T


@pytest.mark.parametrize("library", ["SimpleITK", "nibabel"])
@pytest.mark.parametrize("reader", READERS)
def test_an_image_is_what_its_file_is_to_the_reader(tmp_path, folders, reader, library):
    path = write_case(folders, tmp_path / "images")
    expected, properties = read_image([path], reader())
    given = image_object(loaded(library, path), reader)
    np.testing.assert_array_equal(given.array, expected)
    np.testing.assert_allclose(given.properties["spacing"], properties["spacing"], rtol=1e-6)
    back = given.like(given.array[0])
    assert type(back) is type(loaded(library, path))
    np.testing.assert_array_equal(voxels(back), voxels(loaded(library, path)))


@pytest.mark.parametrize("library", ["SimpleITK", "nibabel"])
@pytest.mark.parametrize("reader", [SimpleITKIO, NibabelIOWithReorient])
def test_predictions_are_those_of_the_files(tmp_path, folders, stochastic_trainer, reader, library):
    model = folders.write_model_folder(tmp_path / "model", reader_writer=reader.__name__, trainer=stochastic_trainer)
    predictor = build(model, num_saved_samples=1, mirroring=False)
    path, out = write_case(folders, tmp_path / "images"), tmp_path / "out"
    predict_folder(predictor, path.parent, out, save_probabilities=True, probability_format="nifti")
    image = loaded(library, path)
    found = predictor.predict_image(image, name="a", probabilities=True)
    pairs = {
        "a.nii.gz": found.segmentation,
        "samples/a_000.nii.gz": found.samples[0],
        **{f"{name}/a.nii.gz": array for name, array in found.maps.items()},
        **{f"probabilities/a_{channel:04d}.nii.gz": array for channel, array in enumerate(found.probabilities)},
    }
    assert len(pairs) == 8
    for name, ours in pairs.items():
        file = loaded(library, out / name)
        np.testing.assert_allclose(voxels(ours), voxels(file), atol=1e-6, err_msg=name)
        assert np.ptp(voxels(ours)) > 0
        if library == "nibabel":
            np.testing.assert_array_equal(ours.affine, image.affine)
            assert ours.header.get_xyzt_units() == image.header.get_xyzt_units()
        else:
            geometry = [(each.GetSpacing(), each.GetOrigin()) for each in (ours, image)]
            np.testing.assert_allclose(geometry[0], geometry[1], rtol=1e-9)
            np.testing.assert_allclose(ours.GetDirection(), image.GetDirection(), atol=1e-9)
    assert voxels(found.segmentation).dtype == np.uint8
    assert voxels(found.maps["total"]).dtype == np.float32


def test_an_array_is_predicted_as_its_image(tmp_path, folders):
    predictor = build(folders.write_model_folder(tmp_path / "model", channels=2), mirroring=False)
    paths = [write_case(folders, tmp_path / "images", seed, seed) for seed in range(2)]
    images = [sitk.ReadImage(str(path)) for path in paths]
    of_images = predictor.predict_image(images).maps["total"]
    array = np.stack([voxels(image) for image in images])
    of_array = predictor.predict_image(array, spacing=(1.3, 1.1, 0.9)).maps["total"]
    np.testing.assert_array_equal(of_array, voxels(of_images))
    assert isinstance(of_array, np.ndarray)


def test_a_flat_image_and_a_previous_stage(tmp_path, folders):
    flat = sitk.GetImageFromArray(folders.image_array(shape=(20, 24)))
    flat.SetSpacing((0.7, 0.8))
    total = build(folders.write_model_folder(tmp_path / "2d", dimension=2)).predict_image(flat).maps["total"]
    assert (total.GetSize(), total.GetSpacing()) == (flat.GetSize(), flat.GetSpacing())

    cascade = build(folders.write_model_folder(tmp_path / "model", previous_stage="3d_lowres"), mirroring=False)
    image = sitk.ReadImage(str(write_case(folders, tmp_path / "images")))
    empty, full = (
        cascade.predict_image(image, previous_stage=sitk.Cast(image > level, sitk.sitkUInt8)) for level in (1e9, 0)
    )
    assert np.abs(voxels(empty.maps["total"]) - voxels(full.maps["total"])).max() > 1e-3
    shifted = image > 0
    shifted.SetOrigin((0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="segmentation of the previous stage and the image differ in origin"):
        cascade.predict_image(image, previous_stage=shifted)


def nifti(shape=(4, 5, 6)):
    return nibabel.Nifti1Image(np.ones(shape, np.float32), np.eye(4))


def of_meters():
    image = nifti()
    image.header["pixdim"][1:4] = 3
    return image


ITK = sitk.GetImageFromArray(np.ones((4, 5, 6), np.float32))
MOVED = sitk.GetImageFromArray(np.ones((4, 5, 6), np.float32))
MOVED.SetOrigin((5.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("image", "spacing", "message"),
    [
        (np.ones((1, 4, 5, 6)), None, "name the spacing \\(z, y, x\\)"),
        (np.ones((1, 4, 5, 6)), (1.0, 2.0), "a spacing of three positive finite numbers"),
        (np.ones((1, 4, 5, 6)), (1.0, 0.0, 2.0), "a spacing of three positive finite numbers"),
        (np.ones((4, 5, 6)), (1.0, 1.0, 1.0), "must be \\(channels, z, y, x\\) of numbers, got \\(4, 5, 6\\)"),
        (np.ones((1, 4, 5, 6), complex), (1.0, 1.0, 1.0), "of numbers, got .* complex128"),
        (ITK, (1.0, 1.0, 1.0), "a spacing of their own"),
        ([], None, "the list of channels is empty"),
        ([ITK, nifti()], None, "channel 0001 and channel 0000 are of different types, Nifti1Image and Image"),
        ([ITK, MOVED], None, "channel 0001 and channel 0000 differ in origin"),
        (sitk.Image([4, 4, 4], sitk.sitkVectorFloat32, 3), None, "vector of 32-bit float per voxel: pass a list"),
        (sitk.Image([4, 4, 4, 2], sitk.sitkFloat32), None, "the image has 4 axes, the model takes two or three"),
        (nifti((4, 5, 6, 2)), None, "has shape \\(4, 5, 6, 2\\), not three axes: pass a list of 3D images"),
        (SpatialImage(np.ones((4, 5, 6), np.float32), np.diag([1, 1, 0, 1])), None, "the image has no orientation"),
        (of_meters(), None, "pixdim and its affine disagree"),
        ("a.nii.gz", None, "an image of SimpleITK or nibabel, or a NumPy array is needed, got str"),
    ],
)
def test_what_cannot_be_taken(image, spacing, message):
    with pytest.raises(ValueError, match=message):
        image_object(image, SimpleITKIO, spacing=spacing)


def test_a_wrong_number_of_channels(tmp_path, folders):
    predictor = build(folders.write_model_folder(tmp_path / "model", channels=2))
    with pytest.raises(ValueError, match="2 channels, got \\(1, 4, 5, 6\\)"):
        predictor.predict_image(ITK)


def test_a_flat_image_has_no_orientation(tmp_path):
    with pytest.raises(ValueError, match="the image has 2 axes, the model takes three"):
        image_object(sitk.Image([4, 4], sitk.sitkFloat32), SimpleITKIOWithReorient)


def in_use():
    """Tensors, bytes of Python's objects and arrays, threads, and open files where the system tells them."""
    gc.collect()
    tensors = sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())
    files = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    return tensors, threading.active_count(), files, tracemalloc.get_traced_memory()[0]


def test_fifty_calls_leave_nothing_behind(tmp_path, folders, stochastic_trainer, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    model = folders.write_model_folder(
        tmp_path / "model", trainer=stochastic_trainer, folds=(0, 1), dimension=2, reader_writer="NibabelIOWithReorient"
    )
    predictor = build(model, folds=(0, 1), num_samples=2, num_saved_samples=2, mirroring=False)
    itk, shape = sitk.GetImageFromArray(folders.image_array(shape=(2, 20, 22))), (22, 20, 2)
    image = nibabel.Nifti1Image(folders.image_array(1, shape), np.diag([-1.0, 0.9, 1.0, 1.0]))
    image_bytes = 4 * np.prod(shape)

    def call(index):
        given = (itk, image)[index % 2]
        assert len(predictor.predict_image(given, name=str(index), probabilities=True).samples) == 2

    tracemalloc.start()
    try:
        for index in range(6):  # until what is kept once is kept
            call(index)
        files_before, before = sorted(tmp_path.rglob("*")), in_use()
        for index in range(50):
            call(index)
        files, after = sorted(tmp_path.rglob("*")), in_use()
    finally:
        tracemalloc.stop()
    assert after[:3] == before[:3]
    assert files == files_before
    assert after[3] - before[3] < 40 * image_bytes  # of 50 calls, each of which makes some 20 images
