"""What folds were trained on, from splits as nnU-Net writes them and from what its validation leaves."""

import json

import pytest
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_stochastic.inference import StochasticPredictor
from nnunet_stochastic.inference.fold_data import data_of_folds

NAME = "Dataset501_Nodules"
CASES = [f"case.v2_{index}" for index in range(10)]
CROSS_VALIDATION = generate_crossval_split(CASES, seed=12345, n_splits=5)


@pytest.fixture
def model(tmp_path):
    """Folders of the folds 0, 1, 5 and all."""
    folders = {fold: tmp_path / "model" / f"fold_{fold}" for fold in (0, 1, 5, "all")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    return folders


def write_splits(root, splits):
    (root / NAME).mkdir(exist_ok=True)
    (root / NAME / "splits_final.json").write_text(json.dumps(splits))


def write_validation(folder, cases):
    """As nnU-Net's closing validation, on either system."""
    entries = [{"prediction_file": f"C:\\results\\{case}.nii.gz", "metrics": {}} for case in cases[:1]]
    entries += [{"prediction_file": f"/results/{case}.nii.gz", "metrics": {}} for case in cases[1:]]
    (folder / "validation").mkdir()
    (folder / "validation" / "summary.json").write_text(json.dumps({"metric_per_case": entries}))


def found(root, folders):
    return data_of_folds(NAME, folders, file_ending=".nii.gz", preprocessed=root)


def test_folds_with_the_same_cases_are_told_from_those_of_a_cross_validation(tmp_path, model):
    write_splits(tmp_path, CROSS_VALIDATION)
    assert found(tmp_path, [model[0], model[1]]).data == "different"
    copies = [CROSS_VALIDATION[0], {**CROSS_VALIDATION[0], "train": CROSS_VALIDATION[0]["train"][::-1]}]
    write_splits(tmp_path, copies)
    same = found(tmp_path, [model[0], model[1]])
    assert same.data == "same"
    assert same.reason.endswith("splits_final.json")
    # nnU-Net draws a split of its own for a fold that the file does not have, and trains fold all on all cases.
    assert found(tmp_path, [model[0], model[5]]).data == "different"
    assert found(tmp_path, [model[1], model["all"]]).data == "different"


def test_splits_that_were_replaced_after_the_training_tell_nothing(tmp_path, model):
    for fold in (0, 1):
        write_validation(model[fold], CROSS_VALIDATION[fold]["val"])
    write_splits(tmp_path, [CROSS_VALIDATION[0]] * 2)
    cross_validation = found(tmp_path, [model[0], model[1]])
    assert cross_validation.data == "different"
    assert "validated on different cases" in cross_validation.reason
    write_splits(tmp_path, CROSS_VALIDATION)
    (model[1] / "validation" / "summary.json").unlink()
    (model[1] / "validation").rmdir()
    write_validation(model[1], CROSS_VALIDATION[0]["val"])
    ensemble = found(tmp_path, [model[0], model[1]])
    assert ensemble.data == "unknown"
    assert "is not that of the training: fold_1 was validated on other cases" in ensemble.reason


def test_validation_tells_of_a_model_without_its_data(tmp_path, model):
    write_validation(model[0], CROSS_VALIDATION[0]["val"])
    assert found(tmp_path, [model[0], model[1]]).data == "unknown"
    write_validation(model[1], CROSS_VALIDATION[1]["val"])
    assert found(tmp_path, [model[0], model[1]]).data == "different"


def test_what_is_not_known_is_said_with_a_reason(tmp_path, model, monkeypatch):
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    folds = [model[0], model[1]]
    unset = data_of_folds(NAME, folds, file_ending=".nii.gz")
    assert (unset.data, unset.reason) == ("unknown", "the environment variable nnUNet_preprocessed is not set")
    assert found(tmp_path, folds).reason.startswith("there is no ")
    for text in ("", "[]", '[{"train": 1, "val": []}]'):
        (tmp_path / NAME).mkdir(exist_ok=True)
        (tmp_path / NAME / "splits_final.json").write_text(text)
        damaged = found(tmp_path, folds)
        assert damaged.data == "unknown"
        assert "splits_final.json" in damaged.reason


def test_a_prediction_says_what_its_folds_are(tmp_path, folders, monkeypatch):
    folder = folders.write_model_folder(tmp_path / "model", folds=(0, 1))
    name = json.loads((folder / "plans.json").read_text())["dataset_name"]
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    (tmp_path / name).mkdir()

    def settings(folds):
        return StochasticPredictor.from_model_folder(folder, folds=folds).settings()

    for splits, data, note in (
        (None, "unknown", "folds (splits unknown): whether they were trained on the same cases is not known, there is"),
        (CROSS_VALIDATION, "different", "cross-validation folds (different data): members differ in the cases"),
        ([CROSS_VALIDATION[0]] * 2, "same", None),
    ):
        if splits is not None:
            (tmp_path / name / "splits_final.json").write_text(json.dumps(splits))
        said = settings((0, 1))
        assert (said["epistemic_source"], said["training_data_of_folds"]) == ("ensemble", data)
        assert note is None or any(each.startswith(note) for each in said["notes"])
        assert note is not None or not any("folds" in each for each in said["notes"])
    assert settings((0,))["training_data_of_folds"] is None
