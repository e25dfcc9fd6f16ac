"""The command: exit codes, what it lists, and several datasets at once."""

from __future__ import annotations

import json

import pytest

from nnunet_stochastic.commands.preprocess_raters import main
from tests.datasets.rater_dataset import write_rater_dataset


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    return write_rater_dataset(tmp_path, monkeypatch)


def test_done_then_nothing_to_do(dataset, capsys):
    assert main(["-d", "999", "-np", "2", "--disable_progress_bar"]) == 0
    out, err = capsys.readouterr()
    assert "Dataset999_Test, 3d_fullres: 3 cases preprocessed, 0 were complete, 0 failed" in out
    assert err == ""
    assert len(list(dataset.raters.glob("*.b2nd"))) == 9
    assert main(["-d", "Dataset999_Test", "-plans_name", "nnUNetPlans", "-c", "3d_fullres"]) == 0
    assert "0 cases preprocessed, 3 were complete" in capsys.readouterr().out


def test_damaged_case_is_named_and_the_others_are_done(dataset, capsys):
    dataset.mask_file("case_1", 0).write_bytes(dataset.mask_file("case_1", 0).read_bytes()[:100])
    assert main(["-d", "999"]) == 1
    out, err = capsys.readouterr()
    assert "2 cases preprocessed, 0 were complete, 1 failed" in out
    assert "case_1_rater0.nii.gz cannot be read" in err
    assert sorted(path.stem for path in dataset.raters.glob("*.json")) == ["case_0", "case_2"]


def test_problems_of_all_datasets_are_one_error_before_anything_is_done(dataset, capsys):
    dataset.mask_file("case_1", 0).unlink()
    for folder in (dataset.raw, dataset.preprocessed):
        copy = folder.with_name("Dataset998_Copy")
        copy.symlink_to(folder, target_is_directory=True)
    assert main(["-d", "998", "999"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    for name in ("Dataset998_Copy", "Dataset999_Test"):
        assert f"  {name}: case_1: files are missing: " in err
    assert not dataset.raters.exists()


def test_dataset_without_raters(dataset, capsys):
    description = dict(dataset.dataset_json)
    del description["num_raters"]
    (dataset.raw / "dataset.json").write_text(json.dumps(description))
    assert main(["-d", "999"]) == 1
    assert 'has no "num_raters"' in capsys.readouterr().err


def test_number_of_threads(capsys):
    assert main(["-d", "999", "-np", "0"]) == 1
    assert "-np must be at least 1, got 0" in capsys.readouterr().err


def test_verbose_lets_the_preprocessor_speak(dataset, capsys):
    assert main(["-d", "999", "--disable_progress_bar", "--verbose"]) == 0
    assert "old shape" in capsys.readouterr().out
