import gc
import json
import shutil
import signal
import tempfile

import nibabel
import numpy as np
import pytest
import torch

from nnunet_stochastic.commands.predict import main
from nnunet_stochastic.inference import StochasticPredictor
from nnunet_stochastic.io.output_locks import locked_output_folder
from tests.inference import model_folder as folders


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """nnUNet_results with two folds of a plain nnUNetTrainer, and two images."""
    root = tmp_path_factory.mktemp("trained")
    folder = root / "nnUNet_results" / "Dataset999_Test" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    folders.write_model_folder(folder, folds=(0, 1))
    for name in ("a", "b"):
        folders.write_image(root / "images" / f"{name}_0000.nii.gz", folders.image_array(ord(name), (14, 16, 15)))
    return root


def run(trained, out, *arguments: str) -> int:
    common = [
        "-i",
        str(trained / "images"),
        "-o",
        str(out),
        "-device",
        "cpu",
        "--disable_tta",
        "--disable_progress_bar",
    ]
    return main([*common, "-npp", "0", "-nps", "0", *arguments])


def model(trained) -> list[str]:
    return ["-m", str(trained / "nnUNet_results" / "Dataset999_Test" / "nnUNetTrainer__nnUNetPlans__3d_fullres")]


def test_folds_of_a_plain_trainer_give_all_maps(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("nnUNet_results", str(trained / "nnUNet_results"))
    assert run(trained, tmp_path / "out", "-d", "999", "-c", "3d_fullres", "-f", "0", "1", "--save_probabilities") == 0
    record = json.loads((tmp_path / "out" / "uncertainty.json").read_text())
    assert record["settings"]["members"] == 2
    assert record["settings"]["epistemic_source"] == "ensemble"
    assert record["settings"]["maps"] == ["total", "aleatoric", "epistemic", "variance"]
    maps = {name: nibabel.load(tmp_path / "out" / name / "a.nii.gz").get_fdata() for name in record["settings"]["maps"]}
    np.testing.assert_allclose(maps["aleatoric"] + maps["epistemic"], maps["total"], atol=1e-6)
    assert maps["epistemic"].mean() > 1e-3
    assert (tmp_path / "out" / "a.npz").is_file()
    members = "members: fold_0, fold_1 (training data: unknown); maps: total, aleatoric, epistemic, variance"
    assert members in capsys.readouterr().out


def test_a_log_file_has_a_line_per_case_and_no_bars(trained, tmp_path, capsys):
    images = ["-i", str(trained / "images"), "-o", str(tmp_path / "out"), "-device", "cpu", "--disable_tta"]
    assert main([*images, "-npp", "0", "-nps", "0", *model(trained), "-f", "0"]) == 0
    printed = capsys.readouterr()
    assert [line for line in printed.err.splitlines() if "/2" in line] == ["1/2 a", "2/2 b"]
    assert "%" not in printed.err
    assert printed.out.splitlines()[-1].startswith("total time: 0 min ")


def test_one_fold_of_a_plain_trainer_gives_the_total_and_says_why(trained, tmp_path, capsys):
    assert run(trained, tmp_path / "out", *model(trained), "-f", "1") == 0
    note = "one deterministic network: only the total uncertainty exists"
    settings = json.loads((tmp_path / "out" / "uncertainty.json").read_text())["settings"]
    assert settings["maps"] == ["total"]
    assert settings["epistemic_source"] == "none"
    assert note in settings["notes"]
    assert f"note: {note}" in capsys.readouterr().out
    assert not (tmp_path / "out" / "epistemic").exists()


def test_augmentation_samples_and_rescaling(trained, tmp_path, capsys):
    """One deterministic fold gets an aleatoric map, whole samples, and a total whose epistemic part is as large."""
    tta = ["--aleatoric", "tta", "--num_samples", "6", "-f", "0", *model(trained)]
    assert run(trained, tmp_path / "plain", *tta, "--save_samples", "3") == 0
    assert "6 samples each by test-time augmentation; maps:" in capsys.readouterr().out
    samples = [nibabel.load(tmp_path / "plain" / "samples" / f"b_{index:03d}.nii.gz") for index in range(3)]
    plain = json.loads((tmp_path / "plain" / "uncertainty.json").read_text())
    assert plain["settings"]["aleatoric_source"] == "tta"
    voxel_ml = np.prod(samples[0].header.get_zooms()) / 1000
    spread = plain["cases"]["b"]["sample_volumes"]["nodule"]
    volumes = [(sample.get_fdata() == 1).sum() * voxel_ml for sample in samples]
    np.testing.assert_allclose(spread["samples_ml"], volumes, rtol=1e-5)
    np.testing.assert_allclose(spread["mean_ml"], np.mean(volumes), rtol=1e-5)
    assert (tmp_path / "plain" / "volumes.csv").read_text().count("nodule") == 2

    assert run(trained, tmp_path / "scaled", *tta, "--rescale_epistemic", str(tmp_path / "plain")) == 0
    scaled = json.loads((tmp_path / "scaled" / "uncertainty.json").read_text())
    before, after = (
        [case[f"mean_{name}"] for case in record["cases"].values()]
        for record, name in [(plain, "aleatoric"), (scaled, "epistemic")]
    )
    assert sum(after) == pytest.approx(sum(before), rel=1e-4)
    assert scaled["settings"]["epistemic_factor"] > 1
    case = scaled["cases"]["a"]
    assert case["mean_total"] == pytest.approx(case["mean_aleatoric"] + case["mean_epistemic"], rel=1e-5)
    assert case["epistemic_to_aleatoric"] == pytest.approx(plain["cases"]["a"]["epistemic_to_aleatoric"], rel=1e-4)


def test_a_warning_where_the_epistemic_uncertainty_has_collapsed(trained, tmp_path, capsys):
    """Two folds whose weights differ by next to nothing."""
    folder = tmp_path / "model"
    shutil.copytree(model(trained)[1], folder)
    checkpoint = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
    for weight in checkpoint["network_weights"].values():
        weight += 1e-3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    torch.save(checkpoint, folder / "fold_1" / "checkpoint_final.pth")
    assert run(trained, tmp_path / "out", "-m", str(folder), "-f", "0", "1") == 0
    assert "epistemic uncertainty has collapsed: mean EU/AU is below 0.05 in 2 of 2 cases" in capsys.readouterr().err


def test_failed_cases_are_listed(trained, tmp_path, capsys):
    shutil.copytree(trained / "images", tmp_path / "images")
    (tmp_path / "images" / "a_0000.nii.gz").write_bytes(b"this is no image")
    assert run(tmp_path, tmp_path / "out", *model(trained), "-f", "0") == 1
    assert "1 failed, all other cases are complete:\n  a: " in capsys.readouterr().err
    assert (tmp_path / "out" / "b.nii.gz").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-f", "0", "--maps", "epistemic"], "one fold of a deterministic network has no epistemic map"),
        (["-f", "0", "--maps", "doubt"], "unknown maps doubt"),
        (["-f", "0", "3"], "folds with checkpoint_final.pth: 0 1"),
        (["-f", "0", "-chk", "checkpoint_best.pth"], "no fold has checkpoint_best.pth"),
        (["-f", "0", "--num_samples", "0"], "num_samples must be at least 1"),
        (["-f", "0", "--epistemic", "dropout"], "nnUNetTrainer has no dropout to keep on"),
        (["-f", "0", "--epistemic", "swag"], "left no SWAG statistics"),
        (["-f", "0", "1", "--epistemic", "none"], "got 2 folds: choose one"),
        (["-f", "0", "--estimator", "exact"], "this network has none"),
        (["-f", "0", "1", "--save_samples", "3"], "one per member, here 2:"),
        (["-f", "0", "1", "--rescale_epistemic", "nowhere"], "there is no nowhere/uncertainty.json"),
        (["-f", "0", "1", "--rescale_epistemic", "-2"], "epistemic_factor must be positive"),
        (["-f", "0", "-part_id", "1"], "part_id must be in"),
        (["-f", "0", "-prev_stage_predictions", "somewhere"], "no cascade"),
    ],
)
def test_bad_arguments_write_nothing(trained, tmp_path, capsys, arguments, message):
    assert run(trained, tmp_path / "out", *model(trained), *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_model_that_is_not_named_or_not_there(trained, tmp_path, monkeypatch, capsys):
    assert run(trained, tmp_path / "out") == 1
    assert "name the model with -d" in capsys.readouterr().err
    assert run(trained, tmp_path / "out", "-d", "999", "-c", "3d_fullres") == 1
    assert "-m instead" in capsys.readouterr().err
    monkeypatch.setenv("nnUNet_results", str(trained / "nnUNet_results"))
    assert run(trained, tmp_path / "out", "-d", "999", "-c", "2d") == 1
    assert "there is no model folder" in capsys.readouterr().err


def test_checkpoint_of_another_trainer(trained, tmp_path, monkeypatch, capsys):
    results = tmp_path / "results" / "Dataset999_Test"
    shutil.copytree(model(trained)[1], results / "nnUNetTrainerMoB__nnUNetPlans__3d_fullres")
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    arguments = ["-d", "Dataset999_Test", "-c", "3d_fullres", "-tr", "nnUNetTrainerMoB", "-f", "0"]
    assert run(trained, tmp_path / "out", *arguments) == 1
    assert "was written by nnUNetTrainer, not by nnUNetTrainerMoB" in capsys.readouterr().err


def test_input_and_output_folders(trained, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(trained, tmp_path / "file" / "out", *model(trained), "-f", "0") == 1
    assert "cannot be written" in capsys.readouterr().err
    assert run(tmp_path, tmp_path / "out", *model(trained), "-f", "0") == 1
    assert "there is no input folder" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "word"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")])
def test_a_signal_tidies_up_and_says_how_to_go_on(trained, tmp_path, monkeypatch, capsys, number, word):
    for name in "abcd":
        folders.write_image(tmp_path / "images" / f"{name}_0000.nii.gz", folders.image_array(ord(name), (14, 16, 15)))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    predict_grid, weights = StochasticPredictor.predict_grid, []

    def end_at_c(self, data, *, case="", **options):
        result = predict_grid(self, data, case=case, **options)
        if case == "c":
            weights.extend((tmp_path / "tmp").rglob("*.raw"))
            signal.raise_signal(number)
        return result

    monkeypatch.setattr(StochasticPredictor, "predict_grid", end_at_c)
    handler = signal.getsignal(signal.SIGTERM)
    arguments = [*model(trained), "-f", "0", "1", "--save_samples", "2"]
    on_interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # processes of parallel tests ignore it
    try:
        assert run(tmp_path, tmp_path / "out", *arguments) == 128 + number
    finally:
        signal.signal(signal.SIGINT, on_interrupt)
    assert f"{word}: complete cases are kept, and the same command with --continue_prediction goes on" in (
        capsys.readouterr().err
    )
    assert signal.getsignal(signal.SIGTERM) == handler
    gc.collect()
    assert weights
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not list((tmp_path / "out").glob(".*"))
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz", "b.nii.gz"]
    monkeypatch.undo()
    assert run(tmp_path, tmp_path / "out", *arguments, "--continue_prediction") == 0
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 4


@pytest.mark.parametrize("continued", [[], ["--continue_prediction"]])
def test_another_command_in_the_folder(trained, tmp_path, capsys, continued):
    with locked_output_folder(tmp_path):
        before = list(tmp_path.iterdir())
        assert run(trained, tmp_path, *model(trained), "-f", "0", *continued) == 1
        assert f"error: another command writes {tmp_path}: wait until it has ended" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == before


@pytest.mark.parametrize("option", ["-o", "-i"])
def test_folders_without_a_name(trained, tmp_path, monkeypatch, capsys, option):
    monkeypatch.chdir(tmp_path)
    assert run(trained, tmp_path / "out", *model(trained), "-f", "0", option, "") == 1
    assert f"error: {option} is empty: name a folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_fold_is_a_number_or_all(trained, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(trained, tmp_path / "out", *model(trained), "-f", "first")
    assert "a fold is a number or all, got first" in capsys.readouterr().err


def test_help_is_quick_and_names_the_maps(capsys):
    with pytest.raises(SystemExit) as exit_status:
        main(["-h"])
    assert exit_status.value.code == 0
    assert "total aleatoric epistemic variance" in " ".join(capsys.readouterr().out.split())
