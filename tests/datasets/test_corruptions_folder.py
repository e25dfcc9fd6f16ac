"""Folders of images: manifests that reproduce the files, independence of other cases and of threads, continuing."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from skimage import io

from nnunet_stochastic.datasets.corruptions import SHIFTS, StoredImage, corrupt_image, read_stored_image
from nnunet_stochastic.datasets.corruptions.folder import MANIFEST, corrupt_folder, find_images

RANGES = {name: shift.default_range for name, shift in SHIFTS.items()}


def write_volume(path, seed, shape=(4, 12, 14), spacing=(0.7, 0.8, 2.5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(np.random.default_rng(seed).integers(-1000, 500, shape).astype(np.int16))
    image.SetSpacing(spacing)
    image.SetOrigin((-10.0, 20.0, 30.0))
    sitk.WriteImage(image, str(path))


@pytest.fixture
def images(tmp_path):
    """Three cases of two channels."""
    for case in range(3):
        for channel in range(2):
            write_volume(tmp_path / f"imagesTs/case_{case}_{channel:04d}.nii.gz", 10 * case + channel)
    return tmp_path / "imagesTs"


def contents(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*.nii.gz")}


def manifest(path):
    return json.loads((path / MANIFEST).read_text())


def test_manifest_reproduces_every_file(images, tmp_path):
    report = corrupt_folder(images, tmp_path / "out", ranges=RANGES, seed=3)
    assert (report.num_cases, report.num_written, report.constant) == (3, 3 * len(RANGES), [])
    assert report.folders == {name: tmp_path / "out" / name for name in RANGES}
    for name in RANGES:
        record = manifest(tmp_path / "out" / name)
        assert (record["shift"], record["seed"]) == (name, 3)
        assert record["range"] == {SHIFTS[name].strength: list(RANGES[name])}
        assert {"nnunet_stochastic", "scikit-image", "torchio"} <= record["versions"].keys()
        assert sorted(record["cases"]) == ["case_0", "case_1", "case_2"]
        for case, entry in record["cases"].items():
            assert entry["slice_axis"] == "z"
            for channel in range(2):
                file = f"{case}_{channel:04d}.nii.gz"
                expected = corrupt_image(
                    read_stored_image(images / file), name, entry["parameters"], first_channel=channel
                )
                written = nibabel.load(tmp_path / "out" / name / file)
                np.testing.assert_array_equal(written.get_fdata().T, np.clip(np.rint(expected[0]), -32768, 32767))
                assert written.header == nibabel.load(images / file).header
        assert {file.name for file in (tmp_path / "out" / name).iterdir()} == {
            MANIFEST,
            *(file.name for file in images.iterdir()),
        }
    blurs = [entry["parameters"]["sigma"] for entry in manifest(tmp_path / "out/blur")["cases"].values()]
    assert len(set(blurs)) == 3


def test_images_do_not_depend_on_other_cases_shifts_or_threads(images, tmp_path):
    ranges = {"noise": (0.1, 0.5), "blur": (0.05, 0.2)}
    corrupt_folder(images, tmp_path / "all", ranges=ranges, num_threads=3)
    (tmp_path / "one").mkdir()
    for channel in range(2):
        shutil.copy(images / f"case_2_{channel:04d}.nii.gz", tmp_path / "one")
    corrupt_folder(tmp_path / "one", tmp_path / "out", ranges={"noise": (0.1, 0.5)})
    alone, among = contents(tmp_path / "out"), contents(tmp_path / "all")
    assert len(alone) == 2
    assert alone == {file: among[file] for file in alone}
    corrupt_folder(images, tmp_path / "other", ranges=ranges, seed=1)
    other = contents(tmp_path / "other")
    assert other.keys() == among.keys()
    assert not any(other[file] == among[file] for file in other)


def test_interrupted_folder_is_continued(images, tmp_path, monkeypatch):
    ranges = {"noise": (0.1, 0.5), "jpeg": (10, 20)}
    corrupt_folder(images, tmp_path / "whole", ranges=ranges)
    write = StoredImage.write

    def fail_in_the_second_channel_of_the_second_case(image, values, path):
        if path.name == "case_1_0001.nii.gz":
            raise KeyboardInterrupt
        write(image, values, path)

    monkeypatch.setattr(StoredImage, "write", fail_in_the_second_channel_of_the_second_case)
    with pytest.raises(KeyboardInterrupt):
        corrupt_folder(images, tmp_path / "out", ranges=ranges)
    monkeypatch.setattr(StoredImage, "write", write)
    assert not (tmp_path / "out/noise/case_1_0000.nii.gz").exists()
    assert not list((tmp_path / "out").rglob(".*"))
    kept = {file: (tmp_path / "out" / file).stat().st_mtime_ns for file in contents(tmp_path / "out")}
    assert len(kept) >= 4

    with pytest.raises(ValueError, match=r"noise is not empty: .* --continue_corruption"):
        corrupt_folder(images, tmp_path / "out", ranges=ranges)
    report = corrupt_folder(images, tmp_path / "out", ranges=ranges, resume=True)
    assert report.num_written == 6 - len(kept) // 2
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert all((tmp_path / "out" / file).stat().st_mtime_ns == time for file, time in kept.items())


def test_another_image_under_the_same_name_is_refused(images, tmp_path):
    settings = {"ranges": {"noise": (0.1, 0.5)}}
    corrupt_folder(images, tmp_path / "out", **settings)
    assert corrupt_folder(images, tmp_path / "out", **settings, resume=True).num_written == 0
    before = contents(tmp_path / "out")
    write_volume(images / "case_1_0001.nii.gz", 99)
    with pytest.raises(ValueError, match=r"other settings or images, as manifest.json says of: case_1;"):
        corrupt_folder(images, tmp_path / "out", **settings, resume=True)
    assert contents(tmp_path / "out") == before


def test_other_settings_do_not_continue(images, tmp_path):
    corrupt_folder(images, tmp_path / "out", ranges={"noise": (0.1, 0.5)})
    for settings in ({"ranges": {"noise": (0.1, 0.5)}, "seed": 1}, {"ranges": {"noise": (0.1, 0.4)}}):
        with pytest.raises(ValueError, match=r"begun with other settings .*(seed|range), .*case_0, case_1, case_2"):
            corrupt_folder(images, tmp_path / "out", **settings, resume=True)
    (tmp_path / "other/noise").mkdir(parents=True)
    (tmp_path / "other/noise/notes.txt").touch()
    with pytest.raises(ValueError, match=r"no manifest\.json, so nothing was begun"):
        corrupt_folder(images, tmp_path / "other", ranges={"noise": (0.1, 0.5)}, resume=True)
    (tmp_path / "out/noise" / MANIFEST).write_text("[]")
    with pytest.raises(
        ValueError, match=r"manifest\.json: an object is needed, got a list; remove the folder .*, or choose another -o"
    ):
        corrupt_folder(images, tmp_path / "out", ranges={"noise": (0.1, 0.5)}, resume=True)


def test_cases_that_were_added_are_done_when_continuing(images, tmp_path):
    corrupt_folder(images, tmp_path / "out", ranges={"noise": (0.1, 0.5)})
    for channel in range(2):
        write_volume(images / f"case_3_{channel:04d}.nii.gz", 30 + channel)
    assert corrupt_folder(images, tmp_path / "out", ranges={"noise": (0.1, 0.5)}, resume=True).num_written == 1
    assert len(manifest(tmp_path / "out/noise")["cases"]) == 4


def test_constant_channels_are_named(tmp_path):
    write_volume(tmp_path / "in/a_0000.nii.gz", 0)
    write_volume(tmp_path / "in/b_0000.nii.gz", 0)
    sitk.WriteImage(sitk.Image([14, 12, 4], sitk.sitkInt16) + 7, str(tmp_path / "in/c_0000.nii.gz"))
    report = corrupt_folder(tmp_path / "in", tmp_path / "out", ranges=RANGES)
    assert report.constant == ["c"]
    assert [e["constant_channels"] for e in manifest(tmp_path / "out/jpeg")["cases"].values()] == [[], [], [0]]
    for name in RANGES:
        np.testing.assert_array_equal(read_stored_image(tmp_path / "out" / name / "c_0000.nii.gz").values, 7)


def test_colour_pictures(tmp_path):
    (tmp_path / "in").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 4)).astype(np.uint8)
    io.imsave(tmp_path / "in/a_0000.png", pixels, check_contrast=False)
    corrupt_folder(tmp_path / "in", tmp_path / "out", ranges=RANGES)
    for name in RANGES:
        written = io.imread(tmp_path / "out" / name / "a_0000.png")
        parameters = manifest(tmp_path / "out" / name)["cases"]["a"]["parameters"]
        expected = corrupt_image(read_stored_image(tmp_path / "in/a_0000.png"), name, parameters)[:, 0]
        np.testing.assert_array_equal(written[..., :3], np.clip(np.rint(np.moveaxis(expected, 0, -1)), 0, 255))
        np.testing.assert_array_equal(written[..., 3], pixels[..., 3])


def test_spacing_of_tiffs_goes_along(tmp_path):
    (tmp_path / "in").mkdir()
    for channel in range(2):
        pixels = np.random.default_rng(channel).random((4, 8, 9), dtype=np.float32)
        tifffile.imwrite(tmp_path / f"in/a_{channel:04d}.tif", pixels, photometric="minisblack")
    (tmp_path / "in/a.json").write_text('{"spacing": [0.5, 3.0, 0.6]}')
    corrupt_folder(tmp_path / "in", tmp_path / "out", ranges={"blur": (0.2, 0.2)})
    assert json.loads((tmp_path / "out/blur/a.json").read_text()) == {"spacing": [0.5, 3.0, 0.6]}
    assert manifest(tmp_path / "out/blur")["cases"]["a"]["slice_axis"] == "y"


def test_images_are_found_beside_other_files(images):
    for name in ("notes.txt", "dataset.json", ".hidden_0000.nii.gz"):
        (images / name).touch()
    assert [case.name for case in find_images(images)] == ["case_0", "case_1", "case_2"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "no images in"),
        (("a.nii.gz", "b_0000.nii.gz"), r"1 images .* not named CASE_0000\.nii\.gz .* first of them a\.nii\.gz"),
        (("a_0000.nii.gz", "b_0000.png"), r"several endings \(1 of \.nii\.gz, 1 of \.png\)"),
        (("a_0000.jpg",), r"end with \.jpg"),
        (("a_0000.PNG",), r"end with \.PNG"),
        (("a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz"), "needs the channels 0000 0001, but b has 0000"),
        (("a_0000.nii.gz", "a_0002.nii.gz"), "needs the channels 0000 0001, but a has 0000 0002"),
    ],
)
def test_folders_that_cannot_be_read(tmp_path, files, message):
    for file in files:
        (tmp_path / file).touch()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        find_images(tmp_path)


def test_nothing_is_written_if_an_image_is_broken(images, tmp_path):
    path = images / "case_1_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:-50])
    write_volume(images / "case_2_0001.nii.gz", 0, shape=(4, 12, 15))
    with pytest.raises(ValueError, match="nothing was corrupted") as caught:
        corrupt_folder(images, tmp_path / "out", ranges={"blur": (0.1, 0.2)})
    assert "case_1_0000.nii.gz cannot be read" in str(caught.value)
    assert "case_2_0001.nii.gz has size 15 x 12 x 4, " in str(caught.value)
    assert "case_2_0000.nii.gz has 14 x 12 x 4 (x, y, z)" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_settings_are_checked_first(images, tmp_path):
    with pytest.raises(ValueError, match="no shift was named"):
        corrupt_folder(images, tmp_path / "out", ranges={})
    with pytest.raises(ValueError, match="there is no shift fog"):
        corrupt_folder(images, tmp_path / "out", ranges={"fog": (0, 1)})
    with pytest.raises(FileNotFoundError, match="no input folder"):
        corrupt_folder(tmp_path / "none", tmp_path / "out", ranges={"blur": (0.1, 0.2)})


@pytest.mark.parametrize("resume", [False, True])
def test_a_command_that_was_interrupted_as_it_began_is_begun_again(images, tmp_path, resume):
    (tmp_path / "out" / "blur" / f".{MANIFEST}.unfinished-4194304").mkdir(parents=True)
    report = corrupt_folder(images, tmp_path / "out", ranges={"blur": RANGES["blur"]}, resume=resume)
    assert report.num_written == report.num_cases
    assert not list((tmp_path / "out" / "blur").glob(".*"))


@pytest.mark.parametrize("content", [b"", b"cut"])
def test_images_that_a_power_cut_damaged_are_made_again(images, tmp_path, content):
    options = {"ranges": {"blur": RANGES["blur"]}, "seed": 3}
    corrupt_folder(images, tmp_path / "out", **options)
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / "blur" / "case_1_0001.nii.gz").write_bytes(content)
    report = corrupt_folder(images, tmp_path / "out", resume=True, **options)
    assert report.num_written == 1
    assert contents(tmp_path / "out") == whole
    path = tmp_path / "out" / "blur" / "case_1_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:-8] + bytes(4) + path.read_bytes()[-4:])  # the checksum of gzip
    assert corrupt_folder(images, tmp_path / "out", resume=True, **options).num_written == 1
    assert contents(tmp_path / "out") == whole
    (tmp_path / "out" / "blur" / MANIFEST).write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest.json: not valid JSON.*remove the folder .*blur"):
        corrupt_folder(images, tmp_path / "out", resume=True, **options)
