"""The command prints what it did and what to type next."""

import json

import pytest

from nnunet_stochastic.commands.ensemble_splits import main

FOLDS = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["a", "c"], "val": ["b"]}]


@pytest.fixture
def file(tmp_path, monkeypatch):
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(name, str(tmp_path / name))
    file = tmp_path / "nnUNet_preprocessed" / "Dataset999_Test" / "splits_final.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(FOLDS))
    return file


def test_refuses_then_writes_then_has_nothing_to_do(file, capsys):
    arguments = ["-d", "999", "--num_members", "7", "-f", "1"]
    assert main(arguments) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert json.loads(file.read_text()) == FOLDS

    assert main([*arguments, "--overwrite"]) == 0
    output = capsys.readouterr().out
    assert json.loads(file.read_text()) == [FOLDS[1]] * 7
    assert "7 members, each with the same 2 training and 1 validation case" in output
    assert str(file.with_name("splits_before_ensemble_0.json")) in output
    commands = [line.strip() for line in output.splitlines() if line.startswith("  ")]
    assert commands == [
        *(f"nnUNetv2_train 999 CONFIGURATION {member}" for member in range(7)),
        "nnunet_stochastic_predict -i imagesTs -o out -d 999 -c CONFIGURATION -f 0 1 2 3 4 5 6",
    ]

    assert main(arguments) == 0
    assert "nothing was written" in capsys.readouterr().out


def test_bad_members(file, capsys):
    assert main(["-d", "999", "--num_members", "1"]) == 1
    assert "at least 2" in capsys.readouterr().err
