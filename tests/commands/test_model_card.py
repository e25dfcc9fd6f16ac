"""The model card: every number is that of a file, what no file says is said, and other models' files are refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from nnunet_stochastic.commands import info
from tests.inference import model_folder

DATASET = "Dataset999_Test"
#: Cases a to e are of three patients.
SPLITS = [{"train": ["a", "b", "c"], "val": ["d", "e"]}, {"train": ["c", "d", "e"], "val": ["a", "b"]}]
PATIENTS = {"a": "1", "b": "1", "c": "2", "d": "3", "e": "3", "test": "4"}
START = "/home/someone/results/Dataset999_Test/nnUNetTrainer__nnUNetPlans__3d_fullres/fold_0/checkpoint_final.pth"


@pytest.fixture
def model(tmp_path, monkeypatch) -> Path:
    """Two folds as trainings leave them: fine-tuned with a seed, and from scratch; snapshots of SWAG in both."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(name, str(tmp_path / name))
        (tmp_path / name / DATASET).mkdir(parents=True)
    (tmp_path / "nnUNet_preprocessed" / DATASET / "splits_final.json").write_text(json.dumps(SPLITS))
    lines = [f"{case},{patient}" for case, patient in PATIENTS.items()]
    (tmp_path / "nnUNet_raw" / DATASET / "patients.csv").write_text("\n".join(["case,patient", *lines]) + "\n")
    folder = model_folder.write_model_folder(tmp_path / "model", folds=(0, 1))
    told = [
        {"stochastic_recipe": "fine_tuning", "stochastic_starting_checkpoint": START, "stochastic_seed": 7},
        {"stochastic_recipe": "scratch", "stochastic_starting_checkpoint": None},
    ]
    for fold, (arguments, epochs, dice) in enumerate(zip(told, (20, 1000), (0.87654, 0.5), strict=True)):
        change_checkpoint(folder / f"fold_{fold}", arguments, current_epoch=epochs)
        write_validation(folder / f"fold_{fold}", SPLITS[fold]["val"], dice)
        (folder / f"fold_{fold}" / "swag.pth").write_bytes(b"swag %d" % fold)
        (folder / f"fold_{fold}" / "debug.json").write_text('{"torch_version": "2.9.0"}')
    change_dataset(folder, num_raters=4, numTraining=5, licence="CC BY 4.0", description="two\nlines | and *signs*")
    return folder


def change_checkpoint(fold: Path, arguments: dict, **content) -> None:
    path = fold / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    checkpoint["init_args"] |= arguments
    torch.save(checkpoint | content, path)


def write_validation(fold: Path, cases: list[str], dice: float) -> None:
    entries = [{"prediction_file": f"/results/{case}.nii.gz", "metrics": {}} for case in cases]
    (fold / "validation").mkdir()
    content = {"metric_per_case": entries, "foreground_mean": {"Dice": dice}}
    (fold / "validation" / "summary.json").write_text(json.dumps(content))


def change_dataset(folder: Path, **content) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | content))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def card(capsys, *options) -> list[str]:
    assert info.main(["--card", *map(str, options)]) == 0
    return capsys.readouterr().out.splitlines()


def error(capsys, *options) -> str:
    assert info.main([str(option) for option in options]) == 1
    return capsys.readouterr().err.splitlines()[0]


def test_data_training_members_and_hashes(model, capsys):
    lines = card(capsys, "-m", model)
    start = "nnUNetTrainer__nnUNetPlans__3d_fullres/fold_0/checkpoint_final.pth"
    for line in (
        "# Model card: nnUNetTrainer, Dataset999_Test",
        r"| description | two lines \| and \*signs\* |",
        "| licence | CC BY 4.0 |",
        "| channels | image |",
        "| structures | nodule (1) |",
        "| cases to train on | 5 |",
        "| cases in the splits | 5 |",
        "| patients of these | 3 (patients.csv) |",
        "| annotations of a case | 4 raters |",
        "| plans, configuration | nnUNetPlans, 3d_fullres |",
        "| patch | 16 x 16 x 16 voxels |",
        "| spacing | 1.0 x 1.0 x 1.0 mm |",
        "| data of the folds | different |",
        f"| fold_0 | 3 | 2 | 0.8765 | 20 | {start} | 7 |",
        "| fold_1 | 3 | 2 | 0.5 | 1000 | random weights | none recorded |",
        "| No EU (`--epistemic none`) | one set of weights | every fold |",
        "| Ensemble (`--epistemic ensemble`) | the folds | 2 folds |",
        "| SWAG (`--epistemic swag`) | draws of SWAG's weights | swag.pth |",
        f"| fold_1 | checkpoint_final.pth | {sha256(model / 'fold_1' / 'checkpoint_final.pth')} |",
        f"| fold_0 | swag.pth | {hashlib.sha256(b'swag 0').hexdigest()} |",
    ):
        assert line in lines
    text = "\n".join(lines)
    assert "Trained with torch 2.9.0; nnU-Net keeps no other version." in text
    assert "dropout" not in text.lower()
    assert "/home/someone" not in text
    assert text.count("None was given.") == 2


def test_what_no_file_says_is_said(model, monkeypatch, capsys):
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.delenv(name)
    for fold in ("fold_0", "fold_1"):
        (model / fold / "validation" / "summary.json").unlink()
        (model / fold / "debug.json").unlink()
    (model / "fold_1" / "swag.pth").unlink()  # so the model as a whole has none
    lines = card(capsys, "-m", model)
    for line in (
        "| cases in the splits | not known |",
        "| patients of these | not known: no splits_final.json of this training was found |",
        "| data of the folds | unknown |",
        "| fold_1 | not known | not known | not known | 1000 | random weights | none recorded |",
    ):
        assert line in lines
    assert not any("SWAG" in line for line in lines)
    assert any(line.startswith("Trained with torch not known; ") for line in lines)


def test_splits_that_are_not_those_of_the_training_are_not_used(model, tmp_path, capsys):
    file = tmp_path / "nnUNet_preprocessed" / DATASET / "splits_final.json"
    file.write_text(json.dumps([{"train": ["a"], "val": ["b"]}] * 2))
    lines = card(capsys, "-m", model)
    assert "| cases in the splits | not known |" in lines
    assert any(line.startswith("| fold_0 | not known | 2 | 0.8765 | 20 | ") for line in lines)


def test_one_fold_of_one_set_of_weights(model, tmp_path, capsys):
    lines = card(capsys, "-m", model_folder.write_model_folder(tmp_path / "single"))
    assert "| annotations of a case | one reference |" in lines
    assert any(line.startswith("One set of weights has no epistemic uncertainty: ") for line in lines)
    assert not any("data of the folds" in line for line in lines)


def calibration(model: Path) -> dict:
    """Of 9 cases of 6 patients: intervals at 0.8, infinite at 0.9."""
    quantiles = [{"level": 0.8, "quantile": 1.5}, {"level": 0.9, "quantile": None}]
    structure = {
        "presence": dict.fromkeys(("num_not_segmented", "num_missed"), 0)
        | {"num_cases": 9, "num_patients": 6, "reference_share": 1.0},
        "volume": {
            "has_samples": False,
            "least_spread_ml": 0.0,
            "quantiles": quantiles,
            "num_patients": 5,
            "num_cases": 8,
        },
        "left_out": {"masks": "there are no probabilities", "dice": "too few cases"},
    }
    fits = {"AU": {"a": -2.5, "b": 0.25}, "TU": {"a": -123.456, "b": 1.0}}
    return {
        "platt": fits,
        "platt_per_image": fits,
        "temperature": 1.23456,
        "threshold": {"AU": 0.5, "TU": 0.75, "quantile": 0.9},
        "decisions": {
            "version": 1,
            "seed": 0,
            "labels": {"nodule": [1]},
            "num_cases": 9,
            "num_patients": 6,
            "levels": [0.8, 0.9],
            "alphas": [0.1],
            "structures": {"nodule": structure},
            "image_scores": {},
        },
        "num_cases": 10,
        "num_raters": 4,
        "left_out": {"EU": "there are no epistemic maps"},
        "model": {"dataset": DATASET, "trainer": "nnUNetTrainer", "plans": "nnUNetPlans", "epistemic": "swag"},
        "settings": {"checkpoints": {"fold_0": {"sha256": sha256(model / "fold_0" / "checkpoint_final.pth")}}},
    }


def test_calibration_beside_the_model_or_named(model, tmp_path, capsys):
    (model / "calibration.json").write_text(json.dumps(calibration(model)))
    lines = card(capsys, "-m", model)
    found = "| nodule | 9 | 6 | of 5 patients | none | none |"
    for line in (
        "Rests on 10 validation cases with 4 raters each, predicted by the epistemic method swag.",
        "| AU | sigmoid(-(-2.5 (-u) + 0.25)) | 0.5 |",
        "| TU | sigmoid(-(-123.5 (-u) + 1)) | 0.75 |",
        "Temperature of the probabilities: 1.235.",
        "Left out: EU: there are no epistemic maps.",
        found,
        "- nodule: masks: there are no probabilities",
        "- nodule: volume interval at 90 % is infinite: 5 patients, at least 9 are needed",
    ):
        assert line in lines
    assert any(line.startswith("Decisions rest on 9 cases of 6 patients, and ") for line in lines)
    (model / "calibration.json").rename(tmp_path / "mine.json")
    assert found not in card(capsys, "-m", model)
    assert found in card(capsys, "-m", model, "-calibration", tmp_path / "mine.json")


def test_coverage_and_scores_of_an_evaluation(model, tmp_path, capsys):
    covered = {"coverage": 0.875, "interval": [0.5, 1.0], "num_cases": 8, "num_patients": 6}
    width = {"mean_width_ml": 2.0, "median_width_ml": 1.5, "share_infinite": 0.0}
    quality = {"mae": 0.1, "rank_correlation": 0.5, "aurc": 0.2, "model": "isotonic", "num_cases": 8, "num_patients": 6}
    bound = {"0.8": {**covered, "coverage": 0.75, "mean_bound": 0.5}}
    structure = {
        **dict.fromkeys(("masks", "lesions", "raters")),
        "num_segmented": 8,
        "volume": {"0.8": covered | width},
        "dice": {**quality, "mean_dice": 0.8, "lower_bound": bound, "baselines": {}},
        "cases": [],
        "left_out": {},
    }
    decisions = {
        **{"levels": [0.8], "alphas": [0.1], "alpha": 0.1, "unit": "patients", "shifts": {}},
        **{"num_validation_cases": 9, "num_validation_patients": 6},
        "ID": {"num_cases": 12, "num_patients": 7, "num_shared_cases": 0, "structures": {"nodule": structure}},
    }
    means = {"mean": {"dice": 0.81234, "nll": None}, "dataset": {"ece": 0.0421}}
    summary = {
        "convention": "entanglement",
        "num_cases": 12,
        "num_raters": 4,
        "model": calibration(model)["model"],
        "results": {"raters": {"nodule": means, "all classes": means}, "reference": {}},
        "tasks": {"DECISIONS": decisions},
    }
    (tmp_path / "evaluated").mkdir()
    (tmp_path / "evaluated" / "summary.json").write_text(json.dumps(summary))
    lines = card(capsys, "-m", model, "-evaluation", tmp_path / "evaluated")
    for line in (
        "12 cases, against 4 raters each; convention entanglement.",
        "| nodule | 0.8123 | not known | 0.0421 |",
        "Coverage, over 12 cases of 7 patients, 0 of which the decisions were fitted to:",
        "| nodule | 0.8 | 0.875 (8 cases of 6 patients) | 0.75 |",
    ):
        assert line in lines
    assert not any(line.startswith("| all classes") for line in lines)


def test_files_of_another_model_are_refused(model, tmp_path, capsys):
    content = calibration(model)
    for change, message in (
        ({"model": content["model"] | {"trainer": "nnUNetTrainerMoB"}}, "is of the trainer nnUNetTrainerMoB, and -m"),
        ({"settings": {"checkpoints": {"fold_0": {"sha256": "0" * 64}}}}, "made with other weights of fold_0 than -m"),
    ):
        (tmp_path / "other.json").write_text(json.dumps(content | change))
        assert message in error(capsys, "-m", model, "--card", "-calibration", tmp_path / "other.json")


def test_a_card_is_never_overwritten_and_bad_arguments_are_named(model, tmp_path, capsys):
    file = tmp_path / "CARD.md"
    assert info.main(["-m", str(model), "--card", str(file)]) == 0
    number = file.read_text(encoding="utf-8").count("**[fill in")
    assert number > 8
    assert capsys.readouterr().out == f"{file}: {number} fields to fill in\n"
    assert "is there already, perhaps with fields filled in" in error(capsys, "-m", model, "--card", file)
    assert "name its folder with -m" in error(capsys, "--card")
    assert "-m is for the model card: add --card" in error(capsys, "-m", model)
    assert "plans.json is missing" in error(capsys, "-m", tmp_path, "--card")
    assert "no fold has checkpoint_best.pth: check -chk" in error(
        capsys, "-m", model, "--card", "-chk", "checkpoint_best.pth"
    )
    change_checkpoint(model / "fold_1", {}, trainer_name="nnUNetTrainerMoB")
    assert "keep the folds of one trainer and configuration in a folder" in error(capsys, "-m", model, "--card")
