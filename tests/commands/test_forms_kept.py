"""Every command that writes NIfTI files of an image gives them its geometry: both forms, their codes, spacing, unit."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from nnunet_stochastic.commands import apply_calibration, corrupt, determine_calibration, predict
from tests.inference import model_folder

QUIET = ["--disable_progress_bar"]
QFORM = np.array([[0, -1.5, 0, 7], [1.2, 0, 0, -3], [0, 0, 2, 11], [0, 0, 0, 1]])
SFORM = QFORM + np.array([[0, 0, 0, 5], [0, 0, 0, 0], [0, 0, 0, -4], [0, 0, 0, 0]])
SHAPES = {"3D": (15, 16, 14), "one volume": (15, 16, 14, 1), "2D": (24, 18)}


def write(path: Path, array: np.ndarray, *, scaled: bool = False) -> None:
    """Write (x, y, z) with forms that differ, in micrometres."""
    image = nibabel.Nifti1Image(array, SFORM)
    image.set_qform(QFORM, 1)
    image.set_sform(SFORM, 2)
    image.header.set_xyzt_units("micron", "sec")
    if scaled:
        image.set_data_dtype(np.int16)
        image.header.set_slope_inter(0.01, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def geometry(path: Path) -> dict[str, object]:
    header = nibabel.load(path).header
    axes = min(3, len(header.get_data_shape()))
    return {
        "codes": (int(header["qform_code"]), int(header["sform_code"])),
        "qform": np.round(header.get_qform(), 4).tolist(),
        "sform": np.round(header.get_sform(), 4).tolist(),
        "spacing": np.round(header["pixdim"][1 : 1 + axes], 5).tolist(),
        "unit": header.get_xyzt_units()[0],
    }


@pytest.mark.parametrize(("kind", "scaled"), [("3D", False), ("3D", True), ("one volume", False), ("2D", False)])
def test_all_files_of_an_image(tmp_path, kind, scaled):
    dimension = 2 if kind == "2D" else 3
    name = model_folder.configuration_name(dimension)
    model = tmp_path / f"model/nnUNetTrainer__nnUNetPlans__{name}"
    grid = (0.001,) * dimension  # mm, as ITK reads micrometres
    model_folder.write_model_folder(model, folds=(0, 1), dimension=dimension, spacing=grid)
    shape = SHAPES[kind]
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    source = tmp_path / "images/a_0000.nii.gz"
    write(source, values, scaled=scaled)
    if scaled:
        assert np.asarray(nibabel.load(source).dataobj.get_unscaled()).dtype == np.int16

    out, gt = tmp_path / "out", tmp_path / "gt"
    places = ["-i", str(tmp_path / "images"), "-o", str(out), "-m", str(model)]
    options = ["-f", "0", "1", "-device", "cpu", "--disable_tta", "-npp", "0", "-nps", "0"]
    assert predict.main([*places, *options, "--save_samples", "2", "--save_probabilities", *QUIET]) == 0
    write(gt / "a.nii.gz", np.random.default_rng(1).integers(0, 2, shape[:dimension]).astype(np.uint8))
    validation = ["-val", str(out), "-gt", str(gt), "-np", "1"]
    assert determine_calibration.main([*validation, *QUIET]) == 0
    calibrated = ["-i", str(out), "-calibration", str(out / "calibration.json"), "-np", "1"]
    for method in ("platt", "temperature"):
        confidence = ["-o", str(tmp_path / method), "--method", method]
        assert apply_calibration.main([*calibrated, *confidence, *QUIET]) == 0
    copies = ["-i", str(tmp_path / "images"), "-o", str(tmp_path / "corrupted"), "--shifts", "blur"]
    assert corrupt.main([*copies, *QUIET]) == 0

    written = {path for path in tmp_path.glob("**/*.nii.gz") if path.parent not in (source.parent, gt)}
    expected = {"out/a", "out/samples/a_000", "out/samples/a_001", "temperature/a", "temperature/confidence/a"}
    expected |= {f"out/{name}/a" for name in ("total", "aleatoric", "epistemic", "variance")}
    expected |= {f"platt/confidence_{name}/a" for name in ("total", "aleatoric", "epistemic")}
    expected |= {"corrupted/blur/a_0000"}
    assert {path.relative_to(tmp_path).as_posix().removesuffix(".nii.gz") for path in written} == expected
    for path in written:
        assert geometry(path) == geometry(source), path
        assert nibabel.load(path).shape[:3] == shape[:3]
