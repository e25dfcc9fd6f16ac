"""From a trained fold to an epistemic map of one network, by the commands."""

import json
import re
import shutil

import nibabel
import numpy as np
import pytest
import torch

from nnunet_stochastic.commands.fit_laplace import main
from nnunet_stochastic.commands.predict import main as predict
from tests.fitting.conftest import make_dataset, make_model
from tests.fitting.test_fold_annotations import CASES, one_class, write_masks
from tests.inference import model_folder as folders

__all__ = ["make_dataset", "make_model"]


def run(*arguments):
    return main([*map(str, arguments), "-device", "cpu", "--disable_progress_bar"])


@pytest.fixture
def images(tmp_path):
    folders.write_image(tmp_path / "images" / "a_0000.nii.gz", folders.image_array(0, (18, 20, 17)))
    return tmp_path / "images"


def predicting(folder, images, out, *arguments):
    quiet = ["-device", "cpu", "-npp", "0", "-nps", "0", "--disable_progress_bar", "--disable_tta"]
    return predict(["-i", str(images), "-o", str(out), "-m", str(folder), "-f", "0", *arguments, *quiet])


def test_fit_and_predict(make_model, images, tmp_path, capsys):
    folder = make_model().folder
    assert run("-d", 999, "-c", "3d_fullres", "-f", 0) == 0
    printed = capsys.readouterr().out
    stored = torch.load(folder / "fold_0" / "laplace.pth", weights_only=True)
    record = stored["record"]
    assert "fold_0: 27 weights, full matrix, of 3 training cases with 1.728e+04 annotated voxels" in printed
    assert f"temperature {stored['temperature']:.3g} ({stored['temperature'] * 17280:.3g} effective voxels)" in printed
    assert f"prior precision {stored['prior_precision']:.3g} (" in printed
    assert "weights determined by the data), by nll against labelsTr; trained on labelsTr" in printed
    assert (
        f"1 validation cases: {record['nll']:.5f}, of the trained weights alone {record['nll_trained']:.5f}" in printed
    )

    out = tmp_path / "out"
    assert predicting(folder, images, out, "--epistemic", "laplace", "--num_members", "3") == 0
    settings = json.loads((out / "uncertainty.json").read_text())["settings"]
    assert settings["epistemic_source"] == "laplace"
    assert settings["members"] == 3
    described = settings["checkpoints"]["fold_0"]["laplace"]
    assert (described["fitted_against"], described["trained_against"]) == ("labels", "labels")
    assert described["temperature"] == stored["temperature"]
    assert described["prior_precision"] == stored["prior_precision"]
    assert described["effective_voxels"] == pytest.approx(stored["temperature"] * 17280)
    assert f"({described['determined_weights']:.3g} weights determined by the data)" in printed
    maps = {name: nibabel.load(out / name / "a.nii.gz").get_fdata() for name in ("total", "aleatoric", "epistemic")}
    assert maps["epistemic"].mean() > 1e-4
    np.testing.assert_allclose(maps["aleatoric"] + maps["epistemic"], maps["total"], atol=1e-5)
    assert predicting(folder, images, tmp_path / "auto", "--num_members", "3") == 0
    for name, values in maps.items():
        np.testing.assert_array_equal(nibabel.load(tmp_path / "auto" / name / "a.nii.gz").get_fdata(), values)

    # Another fit of the same checkpoint is another prediction.
    assert predicting(folder, images, out, "--epistemic", "laplace", "--num_members", "3", "--continue_prediction") == 0
    assert run("-m", folder, "-f", 0, "--fit", "marginal_likelihood", "--overwrite") == 0
    printed = capsys.readouterr().out
    found, trained = map(
        float, re.search(r"cases: ([\d.]+), of the trained weights alone ([\d.]+) nats", printed).groups()
    )
    # What another criterion chose is not near the trained weights because it is worse than they are.
    assert "members will hardly differ" not in printed
    assert ("no worse: --fit nll chooses by these cases" in printed) == (found >= trained)
    assert predicting(folder, images, out, "--epistemic", "laplace", "--num_members", "3", "--continue_prediction") == 1
    assert "laplace_sha256 was" in capsys.readouterr().err


def test_a_fit_that_is_there_is_kept(make_model, capsys):
    folder = make_model().folder
    assert run("-m", folder, "-f", 0, "-step_size", 1) == 0
    before = (folder / "fold_0" / "laplace.pth").read_bytes()
    capsys.readouterr()
    assert run("-m", folder, "-f", 0) == 1
    assert "fold_0/laplace.pth is there: --overwrite fits it again" in capsys.readouterr().err
    assert (folder / "fold_0" / "laplace.pth").read_bytes() == before


def test_what_is_wrong_with_a_fold_is_said_before_any_is_fitted(make_model, capsys):
    folder = make_model(folds=(0, 1)).folder  # the splits have one fold
    assert run("-m", folder, "-f", 0, 1) == 1
    assert "has the folds 0 to 0 and not fold_1" in capsys.readouterr().err
    assert not (folder / "fold_0" / "laplace.pth").exists()


def test_without_a_fit_the_prediction_says_how_to_make_one(make_model, images, tmp_path, capsys):
    folder = make_model().folder
    assert predicting(folder, images, tmp_path / "out", "--epistemic", "laplace") == 1
    assert "has no laplace.pth in fold_0" in (printed := capsys.readouterr().err)
    assert "nnunet_stochastic_fit_laplace makes it" in printed


def test_a_trained_again_fold_must_be_fitted_again(make_model, images, tmp_path, capsys):
    folder = make_model(folds=(0, 1)).folder
    assert run("-m", folder, "-f", 0, "-step_size", 1) == 0
    shutil.copy(folder / "fold_1" / "checkpoint_final.pth", folder / "fold_0" / "checkpoint_final.pth")
    capsys.readouterr()
    for method in ("laplace", "auto"):
        assert predicting(folder, images, tmp_path / "out", "--epistemic", method) == 1
        assert "was fitted to another state of" in (printed := capsys.readouterr().err)
        assert ("--epistemic none predicts without them" in printed) == (method == "auto")  # as one asked for them
    assert predicting(folder, images, tmp_path / "out", "--epistemic", "none") == 0


def test_against_what_the_raters_say_if_asked(make_model, images, tmp_path, capsys):
    model = make_model(num_raters=2)
    write_masks(model, {case: [one_class(0), one_class(1)] for case in CASES})
    assert run("-m", model.folder, "-f", 0, "-step_size", 1, "--fit_against", "raters") == 0
    printed = capsys.readouterr().out
    assert "by nll against the raters' masks (2 per case); trained on labelsTr" in printed
    note = "fitted against the raters' masks and trained on labelsTr"
    assert f"note: the last layer was {note}" in printed
    assert predicting(model.folder, images, tmp_path / "out", "--num_members", "2") == 0
    assert f"note: fold_0: the last layer was {note}" in capsys.readouterr().out
    notes = json.loads((tmp_path / "out" / "uncertainty.json").read_text())["settings"]["notes"]
    assert len([each for each in notes if each.startswith(f"fold_0: the last layer was {note}")]) == 1


def test_masks_that_the_training_needed_are_asked_for_before_a_fit(make_model, capsys):
    folder = make_model("nnUNetTrainerDeterministic", num_raters=2).folder
    assert run("-m", folder, "-f", 0) == 1
    printed = capsys.readouterr().err
    assert "tiny_3d_raters lacks the raters' masks" in printed
    assert "the network was trained on them: run `nnunet_stochastic_preprocess_raters -d Dataset999_Tiny" in printed
    assert "--fit_against labels" in printed
    assert not list((folder / "fold_0").glob("laplace*"))
