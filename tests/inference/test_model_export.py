"""A model that was exported and installed again is the same model: all files that its predictions need, equal maps."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.model_sharing.model_export import export_pretrained_model
from nnunetv2.model_sharing.model_import import install_model_from_zip_file
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_stochastic.commands.export_model import main
from nnunet_stochastic.commands.predict import main as predict
from nnunet_stochastic.inference import load_model
from nnunet_stochastic.posteriors import fit_swag
from nnunet_stochastic.posteriors.snapshots import save_snapshot
from tests.inference import predictors
from tests.inference.predictors import PROPERTIES

TRAINER = "nnUNetTrainerDeterministicSWAG"
MODEL = Path("Dataset999_Test") / f"{TRAINER}__nnUNetPlans__3d_fullres"
SWAG_FILES = ["swag.pth", *(f"swag/epoch_{epoch:04d}.pth" for epoch in range(3))]


@pytest.fixture
def results(tmp_path, folders, monkeypatch) -> Path:
    """nnUNet_results with two folds of a …SWAG trainer, as nnUNetv2_train leaves them."""
    monkeypatch.setenv("nnUNet_extTrainer", str(Path(__file__).parents[2] / "trainers"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    folder = tmp_path / "results" / MODEL
    folders.write_model_folder(folder, folds=(0, 1), trainer=recursive_find_trainer_class_by_name(TRAINER))
    (folder / "dataset_fingerprint.json").write_text("{}")
    generator = torch.Generator().manual_seed(0)
    for fold in (0, 1):
        fold_folder = folder / f"fold_{fold}"
        (fold_folder / "validation").mkdir()
        (fold_folder / "validation" / "summary.json").write_text("{}")
        (fold_folder / "progress.png").write_bytes(b"png")
        network = load_model(folder, folds=(fold,)).network
        with torch.no_grad():
            for epoch in range(3):
                for parameter in network.parameters():
                    parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
                save_snapshot(network, fold_folder, epoch)
        fit_swag(fold_folder, range(3))
    return tmp_path / "results"


def export(*arguments: str) -> int:
    return main(["-d", "Dataset999_Test", "-tr", TRAINER, "-c", "3d_fullres", *arguments])


def installed(monkeypatch, file: Path) -> Path:
    """Another nnUNet_results, with what the zip file holds."""
    other = file.with_name("installed")
    other.mkdir()
    monkeypatch.setenv("nnUNet_results", str(other))
    install_model_from_zip_file(str(file))
    return other / MODEL


def maps(folder: Path, image: np.ndarray, **options):
    predictor = predictors.build(folder, mirroring=False, num_members=3, **options)
    return predictor.method.name, predictor.predict_array(image, PROPERTIES).maps


@pytest.mark.parametrize("folds", [("0",), ("0", "1")])
def test_a_swag_model_is_the_same_behind_export_and_installation(
    results, tmp_path, folders, monkeypatch, capsys, folds
):
    assert export("-o", str(tmp_path / "model.zip"), "-f", *folds) == 0
    printed = capsys.readouterr().out
    assert f"nnU-Net's export and {4 * len(folds)} files, in {MODEL / 'fold_0'}" in printed
    assert f"nnUNetv2_install_pretrained_model_from_zip {tmp_path / 'model.zip'}" in printed
    names = zipfile.ZipFile(tmp_path / "model.zip").namelist()
    assert len(names) == len(set(names))
    folder = installed(monkeypatch, tmp_path / "model.zip")
    for fold in folds:
        for name in SWAG_FILES:
            assert (folder / f"fold_{fold}" / name).read_bytes() == (
                results / MODEL / f"fold_{fold}" / name
            ).read_bytes()
    image = folders.image_array()[None]
    numbers = tuple(map(int, folds))
    for options in ({"epistemic": "auto", "folds": (0,)}, {"epistemic": "swag_diag", "folds": numbers}):
        method, before = maps(results / MODEL, image, **options)
        again, after = maps(folder, image, **options)
        assert (again, method) == ((method,) * 2)
        assert method == ("swag" if options["epistemic"] == "auto" else "swag_diag")
        assert before["epistemic"].max() > 0
        for name in before:
            np.testing.assert_array_equal(after[name], before[name])


def test_behind_nnunets_own_export_auto_and_swag_say_what_is_missing(results, tmp_path, folders, monkeypatch, capsys):
    export_pretrained_model("Dataset999_Test", str(tmp_path / "stock.zip"), ("3d_fullres",), TRAINER, folds=(0,))
    folder = installed(monkeypatch, tmp_path / "stock.zip")
    missing = rf"{TRAINER} left no SWAG statistics \(swag.pth\) in fold_0 of .*nnunet_stochastic_export_model"
    with pytest.raises(ValueError, match=rf"{missing}.*--epistemic none predicts without them"):
        maps(folder, folders.image_array()[None])
    for method in ("swag", "swag_diag"):
        with pytest.raises(ValueError, match=missing):
            maps(folder, folders.image_array()[None], epistemic=method)
    assert maps(folder, folders.image_array()[None], epistemic="none", maps=("total",))[0] == "none"
    folders.write_image(tmp_path / "images" / "a_0000.nii.gz", folders.image_array())
    capsys.readouterr()
    arguments = ["-i", str(tmp_path / "images"), "-o", str(tmp_path / "out"), "-device", "cpu", "-m", str(folder)]
    assert predict([*arguments, "-f", "0"]) == 1
    assert "left no SWAG statistics" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("fold_1/swag/epoch_0001.pth", "epoch_0001.pth is missing: SWAG needs all"),
        ("fold_1/swag.pth", "fold_1 has 3 snapshots and no swag.pth: training has not finished"),
        ("fold_1/validation/summary.json", "nnU-Net's export needs .*summary.json: let the training end"),
        ("fold_0/checkpoint_final.pth", "missing checkpoints: .*fold_0"),
    ],
)
def test_what_is_missing_is_named_and_nothing_written(results, tmp_path, capsys, file, message):
    (results / MODEL / file).unlink()
    assert export("-o", str(tmp_path / "model.zip"), "-f", "0", "1") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(message, error), error
    assert [path.name for path in tmp_path.iterdir() if "model" in path.name] == []


def test_a_swag_model_without_its_files_is_not_exported(results, tmp_path, capsys):
    (results / MODEL / "fold_0" / "swag.pth").unlink()
    shutil.rmtree(results / MODEL / "fold_0" / "swag")
    assert export("-o", str(tmp_path / "model.zip"), "-f", "0") == 1
    assert "left no SWAG statistics (swag.pth) in fold_0" in capsys.readouterr().err


def test_a_plain_model_is_exported_as_nnunet_does(tmp_path, folders, monkeypatch):
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    folder = tmp_path / "results" / "Dataset999_Test" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    folders.write_model_folder(folder)
    (folder / "dataset_fingerprint.json").write_text("{}")
    (folder / "fold_0" / "validation").mkdir()
    (folder / "fold_0" / "validation" / "summary.json").write_text("{}")
    (folder / "fold_0" / "progress.png").write_bytes(b"png")
    assert main(["-d", "Dataset999_Test", "-c", "3d_fullres", "-f", "0", "-o", str(tmp_path / "ours.zip")]) == 0
    export_pretrained_model("Dataset999_Test", str(tmp_path / "stock.zip"), ("3d_fullres",), folds=(0,))
    ours, stock = (zipfile.ZipFile(tmp_path / name) for name in ("ours.zip", "stock.zip"))
    assert ours.namelist() == stock.namelist()
    assert all(ours.read(name) == stock.read(name) for name in stock.namelist())
