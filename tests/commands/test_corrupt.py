"""The command: what it writes, what it prints, and its errors."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from nnunet_stochastic.commands.corrupt import main


@pytest.fixture
def images(tmp_path):
    (tmp_path / "imagesTs").mkdir()
    for case in range(2):
        values = np.random.default_rng(case).normal(0, 100, (4, 4, 4)).repeat(8, 0).repeat(8, 1).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(values, np.diag([1, 1, 3, 1])), tmp_path / f"imagesTs/c{case}_0000.nii.gz")
    return tmp_path / "imagesTs"


def run(images, *options):
    return main(["-i", str(images), "-o", str(images.parent / "out"), "--disable_progress_bar", *options])


def test_the_four_of_the_paper_by_default_and_what_to_do_next(images, capsys):
    assert run(images) == 0
    out, err = capsys.readouterr()
    output = images.parent / "out"
    assert sorted(path.name for path in output.iterdir()) == ["blur", "contrast", "jpeg", "noise"]
    assert "2 cases, 4 shifts: 8 corrupted copies written\n" in out
    assert f"nnunet_stochastic_predict -i {output / 'blur'} -o predictions_blur" in out
    assert "-ood blur=predictions_blur noise=predictions_noise" in out
    assert err == ""
    original, noisy = (nibabel.load(f / "c1_0000.nii.gz").get_fdata() for f in (images, output / "noise"))
    sigma = json.loads((output / "noise/manifest.json").read_text())["cases"]["c1"]["parameters"]["sigma"]
    assert 0.1 <= sigma <= 0.5
    assert (noisy - original).std() == pytest.approx(sigma * original.std(), rel=0.1)


def test_ranges_seed_and_continuing(images, capsys):
    options = ("--shifts", "noise", "jpeg", "--ranges", "noise=0.7:0.7", "--seed", "5", "-np", "2")
    assert run(images, *options) == 0
    record = json.loads((images.parent / "out/noise/manifest.json").read_text())
    assert record["seed"] == 5
    assert [entry["parameters"]["sigma"] for entry in record["cases"].values()] == [0.7, 0.7]
    (images.parent / "out/jpeg/c0_0000.nii.gz").unlink()
    assert run(images, *options) == 1
    assert "is not empty" in capsys.readouterr().err
    assert run(images, *options, "--continue_corruption") == 0
    assert "1 corrupted copy written, 3 were complete" in capsys.readouterr().out


def test_constant_images_are_named(images, capsys):
    nibabel.save(nibabel.Nifti1Image(np.ones((8, 8, 2), dtype=np.int16), np.eye(4)), images / "flat_0000.nii.gz")
    assert run(images, "--shifts", "noise") == 0
    assert "a channel is constant, and stays as it is, in flat\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-np", "0"), "-np must be at least 1, got 0"),
        (("--shifts", "blur", "--ranges", "noise=0.1:0.2"), "--ranges has noise, which --shifts does not name"),
        (("--ranges", "noise=0.5:0.2"), "sigma of noise"),
    ],
)
def test_errors_before_anything_is_written(images, capsys, options, message):
    assert run(images, *options) == 1
    assert message in capsys.readouterr().err
    assert not (images.parent / "out").exists()


def test_range_that_is_none(images, capsys):
    with pytest.raises(SystemExit):
        run(images, "--ranges", "noise=strong")
    assert "a range is SHIFT=LOW:HIGH, for instance blur=0.02:0.1, got noise=strong" in capsys.readouterr().err


def test_shifts_that_leave_nothing_of_a_structure_are_warned_of(images, capsys):
    labels = np.zeros((32, 32, 4), dtype=np.uint8)
    labels[14:18, 14:18] = 1
    (images.parent / "labelsTs").mkdir()
    for case in range(4):
        values = (500.0 * labels - 300 + np.random.default_rng(case).normal(0, 10, labels.shape)).astype(np.int16)
        for path, array in (
            (images / f"c{case}_0000.nii.gz", values),
            (images.parent / f"labelsTs/c{case}.nii.gz", labels),
        ):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([1, 1, 3, 1])), path)
    options = ("--shifts", "blur", "noise", "-gt", str(images.parent / "labelsTs"))
    assert run(images, *options) == 0
    assert capsys.readouterr().err == ""
    for shift in ("blur", "noise"):
        for file in (images.parent / "out" / shift).iterdir():
            file.unlink()
    assert run(images, *options, "--ranges", "blur=0.2:0.2", "noise=0:0") == 0
    warnings = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1] for line in warnings] == [" blur", " noise"]
    assert "between a structure and its surroundings is left" in warnings[0]
    assert "in 4 cases (c0, c1, c2, …)" in warnings[0]
    assert "--ranges blur=0.005:0.01" in warnings[0]
    assert "nearly unchanged: 4 cases (c0, c1, c2, …)" in warnings[1]
