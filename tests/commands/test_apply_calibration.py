"""Confidence maps and calibrated probabilities, computed again from the arrays; resuming and refusals."""

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_stochastic.commands import determine_calibration, evaluate
from nnunet_stochastic.commands.apply_calibration import main
from nnunet_stochastic.evaluation.confidence import ConfidenceFolder

FOLDERS = {"AU": "confidence_aleatoric", "EU": "confidence_epistemic", "TU": "confidence_total"}


@pytest.fixture
def calibrated(made):
    assert determine_calibration.main([*made.options("val", "-val"), "-np", "1", "--disable_progress_bar"]) == 0
    return made


def run(made, *options):
    folder = made.root / "id" / "pred"
    calibration = made.root / "val" / "pred" / "calibration.json"
    common = ["-i", str(folder), "-calibration", str(calibration), "-np", "1", "--disable_progress_bar"]
    return main([*common, *map(str, options)])


def parameters(made):
    return json.loads((made.root / "val" / "pred" / "calibration.json").read_text())


def read(path):
    return sitk.ReadImage(str(path))


def test_confidence_maps(calibrated):
    assert run(calibrated) == 0
    fits = parameters(calibrated)["platt"]
    for name, case in calibrated.cases["id"].items():
        for measure, folder in FOLDERS.items():
            image = read(calibrated.root / "id" / "pred" / folder / f"{name}.nii.gz")
            expected = 1 / (1 + np.exp(fits[measure]["a"] * -case.maps[measure] + fits[measure]["b"]))
            np.testing.assert_allclose(sitk.GetArrayFromImage(image), expected, rtol=1e-5)
            prediction = read(calibrated.root / "id" / "pred" / f"{name}.nii.gz")
            assert image.GetSpacing() == prediction.GetSpacing()
            assert image.GetOrigin() == prediction.GetOrigin()
    assert not list((calibrated.root / "id" / "pred").glob(".*"))


def test_temperature(calibrated, tmp_path):
    assert run(calibrated, "--method", "temperature", "-o", tmp_path / "out") == 0
    temperature = parameters(calibrated)["temperature"]
    case = calibrated.cases["id"]["b"]
    powered = case.probabilities.astype(float) ** (1 / temperature)
    expected = powered / powered.sum(axis=0)
    with np.load(tmp_path / "out" / "b.npz") as archive:
        np.testing.assert_allclose(archive["probabilities"], expected, rtol=1e-5)
    confidence = sitk.GetArrayFromImage(read(tmp_path / "out" / "confidence" / "b.nii.gz"))
    np.testing.assert_allclose(confidence, expected.max(axis=0), rtol=1e-5)
    gt = calibrated.root / "id" / "gt"
    options = ["-pred", tmp_path / "out", "-gt", gt, "--no_pictures", "-np", "1", "--disable_progress_bar"]
    assert evaluate.main(list(map(str, options))) == 0


def test_continue_computes_only_what_is_missing(calibrated, tmp_path):
    out = tmp_path / "out"
    assert run(calibrated, "-o", out) == 0
    whole = {path.name: path.read_bytes() for path in (out / "confidence_total").iterdir()}
    (out / "confidence_total" / "c.nii.gz").unlink()
    (out / "confidence_total" / "a.nii.gz").write_bytes(whole["b.nii.gz"])
    assert run(calibrated, "-o", out, "--continue_calibration") == 0
    assert (out / "confidence_total" / "a.nii.gz").read_bytes() == whole["b.nii.gz"] != whole["a.nii.gz"]  # kept
    assert (out / "confidence_total" / "c.nii.gz").read_bytes() == whole["c.nii.gz"]
    damaged = whole["c.nii.gz"][:-8] + bytes(4) + whole["c.nii.gz"][-4:]  # the checksum of gzip
    (out / "confidence_total" / "c.nii.gz").write_bytes(damaged)
    assert run(calibrated, "-o", out, "--continue_calibration") == 0
    assert (out / "confidence_total" / "c.nii.gz").read_bytes() == whole["c.nii.gz"]


def test_continue_with_another_calibration_is_refused(calibrated, tmp_path, capsys):
    assert run(calibrated, "-o", tmp_path / "out") == 0
    path = calibrated.root / "val" / "pred" / "calibration.json"
    content = parameters(calibrated)
    content["platt"]["AU"]["a"] *= 2
    path.write_text(json.dumps(content))
    assert run(calibrated, "-o", tmp_path / "out", "--continue_calibration") == 1
    assert "another method or calibration" in capsys.readouterr().err


def test_files_of_another_calibration_are_not_kept_after_an_interruption(calibrated, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert run(calibrated, "-o", out) == 0
    old = (out / "confidence_total" / "c.nii.gz").read_bytes()
    path = calibrated.root / "val" / "pred" / "calibration.json"
    content = parameters(calibrated)
    for fit in content["platt"].values():
        fit["b"] += 1
    path.write_text(json.dumps(content))
    with monkeypatch.context() as patched:
        patched.setattr(ConfidenceFolder, "write", interrupted)
        assert run(calibrated, "-o", out) == 130
    assert run(calibrated, "-o", out, "--continue_calibration") == 0
    assert (out / "confidence_total" / "c.nii.gz").read_bytes() != old


def test_cases_that_were_predicted_again_are_not_kept(calibrated, tmp_path):
    out = tmp_path / "out"
    assert run(calibrated, "-o", out) == 0
    old = (out / "confidence_total" / "c.nii.gz").read_bytes()
    new = calibrated.map_file("id", "TU", "d").read_bytes()
    path = calibrated.map_file("id", "TU", "c")
    path.write_bytes(new)
    later = (out / "confidence_total" / "c.nii.gz").stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))
    assert run(calibrated, "-o", out, "--continue_calibration") == 0
    assert (out / "confidence_total" / "c.nii.gz").read_bytes() != old


def interrupted(*_):
    raise KeyboardInterrupt


def test_refusals(calibrated, capsys, tmp_path):
    assert run(calibrated, "--method", "temperature") == 1
    assert "would overwrite the probabilities" in capsys.readouterr().err
    path = calibrated.root / "val" / "pred" / "calibration.json"
    content = parameters(calibrated)
    path.write_text(json.dumps(content | {"platt": {}}))
    assert run(calibrated) == 1
    assert "no map that" in capsys.readouterr().err
    path.write_text(json.dumps(content | {"temperature": None, "left_out": {"temperature": "no npz"}}))
    assert run(calibrated, "--method", "temperature", "-o", tmp_path / "out") == 1
    assert "has no temperature: no npz" in capsys.readouterr().err
    path.write_text('{"platt": {"XU": {"a": 1, "b": 2}}}')
    assert run(calibrated) == 1
    assert "is no calibration.json" in capsys.readouterr().err
    path.unlink()
    assert run(calibrated) == 1
    assert "nnunet_stochastic_determine_calibration" in capsys.readouterr().err


def test_uncertain_map_of_another_geometry_stops_before_anything_is_written(calibrated, capsys, tmp_path):
    image = read(calibrated.map_file("id", "EU", "d"))
    image.SetSpacing((0.7, 0.9, 3.0))
    sitk.WriteImage(image, str(calibrated.map_file("id", "EU", "d")))
    assert run(calibrated, "-o", tmp_path / "out") == 1
    assert "d: " in (error := capsys.readouterr().err)
    assert "differ in spacing" in error
    assert not (tmp_path / "out").exists()
