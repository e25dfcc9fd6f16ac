"""What is left of a structure and of an image, against closed forms; and how strong the default blur is."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from skimage import io

from nnunet_stochastic.datasets.corruptions import SHIFTS, StoredImage, corrupt_image, draw_parameters
from nnunet_stochastic.datasets.corruptions.contrast import is_gone, is_unchanged, kept_contrast
from nnunet_stochastic.datasets.corruptions.folder import MANIFEST, corrupt_folder
from nnunet_stochastic.datasets.corruptions.image_quality import blur
from nnunet_stochastic.datasets.corruptions.planes import Planes

OLD = {"blur": (0.05, 0.2)}


def disc(radius, side=64, planes=3):
    y, x = np.ogrid[:side, :side]
    inside = (y - side / 2) ** 2 + (x - side / 2) ** 2 <= radius**2
    return np.broadcast_to(inside, (planes, side, side)).astype(np.uint16)


def nodule(radius=6, noise=20, seed=0, **size):
    """An image in HU and its label map, (z, y, x)."""
    labels = disc(radius, **size)
    random = np.random.default_rng(seed)
    return (800.0 * labels - 850 + noise * random.standard_normal(labels.shape)).astype(np.float32), labels


def test_share_that_is_left_of_a_structure():
    image, labels = nodule(noise=0)
    half = -850 + (image + 850) / 2
    assert kept_contrast(image, half, labels) == pytest.approx(0.5)
    assert kept_contrast(image, -image, labels) == pytest.approx(1)  # other values, but there
    turned = [np.moveaxis(array, 0, 2) for array in (image, half, labels)]
    assert kept_contrast(*turned, axis=2) == pytest.approx(0.5)


def test_of_several_structures_the_least_counts():
    image, labels = nodule(noise=0)
    second = disc(20) - disc(12)  # a ring, which is no part of the shell of the disc
    image, labels = image - 100 * second, labels + 2 * second
    after = image.copy()
    after[labels == 2] = -850 - 30
    assert kept_contrast(image, after, labels) == pytest.approx(0.3)


def test_a_structure_that_is_lost_in_noise_is_gone():
    image, labels = nodule(noise=50)
    random = np.random.default_rng(1)
    noisy = {sd: image + sd * random.standard_normal(image.shape) for sd in (500, 10_000)}
    assert kept_contrast(image, noisy[500], labels) == pytest.approx(1, abs=0.15)
    assert kept_contrast(image, noisy[10_000], labels) == 0


def test_what_could_not_be_seen_before_is_not_judged():
    image, labels = nodule(noise=3000)
    assert np.isnan(kept_contrast(image, np.zeros_like(image), labels))
    assert np.isnan(kept_contrast(image, image, np.zeros_like(labels)))
    assert np.isnan(kept_contrast(image, image, np.ones_like(labels)))  # no surroundings
    assert not is_gone([np.nan])
    assert is_gone([np.nan, 0.1])
    assert not is_gone([0.1, 0.4])


def test_share_that_is_left_of_an_image():
    """Of white noise blur leaves the weight of the middle, and noise of the same variance a correlation of 1/√2."""
    random = np.random.default_rng(0)
    image = random.standard_normal((4, 128, 128)).astype(np.float32)
    assert kept_contrast(image, 7 - 0.4 * -image) == pytest.approx(0.4)
    assert kept_contrast(image, image + random.standard_normal(image.shape)) == pytest.approx(np.sqrt(0.5), abs=0.01)
    pixels = 1.5
    blurred = blur(Planes(image[None], image.dtype), sigma=pixels / 128)[0]
    assert kept_contrast(image, blurred) == pytest.approx(1 / (2 * np.pi * pixels**2), rel=0.1)
    assert kept_contrast(image, np.zeros_like(image)) == 0
    assert np.isnan(kept_contrast(np.ones_like(image), np.ones_like(image)))


def test_an_image_that_hardly_changes():
    image = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    image[1] = 5
    assert is_unchanged(image, image + 3)
    assert is_unchanged(image, image * 1.009)
    assert not is_unchanged(image, image * 1.02)
    assert not is_unchanged(image[1:], image[1:])  # constant: there was nothing to change


@pytest.mark.parametrize(
    ("side", "pixel_mm", "expected"),
    [
        (64, 0.5, 64),  # the side itself: 32 mm
        (512, 0.5, 100),  # 50 mm
        (512, None, 512),  # a picture
        (100, 3.0, 50),  # of 50 mm 17 pixels would be left, and no blur
        (16, 1.0, 50),
    ],
)
def test_pixels_of_the_default_blur(side, pixel_mm, expected):
    parameters = draw_parameters("blur", None, 3)
    assert 0.01 <= parameters["sigma"] <= 0.04
    values = np.random.default_rng(0).standard_normal((1, 1, side, side)).astype(np.float32)
    spacing = (5.0, pixel_mm or 1.0, pixel_mm or 1.0)
    unit = None if pixel_mm is None else 1.0
    image = StoredImage(values, spacing, False, values.dtype, lambda numbers, path: None, unit_mm=unit)
    same = blur(Planes(values, values.dtype), sigma=parameters["sigma"] * expected / side)
    np.testing.assert_array_equal(corrupt_image(image, "blur", parameters), same)


def test_a_range_that_is_given_is_of_the_side_as_before():
    limits = SHIFTS["blur"].default_range
    assert draw_parameters("blur", limits, 3).keys() == {"sigma"}
    assert draw_parameters("blur", None, 3)["sigma"] == draw_parameters("blur", limits, 3)["sigma"]
    values = np.random.default_rng(0).standard_normal((1, 1, 512, 512)).astype(np.float32)
    image = StoredImage(values, (1.0, 1.0, 1.0), False, values.dtype, lambda numbers, path: None, unit_mm=1.0)
    given = corrupt_image(image, "blur", {"sigma": 0.1})
    np.testing.assert_array_equal(given, blur(Planes(values, values.dtype), sigma=0.1))


@pytest.fixture
def nodules(tmp_path):
    """Crops of 64 pixels of 0.7 mm with nodules of 4 to 9 mm, and their label maps; one is empty."""
    for folder in ("imagesTs", "labelsTs"):
        (tmp_path / folder).mkdir()
    for number, radius in enumerate((3, 4, 5, 6, 0)):
        image, labels = nodule(radius, seed=number)
        labels = labels * (radius > 0)
        for array, path in ((image, f"imagesTs/n{number}_0000.nii.gz"), (labels, f"labelsTs/n{number}.nii.gz")):
            stored = nibabel.Nifti1Image(array.T.astype(np.int16), np.diag([0.7, 0.7, 2.5, 1]))
            stored.header.set_xyzt_units("mm")
            nibabel.save(stored, tmp_path / path)
    return tmp_path


def manifest(folder):
    return json.loads((folder / MANIFEST).read_text())


def test_default_leaves_the_structures_that_the_one_of_before_wiped_out(nodules):
    folders = {"labels": nodules / "labelsTs"}
    now = corrupt_folder(nodules / "imagesTs", nodules / "now", ranges=dict.fromkeys(SHIFTS), **folders)
    assert (now.gone, now.unchanged) == ({}, {})
    before = corrupt_folder(nodules / "imagesTs", nodules / "before", ranges=OLD, **folders)
    assert before.gone == {"blur": ["n0", "n1", "n2", "n3"]}
    records = manifest(nodules / "now/blur"), manifest(nodules / "before/blur")
    assert [record["range"]["sigma"] for record in records] == [[0.01, 0.04], [0.05, 0.2]]
    assert records[0]["with_default"] == {"longest_mm": 50.0, "fewest_pixels": 50.0}
    assert "with_default" not in records[1]
    kept = [record["contrast"]["kept"] for record in records]
    assert kept[0]["n4"] is None
    assert min(kept[0][f"n{number}"] for number in range(4)) > 0.4
    assert max(kept[1][f"n{number}"] for number in range(4)) < 0.25
    image, labels = (
        nibabel.load(path).get_fdata().T
        for path in (nodules / "imagesTs/n1_0000.nii.gz", nodules / "labelsTs/n1.nii.gz")
    )
    written = nibabel.load(nodules / "now/blur/n1_0000.nii.gz").get_fdata().T
    assert kept[0]["n1"] == pytest.approx(kept_contrast(image, written, labels.astype(np.uint16)), abs=1e-4)


def test_without_labels_the_image_is_looked_at_and_copies_are_the_same(nodules):
    one = corrupt_folder(nodules / "imagesTs", nodules / "one", ranges=OLD)
    two = corrupt_folder(nodules / "imagesTs", nodules / "two", ranges=OLD, labels=nodules / "labelsTs")
    assert set(one.gone["blur"]) >= {"n0", "n1", "n2", "n3"}
    for file in one.folders["blur"].glob("*.nii.gz"):
        assert file.read_bytes() == (two.folders["blur"] / file.name).read_bytes()
    assert manifest(nodules / "one/blur")["contrast"]["of"] == "of the image"


def test_what_is_left_is_known_when_continuing(nodules):
    options = {"ranges": OLD, "labels": nodules / "labelsTs"}
    whole = corrupt_folder(nodules / "imagesTs", nodules / "out", **options)
    first = manifest(nodules / "out/blur")
    (nodules / "out/blur/n2_0000.nii.gz").unlink()
    again = corrupt_folder(nodules / "imagesTs", nodules / "out", **options, resume=True)
    assert (again.num_written, again.gone) == (1, whole.gone)
    assert manifest(nodules / "out/blur") == first


def test_shifts_that_change_nothing_are_named(nodules):
    report = corrupt_folder(nodules / "imagesTs", nodules / "out", ranges={"noise": (0, 0.001), "jpeg": None})
    assert report.unchanged == {"noise": [f"n{number}" for number in range(5)]}


def test_label_maps_that_cannot_be_used(nodules):
    options = {"ranges": OLD}
    (nodules / "labelsTs/n3.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"labelsTs lacks n3\.nii\.gz; give those of all images"):
        corrupt_folder(nodules / "imagesTs", nodules / "out", **options, labels=nodules / "labelsTs")
    with pytest.raises(FileNotFoundError, match="no folder of label maps"):
        corrupt_folder(nodules / "imagesTs", nodules / "out", **options, labels=nodules / "absent")
    for name, array in (("n3", np.zeros((8, 8, 2))), ("n1", np.full((64, 64, 3), 0.5))):
        nibabel.save(nibabel.Nifti1Image(array, np.diag([0.7, 0.7, 2.5, 1])), nodules / f"labelsTs/{name}.nii.gz")
    with pytest.raises(ValueError, match=r"n1: .* is no label map[^\n]*\n  n3: .* has size 8 x 8 x 2, "):
        corrupt_folder(nodules / "imagesTs", nodules / "out", **options, labels=nodules / "labelsTs")
    assert not (nodules / "out").exists()


def test_pictures_have_no_limit_in_mm(tmp_path):
    """Nobody knows how large their pixels are."""
    (tmp_path / "imagesTs").mkdir()
    image = np.random.default_rng(0).integers(0, 255, (200, 240)).astype(np.uint8)
    io.imsave(tmp_path / "imagesTs/p_0000.png", image, check_contrast=False)
    corrupt_folder(tmp_path / "imagesTs", tmp_path / "out", ranges={"blur": None})
    sigma = manifest(tmp_path / "out/blur")["cases"]["p"]["parameters"]["sigma"]
    values = image[None, None].astype(np.float32)
    expected = np.rint(blur(Planes(values, image.dtype), sigma=sigma))[0, 0]
    np.testing.assert_array_equal(io.imread(tmp_path / "out/blur/p_0000.png"), expected)
