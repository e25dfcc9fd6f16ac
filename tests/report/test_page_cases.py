"""Thumbnails and volumes of cases: what a browser decodes is what the files hold."""

import base64
import gzip
import io

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from PIL import Image
from scipy.ndimage import binary_erosion
from skimage import io as image_io

from nnunet_stochastic.evaluation.case_sets import SetFolders
from nnunet_stochastic.labels import EvaluatedLabels
from nnunet_stochastic.report.page import (
    PredictionFolder,
    collect_thumbnails,
    collect_volumes,
    page_cases,
    read_results,
)
from nnunet_stochastic.report.page.cases import CaseSource
from nnunet_stochastic.report.page.thumbnails import THUMBNAIL_SIZE, make_thumbnail
from nnunet_stochastic.report.page.volumes import encode_case
from tests.report.results import SPACING, write_result

LABELS = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "nodule": 1}})
QUIET = {"num_threads": 2, "show_progress": False}


def open_folder(folder):
    return PredictionFolder.of(folder, file_ending=".nii.gz", labels=LABELS, reader=SimpleITKIO())


@pytest.fixture
def folder(tmp_path):
    return write_result(tmp_path, files=True, num_cases=3, shifts=("blur",))


@pytest.fixture
def cases(folder):
    return page_cases(read_results([folder]), open_folder)


def decode(layer):
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(layer.nifti)))


def read(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def pixels(thumbnail):
    stream = io.BytesIO(base64.b64decode(thumbnail.removeprefix("data:image/webp;base64,")))
    return np.array(Image.open(stream).convert("RGB")).astype(int)


def test_the_most_uncertain_case_is_first(cases):
    totals = [case.row["TU"] for case in cases]
    assert len(cases) == 6
    assert totals == sorted(totals, reverse=True)
    assert {case.row["set"] for case in cases} == {"ID", "blur"}


def test_several_models_take_turns(tmp_path):
    folders = [write_result(tmp_path / name, name=f"{name} / swag", num_cases=2, shifts=()) for name in "ab"]

    def open_nothing(folder):
        raise FileNotFoundError(f"{folder} does not exist")

    cases = page_cases(read_results(folders), open_nothing)
    assert [case.row["model"] for case in cases] == ["a / SWAG", "b / SWAG"] * 2
    assert all("does not exist" in case.source for case in cases)


def test_maps_are_true_to_half_a_level_and_say_their_maximum(cases):
    source = cases[0].source
    layers = {layer.name: layer for layer in encode_case(source).layers}
    expected = read(source.files.folder / "epistemic" / f"{source.name}.nii.gz")
    decoded = np.asarray(decode(layers["epistemic"]).dataobj).T
    assert layers["epistemic"].maximum == pytest.approx(expected.max())
    assert layers["epistemic"].unit == "nats"
    np.testing.assert_allclose(decoded, expected, atol=expected.max() / 510 * 1.001)
    assert decoded.max() == pytest.approx(expected.max())


def test_geometry_is_the_patients(cases):
    volumes = encode_case(cases[0].source)
    assert volumes.oriented
    assert volumes.shape == (6, 28, 24)
    # ITK's axes are left, posterior, superior; NIfTI's right, anterior, superior.
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1])
    np.testing.assert_allclose(decode(volumes.layers[0]).affine, affine)
    # The viewer starts in the slice of the thumbnail where total uncertainty is largest, and counts voxels as the file.
    source = cases[0].source
    total = read(source.files.folder / "total" / f"{source.name}.nii.gz")
    z = (read(source.files.folder / f"{source.name}.nii.gz") > 0).sum(axis=(1, 2)).argmax()
    assert volumes.start[2] == z
    assert total[volumes.start[::-1]] == total[z].max()
    described = volumes.description()
    np.testing.assert_allclose(described["start_mm"], (affine @ (*volumes.start, 1))[:3])
    np.testing.assert_allclose(np.array(described["to_voxel"]) @ (*described["start_mm"], 1), volumes.start, atol=1e-9)


def test_outlines_and_agreement_of_the_raters(cases):
    source = cases[0].source
    layers = {layer.name: layer for layer in encode_case(source).layers}
    masks = [read(source.annotations.raters / f"{source.name}_rater{rater}.nii.gz") > 0 for rater in range(3)]
    agreement = np.asarray(decode(layers["agreement"]).dataobj).T
    np.testing.assert_allclose(agreement, np.mean(masks, axis=0), atol=1 / 510)
    assert layers["annotations"].labels == ("rater 0", "rater 1", "rater 2")
    cross = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]], bool)
    outline = np.asarray(decode(layers["annotations"]).dataobj).T
    np.testing.assert_array_equal(outline == 3, masks[2] & ~binary_erosion(masks[2], cross))
    predicted = read(source.files.folder / f"{source.name}.nii.gz") > 0
    shown = np.asarray(decode(layers["prediction"]).dataobj).T
    np.testing.assert_array_equal(shown == 1, predicted & ~binary_erosion(predicted, cross))
    assert layers["prediction"].labels == ("nodule",)


def test_the_viewer_starts_in_the_slice_of_the_thumbnail_wherever_the_maximum_is(cases):
    source = cases[0].source
    path = source.files.folder / "total" / f"{source.name}.nii.gz"
    image = sitk.ReadImage(str(path))
    total = sitk.GetArrayFromImage(image)
    total[...] *= 0.5
    total[0, 3, 4] = 0.6  # the largest of all, in a slice that the structure does not fill most
    total[2, 20, 5] = 0.5
    changed = sitk.GetImageFromArray(total)
    changed.CopyInformation(image)
    sitk.WriteImage(changed, str(path))
    assert encode_case(source).start == (5, 20, 2)


def test_masks_of_which_the_viewer_draws_outlines(cases):
    source = cases[0].source
    predicted = read(source.files.folder / f"{source.name}.nii.gz")
    folder = source.files.folder / "samples"
    folder.mkdir()
    samples = [np.roll(predicted, shift, axis=2) for shift in (0, 1, 2)]
    original = sitk.ReadImage(str(source.files.folder / f"{source.name}.nii.gz"))
    for index, sample in enumerate(samples):
        written = sitk.GetImageFromArray(sample)
        written.CopyInformation(original)
        sitk.WriteImage(written, str(folder / f"{source.name}_{index:03d}.nii.gz"))
    masks = {layer.name: layer for layer in encode_case(source).masks}
    assert {name: layer.kind for name, layer in masks.items()} == {
        "annotations": "bits",
        "prediction": "classes",
        "samples": "samples",
    }
    decoded = {name: np.asarray(decode(layer).dataobj).T for name, layer in masks.items()}
    raters = [read(source.annotations.raters / f"{source.name}_rater{rater}.nii.gz") > 0 for rater in range(3)]
    np.testing.assert_array_equal(decoded["annotations"], sum(mask * 2**rater for rater, mask in enumerate(raters)))
    np.testing.assert_array_equal(decoded["prediction"], predicted)
    np.testing.assert_array_equal(decoded["samples"], samples)
    assert masks["samples"].labels == ("nodule",)


def test_an_image_keeps_its_order_of_grey(cases):
    source = cases[0].source
    image = np.asarray(decode(encode_case(source).layers[0]).dataobj).T
    original = read(source.image_path)
    low, high = np.percentile(original, [0.1, 99.9])
    inside = (original > low) & (original < high)
    np.testing.assert_allclose(image[inside], 255 * (original[inside] - low) / (high - low), atol=1)


def test_a_thumbnail_shows_outline_and_map(cases):
    thumbnail, note = make_thumbnail(cases[0].source)
    shown = pixels(thumbnail)
    assert note is None
    assert shown.shape == (THUMBNAIL_SIZE[1], THUMBNAIL_SIZE[0], 3)
    side = THUMBNAIL_SIZE[1]
    image, uncertainty = shown[:, :side], shown[:, -side:]
    yellow = (image[..., 0] - image[..., 2] > 60) & (image[..., 1] - image[..., 2] > 60)
    assert 40 < yellow.sum() < 900
    # The map is a ring: dark inside, and bright on it.
    assert uncertainty[side // 2, side // 2].sum() < uncertainty.sum(axis=-1).max() / 3


def test_a_missing_image_is_noted_and_a_missing_segmentation_leaves_the_row(cases, folder):
    cases[0].source.image_path.unlink()
    thumbnail, note = make_thumbnail(cases[0].source)
    assert thumbnail
    assert note.startswith("image not found: ")
    volumes = encode_case(cases[0].source)
    assert volumes.layers[0].name == "image not found"
    assert decode(volumes.layers[0]).get_fdata().max() == 0

    (cases[1].source.files.folder / f"{cases[1].source.name}.nii.gz").unlink()
    thumbnails, notes = collect_thumbnails(cases, max_thumbnails=5, **QUIET)
    assert [thumbnail is None for thumbnail in thumbnails] == [False, True, False, False, False, True]
    assert notes[1]
    assert notes[2:] == [None] * 4


def test_volumes_stay_within_the_limit_and_shared_ones_count_once(cases):
    sizes = [encode_case(case.source).size for case in cases]
    chosen, left_out = collect_volumes(cases, viewer_cases=4, max_bytes=sizes[0] + sizes[1], **QUIET)
    assert 1 <= len(chosen) <= 2
    assert len(left_out) == 4 - len(chosen)
    assert "--max_megabytes" in left_out[-1]
    twice, _ = collect_volumes([cases[0], cases[0]], viewer_cases=2, max_bytes=sizes[0], **QUIET)
    assert sorted(twice) == [0, 1]
    assert collect_volumes(cases, viewer_cases=0, max_bytes=10**9, **QUIET) == ({}, [])


def test_two_dimensional_colours(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 8:20] = 1
    image_io.imsave(tmp_path / "eye_0000.png", image, check_contrast=False)
    image_io.imsave(tmp_path / "eye.png", mask, check_contrast=False)
    files = PredictionFolder(tmp_path, ".png", LABELS, NaturalImage2DIO(), {"eye": tmp_path / "eye_0000.png"})
    source = CaseSource("eye", files, SetFolders(tmp_path))
    volumes = encode_case(source)
    assert not volumes.oriented
    assert volumes.shape == (1, 20, 30)
    decoded = np.asarray(decode(volumes.layers[0]).dataobj)
    assert decoded.shape == (30, 20, 1)
    np.testing.assert_array_equal(np.stack([decoded[name][..., 0].T for name in "RGB"], axis=-1), image)
    thumbnail, note = make_thumbnail(source)
    assert pixels(thumbnail).shape == (THUMBNAIL_SIZE[1], THUMBNAIL_SIZE[1], 3)  # the image alone
    assert note == "no map of total uncertainty"
