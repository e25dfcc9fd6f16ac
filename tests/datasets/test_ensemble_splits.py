"""Splits that make folds the members of an ensemble: what is written, and what is never overwritten."""

from __future__ import annotations

import json

import pytest
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_stochastic.datasets.ensemble_splits import write_ensemble_splits

CASES = [f"case_{index:02d}" for index in range(12)]
FOLDS = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["a", "c"], "val": ["b"]}, {"train": ["b", "c"], "val": ["a"]}]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """nnUNet_preprocessed/Dataset999_Test, with empty images in nnUNet_raw."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    raw = tmp_path / "nnUNet_raw" / "Dataset999_Test"
    (raw / "imagesTr").mkdir(parents=True)
    for case in reversed(CASES):
        for channel in range(2):
            (raw / "imagesTr" / f"{case}_{channel:04d}.nii.gz").touch()
    (raw / "dataset.json").write_text(json.dumps({"channel_names": {"0": "a", "1": "b"}, "file_ending": ".nii.gz"}))
    folder = tmp_path / "nnUNet_preprocessed" / "Dataset999_Test"
    folder.mkdir(parents=True)
    return folder


def splits_in(folder):
    return json.loads((folder / "splits_final.json").read_text())


@pytest.mark.parametrize(("num_members", "fold"), [(5, 0), (2, 4), (8, 2)])
def test_without_splits_members_get_a_fold_of_nnunets_default(folder, num_members, fold):
    result = write_ensemble_splits("999", num_members=num_members, fold=fold)
    default = generate_crossval_split(CASES, seed=12345, n_splits=5)[fold]
    assert (
        splits_in(folder) == [{part: [str(case) for case in default[part]] for part in ("train", "val")}] * num_members
    )
    assert sorted(result.split["train"] + result.split["val"]) == CASES
    assert result.written
    assert result.backup is None
    assert [path.name for path in folder.iterdir()] == ["splits_final.json"]


def test_other_splits_are_replaced_only_on_request_and_kept(folder):
    file = folder / "splits_final.json"
    file.write_text(json.dumps(FOLDS))
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"splits_final\.json exists, with 3 folds.*--overwrite"):
        write_ensemble_splits("Dataset999_Test", fold=1)
    assert [path.name for path in folder.iterdir()] == ["splits_final.json"]
    assert file.read_bytes() == before

    result = write_ensemble_splits("Dataset999_Test", fold=1, overwrite=True)
    assert splits_in(folder) == [FOLDS[1]] * 5
    assert result.backup.read_bytes() == before

    again = write_ensemble_splits("Dataset999_Test", num_members=3, overwrite=True)
    assert splits_in(folder) == [FOLDS[1]] * 3
    assert again.backup != result.backup
    assert json.loads(again.backup.read_text()) == [FOLDS[1]] * 5
    assert result.backup.read_bytes() == before


def test_an_interruption_behind_the_copy_makes_no_second_one(folder, monkeypatch):
    file = folder / "splits_final.json"
    file.write_text(json.dumps(FOLDS))
    with monkeypatch.context() as patch:
        patch.setattr("nnunet_stochastic.datasets.ensemble_splits.write_text", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_ensemble_splits("999", overwrite=True)
    result = write_ensemble_splits("999", overwrite=True)
    assert result.backup == folder / "splits_before_ensemble_0.json"
    assert sorted(path.name for path in folder.iterdir()) == ["splits_before_ensemble_0.json", "splits_final.json"]
    file.write_text("[")
    with pytest.raises(ValueError, match=r"splits_final.json: not valid JSON.*splits_before_ensemble_0.json is a copy"):
        write_ensemble_splits("999", overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_same_splits_are_left_alone(folder, overwrite):
    write_ensemble_splits("999")
    before = (folder / "splits_final.json").stat().st_mtime_ns
    result = write_ensemble_splits("999", overwrite=overwrite)
    assert not result.written
    assert (folder / "splits_final.json").stat().st_mtime_ns == before
    assert [path.name for path in folder.iterdir()] == ["splits_final.json"]


def test_interrupted_writing_leaves_the_old_splits(folder, monkeypatch):
    (folder / "splits_final.json").write_text(json.dumps(FOLDS))

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nnunet_stochastic.io.staging.os.replace", stop)
        with pytest.raises(KeyboardInterrupt):
            write_ensemble_splits("999", overwrite=True)
    assert splits_in(folder) == FOLDS
    write_ensemble_splits("999", overwrite=True)
    assert splits_in(folder) == [FOLDS[0]] * 5


def test_impossible_requests(folder):
    with pytest.raises(ValueError, match="at least 2 members, got --num_members 1"):
        write_ensemble_splits("999", num_members=1)
    with pytest.raises(ValueError, match="folds 0 to 4, got -fold 5"):
        write_ensemble_splits("999", fold=5)
    with pytest.raises(ValueError, match="folds 0 to 4, got -fold -1"):
        write_ensemble_splits("999", fold=-1)
    with pytest.raises(FileNotFoundError, match="Dataset998_Other"):
        write_ensemble_splits("Dataset998_Other")
    assert not list(folder.iterdir())
    for content, said in (
        ("[{", "not valid JSON"),
        ("[]", "list"),
        ('{"train": []}', "list"),
        ('[{"train": []}]', "list"),
    ):
        (folder / "splits_final.json").write_text(content)
        with pytest.raises(ValueError, match=said):
            write_ensemble_splits("999", overwrite=True)
        assert (folder / "splits_final.json").read_text() == content
