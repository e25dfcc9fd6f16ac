"""The demo command: bad folders, the data set alone, and the steps it would run."""

import functools
import json
from pathlib import Path

import pytest

from nnunet_stochastic.commands import demo, evaluate, predict, preprocess_raters, report
from nnunet_stochastic.datasets.demo import DATASET_NAME


@pytest.fixture
def small_dataset(monkeypatch):
    small = functools.partial(demo.write_demo_dataset, num_train=1, num_test=1)
    monkeypatch.setattr(demo, "write_demo_dataset", small)
    monkeypatch.setenv("nnUNet_extTrainer", "")  # the command appends the trainers' folder to it


def test_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert demo.main(["-o", str(tmp_path / "file" / "demo"), "--dataset_only"]) == 1
    message = capsys.readouterr().err
    assert f"{tmp_path / 'file' / 'demo'} cannot be written" in message
    assert "-o" in message


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_folder_with_other_files_is_left_alone(tmp_path, capsys, options):
    (tmp_path / "nnUNet_raw").mkdir()
    (tmp_path / "nnUNet_raw" / "mine.txt").write_text("mine")
    assert demo.main(["-o", str(tmp_path), "--dataset_only", *options]) == 1
    assert "not the demo's" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["nnUNet_raw", "mine.txt"]


def test_damaged_record(tmp_path, capsys, small_dataset):
    (tmp_path / "demo.json").write_text("{}")
    assert demo.main(["-o", str(tmp_path), "--dataset_only"]) == 1
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", '{"done": {"data', "\0\0\0"])
def test_record_that_a_power_cut_damaged_loses_no_data(tmp_path, capsys, small_dataset, content):
    assert demo.main(["-o", str(tmp_path), "--dataset_only"]) == 0
    record = (tmp_path / "demo.json").read_text()
    made = (tmp_path / "nnUNet_raw" / DATASET_NAME / "dataset.json").stat().st_mtime_ns
    (tmp_path / "demo.json").write_text(content)
    assert demo.main(["-o", str(tmp_path), "--dataset_only"]) == 0
    assert (tmp_path / "demo.json").read_text() == record
    assert (tmp_path / "nnUNet_raw" / DATASET_NAME / "dataset.json").stat().st_mtime_ns == made


def test_what_an_interruption_at_the_beginning_leaves_is_the_demos_own(tmp_path, small_dataset):
    (tmp_path / "nnUNet_raw").mkdir()
    (tmp_path / ".demo.json.unfinished-1").mkdir()
    assert demo.main(["-o", str(tmp_path), "--dataset_only"]) == 0


def test_dataset_only_then_again_then_anew(tmp_path, capsys, small_dataset, monkeypatch):
    folder = tmp_path / "new" / "demo"
    monkeypatch.delenv("nnUNet_raw", raising=False)
    assert demo.main(["-o", str(folder), "--dataset_only"]) == 0
    output = capsys.readouterr().out
    assert "masks are real" in output
    assert "images around them are simulated" in output
    assert f"nnUNet_raw={folder / 'nnUNet_raw'}" in output
    assert "nnUNet_raw" not in demo.os.environ
    description = folder / "nnUNet_raw" / DATASET_NAME / "dataset.json"
    first = description.stat().st_mtime_ns

    assert demo.main(["-o", str(folder), "--dataset_only"]) == 0
    assert "done before" in capsys.readouterr().out
    assert description.stat().st_mtime_ns == first

    (folder / "notes.txt").write_text("mine")
    assert demo.main(["-o", str(folder), "--dataset_only", "--overwrite"]) == 0
    assert description.stat().st_mtime_ns > first
    assert (folder / "notes.txt").read_text() == "mine"


def test_dataset_into_a_folder_of_datasets(tmp_path, capsys):
    into = ["--dataset_into", str(tmp_path)]
    assert demo.main([*into, "-num_train", "2", "-num_test", "1"]) == 0
    assert str(tmp_path / DATASET_NAME) in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == [DATASET_NAME]
    assert json.loads((tmp_path / DATASET_NAME / "dataset.json").read_text())["numTraining"] == 2
    assert len(list((tmp_path / DATASET_NAME / "labelsTs").iterdir())) == 1

    assert demo.main(into) == 1
    assert "exists" in capsys.readouterr().err
    assert demo.main(["-o", str(tmp_path / "demo"), "-num_train", "2"]) == 1
    assert "--dataset_into" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_shrunken_plans_are_written_beside_nnunets(tmp_path):
    steps = {step.name: step for step in demo._steps(tmp_path, device="cpu")}
    folder = tmp_path / "nnUNet_preprocessed" / DATASET_NAME
    folder.mkdir(parents=True)
    plans = {"plans_name": "nnUNetPlans", "configurations": {"3d_fullres": {"architecture": {"arch_kwargs": {}}}}}
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
    steps["shrink"].action(lambda line: None)
    assert json.loads((folder / "nnUNetDemoPlans.json").read_text())["plans_name"] == "nnUNetDemoPlans"


def test_the_duration_is_the_same_wherever_it_is_told(capsys):
    with pytest.raises(SystemExit, match="0"):
        demo.main(["--help"])
    told = demo.DURATION.partition(" on ")[0]
    root = Path(__file__).parents[2]
    texts = [root / "README.md", root / "examples" / "demo" / "README.md", root / "Makefile"]
    for text in (capsys.readouterr().out, *(file.read_text(encoding="utf-8") for file in texts)):
        assert f"{told} on " in " ".join(text.split())


def test_steps_are_options_that_the_commands_have(tmp_path):
    steps = {step.name: step for step in demo._steps(tmp_path, device="cpu")}
    before = ["dataset", "plan", "shrink", "preprocess", "train"]
    assert list(steps) == [*before, "raters", "finetune", "predict", "evaluate", "report"]
    raters = preprocess_raters._parser().parse_args(steps["raters"].command[1:])
    assert (raters.d, raters.p, raters.c) == (["901"], "nnUNetDemoPlans", ["3d_fullres"])
    prediction = predict._parser().parse_args(steps["predict"].command[1:])
    assert (prediction.save_probabilities, prediction.save_samples) == (True, 16)
    assert prediction.tr == "nnUNetTrainerMoBDemo"
    evaluation = evaluate._parser().parse_args(steps["evaluate"].command[1:])
    assert str(evaluation.pred) == prediction.o
    assert evaluation.gt_raters == tmp_path / "nnUNet_raw" / DATASET_NAME / "ratersTs"
    assert evaluation.groups == tmp_path / "nnUNet_raw" / DATASET_NAME / "patients.csv"
    page = report._parser().parse_args(steps["report"].command[1:])
    assert page.results == [evaluation.pred / "evaluation"]
    assert page.o == tmp_path / "report.html"
    assert "nnUNet_n_proc_DA=0" in steps["train"].typed
    assert "nnUNet_n_proc_DA" not in steps["plan"].typed  # planning crashes with it
