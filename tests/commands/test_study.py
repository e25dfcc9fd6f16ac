"""The study command: what it says before anything runs, and the table of what it would run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_stochastic.commands import study
from nnunet_stochastic.io.text import write_json
from nnunet_stochastic.study import engine
from nnunet_stochastic.study.checks import Machine
from nnunet_stochastic.study.plan import Plan

pytest.importorskip("snakemake")

STUDY = """
output: out
seeds: 2
device: cpu
aleatoric: [SSN]
epistemic: [none, swag]
minutes: {plan: 5, train: 60, predict: 2, report: 3}
resources: {train: {threads: 2}}
datasets:
  - {dataset: 7, configuration: 2d, raters: false, convert: make it}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    for part in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{part}", str(tmp_path / part))
    monkeypatch.setattr(study, "find_machine", lambda *_: Machine((), {}))
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


def rows(printed):
    """Cells of the table, by the first one."""
    cells = ([cell.strip() for cell in line.strip("│┃").split("│")] for line in printed.splitlines() if "│" in line)
    return {first: rest for first, *rest in cells}


def test_dry_run_counts_jobs_and_estimates(file, capsys):
    assert study.main([str(file), "--dry_run", "--cores", "4"]) == 0
    printed = capsys.readouterr().out
    assert rows(printed) == {
        "convert": ["1", "0", "1", "unknown", "unknown"],
        "plan": ["1", "0", "1", "5.0", "5.0"],
        "sets": ["1", "0", "1", "unknown", "unknown"],
        "train": ["2", "0", "2", "60.0", "120.0"],
        "predict": ["8", "0", "8", "2.0", "16.0"],
        "calibrate": ["4", "0", "4", "unknown", "unknown"],
        "evaluate": ["4", "0", "4", "unknown", "unknown"],
        "compare": ["1", "0", "1", "unknown", "unknown"],
        "report": ["1", "0", "1", "3.0", "3.0"],
    }
    # The chain plan, train, predict, report takes 70 minutes, all on 4 cores (5 + 240 + 16 + 3) / 4 = 66.
    assert "23 jobs to do, about 70.0 minutes, and what convert, sets, calibrate, evaluate, compare takes" in printed
    assert not (file.parent / "out").exists()


def test_dry_run_of_a_part_with_its_commands(file, capsys):
    assert study.main([str(file), "--dry_run", "--until", "train", "--verbose", "--cores", "1"]) == 0
    printed = capsys.readouterr().out
    assert rows(printed).keys() == {"convert", "plan", "train"}
    assert (
        "\ntrain Dataset007/nnUNetTrainerSSNSWAG/seed_1\n  nnUNetv2_train Dataset007 2d 1 -tr nnUNetTrainerSSN"
        in printed
    )
    assert "about 2.1 hours" in printed  # (5 + 2 x 60) minutes on one core


def test_dry_run_without_any_minutes(file, capsys):
    text = file.read_text()
    file.write_text("\n".join(line for line in text.splitlines() if not line.startswith("minutes:")))
    assert study.main([str(file), "--dry_run"]) == 0
    assert "\n23 jobs to do; how long they take is unknown (see minutes)\n" in capsys.readouterr().out


def test_measured_times_and_what_is_done(file, capsys):
    raw = file.parent / "raw" / "Dataset007_Toy"
    for part in ("imagesTs", "labelsTs"):
        (raw / part).mkdir(parents=True)
    (raw / "dataset.json").write_text(json.dumps({"file_ending": ".png", "labels": {}}))
    plan = Plan.read(file)
    for path in (job := plan.jobs["plan", "Dataset007_Toy"]).products:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    plan.records.finish(job, seconds=180)
    assert study.main([str(file), "--dry_run"]) == 0
    found = rows(capsys.readouterr().out)
    assert found["convert"][:3] == ["1", "1", "0"]  # it is there
    assert found["plan"][:3] == ["1", "1", "0"]
    job.products[0].unlink()
    assert study.main([str(file), "--dry_run"]) == 0
    assert rows(capsys.readouterr().out)["plan"] == ["1", "0", "1", "3.0", "3.0"]


def test_stale_records_and_what_was_made_of_them(file):
    plan = Plan.read(file)
    for job in plan.jobs.values():
        if job.kind != "report":
            plan.records.finish(job, seconds=1)
        for path in job.products:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
    records, label = plan.records, "Dataset007/SSN/swag/seed_1"
    # Checkpoints that are none are not complete: the trainings are done again, and all that they lead to.
    kinds = {"train", "predict", "calibrate", "evaluate", "compare"}
    assert {kind for kind, _ in records.stale(plan.jobs)} == kinds
    for job in plan.jobs.values():
        if job.kind == "train":
            write_checkpoint(job.products[0])
    assert records.stale(plan.jobs) == {}

    (plan.study.output / "predictions" / label / "ID" / "uncertainty.json").unlink()
    found = records.stale(plan.jobs)
    assert set(found) == {("predict", f"{label}/ID"), ("evaluate", label), ("compare", "comparison")}
    assert found["evaluate", label] == f"predict {label}/ID is done again"
    assert records.forget(found) == list(found)
    assert records.stale(plan.jobs) == {}

    for path in plan.jobs["plan", "Dataset007"].products:  # as to save space: models and sets stay
        path.unlink()
    assert set(records.stale(plan.jobs)) == {("plan", "Dataset007")}

    more = Plan.read(_changed(file, STUDY.replace("seeds: 2", "seeds: 3")))  # the plan gives a fold more the splits
    for path in more.jobs["plan", "Dataset007"].products:
        path.write_text("{}")
    assert more.records.stale(more.jobs)["plan", "Dataset007"] == "its commands have changed"

    faster = Plan.read(_changed(file, STUDY.replace("datasets:", "evaluate: {np: 4}\ndatasets:")))
    assert faster.records.stale(faster.jobs) == {}
    other = Plan.read(_changed(file, STUDY.replace("datasets:", "device: mps\ndatasets:").replace("device: cpu\n", "")))
    stale = {kind for kind, _ in other.records.stale(other.jobs)}
    assert stale == {"predict", "calibrate", "evaluate"}


def _changed(file, text):
    file.write_text(text)
    return file


def write_checkpoint(path):
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights", "1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cores", "0"], "--cores must be at least 1, got 0"),
        (["--gpus", "-1"], "--gpus must be at least 0, got -1"),
    ],
)
def test_bad_numbers(file, capsys, options, message):
    assert study.main([str(file), *options]) == 1
    assert message in capsys.readouterr().err


def test_unknown_trainer(file, capsys, monkeypatch):
    monkeypatch.setattr(study, "find_machine", lambda *_: Machine((), {"nnUNetTrainerSSNSWAG": "not found"}))
    assert study.main([str(file)]) == 1
    assert "nnU-Net finds no trainer nnUNetTrainerSSNSWAG (not found)" in capsys.readouterr().err
    assert not (file.parent / "out").exists()


def test_without_the_extra(file, capsys, monkeypatch):
    find = engine.importlib.util.find_spec
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None if name == "snakemake" else find(name))
    assert study.main([str(file)]) == 1
    assert 'a study needs snakemake: run pip install ".[study]" in the checkout' in capsys.readouterr().err


def test_schema_for_editors(capsys):
    with pytest.raises(SystemExit) as ended:
        study.main(["--schema"])
    assert ended.value.code == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["required"] == ["output", "datasets"]
    assert "epistemic" in schema["properties"]


@pytest.mark.parametrize("argv", [["--schema"], ["study.yaml"]])
def test_without_yaml(argv):
    program = (
        "import sys, importlib.util as util; find = util.find_spec; sys.modules['yaml'] = None\n"
        "util.find_spec = lambda name, *more: None if name == 'yaml' else find(name, *more)\n"
        f"from nnunet_stochastic.commands.study import main; sys.exit(main({argv!r}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert 'a study needs yaml: run pip install ".[study]" in the checkout' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "gpus", "places", "command"),
    [
        ([], ("0", "1"), ("0", "1"), ["--cores", "8", "--resources", "gpu=2"]),
        (["--gpus", "1"], ("4", "7"), ("4",), ["--cores", "8", "--resources", "gpu=1"]),
        (["--gpus", "3"], ("4", "7"), ("4", "7", "4"), ["--cores", "8", "--resources", "gpu=3"]),
        (["--", "--executor", "slurm", "--jobs", "9"], (), (), ["--executor", "slurm", "--jobs", "9"]),
    ],
)
def test_gpus_are_shared_out_here_and_left_to_the_scheduler_elsewhere(
    file, monkeypatch, options, gpus, places, command
):
    file.write_text(STUDY.replace("cpu", "cuda"))
    monkeypatch.setattr(study, "find_machine", lambda *_: Machine(gpus, {}))
    monkeypatch.setattr(study.os, "cpu_count", lambda: 8)
    split = options.index("--") if "--" in options else len(options)
    arguments = study._parser().parse_args([str(file), *options[:split]])
    plan = Plan.read(file)
    found = study._engine(plan, arguments, tuple(options[split + 1 :]), Machine(gpus, {}))
    assert found.gpus == places
    words = found.command(plan, ["train"])
    assert words[-len(command) :] == command
    assert Path(words[words.index("--snakefile") + 1]).is_file()
    assert ("--cores" in words) == ("--cores" in command)


def test_more_gpus_for_a_job_than_there_are(file, capsys, monkeypatch):
    file.write_text(STUDY.replace("cpu", "cuda").replace("threads: 2", "gpu: 4"))
    monkeypatch.setattr(study, "find_machine", lambda *_: Machine(("0", "1"), {}))
    assert study.main([str(file)]) == 1
    assert "a job needs 4 GPUs (resources), and there are 2; see --gpus" in capsys.readouterr().err


def test_settings_that_are_no_json(file, capsys):
    write_json(file, {"output": "x"})
    assert study.main([str(file)]) == 1
    assert "datasets must be a list" in capsys.readouterr().err


@pytest.fixture
def prepared(file):
    """The dataset is planned and preprocessed, with one split in two folds; returns the folder of its models."""
    raw, preprocessed = (file.parent / part / "Dataset007_Toy" for part in ("raw", "preprocessed"))
    for part in ("imagesTr", "imagesTs", "labelsTs"):
        (raw / part).mkdir(parents=True)
    (raw / "imagesTr" / "a_0000.png").touch()
    (raw / "dataset.json").write_text(json.dumps({"file_ending": ".png", "labels": {}}))
    (preprocessed / "d").mkdir(parents=True)
    (preprocessed / "d" / "a.pkl").touch()
    (preprocessed / "dataset.json").write_text('{"labels": 2}')
    write_json(preprocessed / "nnUNetPlans.json", {"configurations": {"2d": {"data_identifier": "d"}}})
    write_splits(file, "a", "a")
    return file.parent / "results" / "Dataset007_Toy"


def write_splits(file, *validation):
    splits = [{"train": ["x"], "val": [case]} for case in validation]
    write_json(file.parent / "preprocessed" / "Dataset007_Toy" / "splits_final.json", splits)


def train(results, trainer, fold, *, seconds=(), epochs=None, finished=True):
    """What a training leaves: its log, with seconds per epoch, debug.json and checkpoints."""
    folder = results / f"{trainer}__nnUNetPlans__2d" / f"fold_{fold}"
    folder.mkdir(parents=True)
    lines = [f"t: Epoch {number} \nt: Epoch time: {time:.2f} s \n" for number, time in enumerate(seconds)]
    (folder / "training_log_2026_1_1.txt").write_text(
        "".join(lines) + ("" if finished else f"t: Epoch {len(lines)} \n")
    )
    if epochs is not None:
        write_json(folder / "debug.json", {"num_epochs": str(epochs)})
    write_checkpoint(folder / f"checkpoint_{'final' if finished else 'latest'}.pth")


def dry_run(file, capsys, *options, status=0):
    assert study.main([str(file), "--dry_run", "--cores", "1", *options]) == status
    printed = capsys.readouterr()
    return rows(printed.out), printed


def test_dry_run_goes_on_past_what_keeps_the_study_from_starting(file, prepared, capsys):
    write_splits(file, "a", "b")
    train(prepared, "nnUNetTrainerSSNSWAG", 0)
    table, printed = dry_run(file, capsys, status=1)
    assert table["train"][:3] == ["2", "1", "1"]
    assert table["predict"][2] == "8"
    assert "error: the study cannot start: " in printed.err
    assert "splits_final.json has different splits in its first 2 folds" in printed.err
    assert not (file.parent / "out").exists()
    assert study.main([str(file)]) == 1
    assert "splits_final.json has different splits" in capsys.readouterr().err
    assert not (file.parent / "out").exists()


def test_dry_run_names_all_problems(file, prepared, capsys, monkeypatch):
    write_splits(file, "a", "b")
    monkeypatch.setattr(study, "find_machine", lambda *_: Machine((), {"nnUNetTrainerSSNSWAG": "not found"}))
    file.write_text(file.read_text() + "  - {dataset: 8, configuration: 2d, raters: false}\n")
    _, printed = dry_run(file, capsys, status=1)
    problems = [line for line in printed.err.splitlines() if line.startswith("error: the study cannot start: ")]
    assert len(problems) == 3
    for problem, part in zip(
        problems, ("different splits", "Dataset008 is not in", "no trainer nnUNetTrainer"), strict=True
    ):
        assert part in problem


def test_dry_run_knows_trained_models(file, prepared, capsys):
    for fold in range(2):
        train(prepared, "nnUNetTrainerSSNSWAG", fold)
    assert dry_run(file, capsys)[0]["train"][:3] == ["2", "2", "0"]


def test_dry_run_names_models_that_the_study_does_not_take(file, prepared, capsys):
    """None and SWAG share the training run of SWAG."""
    for fold in range(2):
        train(prepared, "nnUNetTrainerSSN", fold)
    table, printed = dry_run(file, capsys)
    assert table["train"][:3] == ["2", "0", "2"]
    expected = "trained, but no part of this study: Dataset007_Toy/nnUNetTrainerSSN__nnUNetPlans__2d, fold_0, fold_1\n"
    assert expected in printed.out


def test_dry_run_lists_no_command_that_will_be_skipped(file, prepared, capsys):
    table, printed = dry_run(file, capsys, "--verbose")
    assert table["plan"][:3] == ["1", "1", "0"]
    assert "nnUNetv2_plan_and_preprocess" not in printed.out
    write_splits(file, "a")
    table, printed = dry_run(file, capsys, "--verbose")
    assert table["plan"][:3] == ["1", "0", "1"]
    assert "study.splits Dataset007_Toy 2\n" in printed.out
    assert "nnUNetv2_plan_and_preprocess" not in printed.out
    assert "nnUNetv2_preprocess" not in printed.out


def test_dry_run_takes_the_time_of_trainings_from_their_logs(file, prepared, capsys, monkeypatch):
    file.write_text("\n".join(line for line in STUDY.splitlines() if not line.startswith("minutes:")) + "\n")
    # Nobody knows the number of epochs.
    train(prepared, "nnUNetTrainer", 0, seconds=(30, 12, 12, 12), epochs=4)
    assert dry_run(file, capsys)[0]["train"] == ["2", "0", "2", "unknown", "unknown"]
    # The trainer's class knows it; time per epoch is that of another trainer: 50 x 12 s = 10 min.
    monkeypatch.setattr(study, "find_machine", lambda *_: Machine((), {}, {"nnUNetTrainerSSNSWAG": 50}))
    assert dry_run(file, capsys)[0]["train"] == ["2", "0", "2", "10.0", "20.0"]
    # A training of its own, 20 of 40 epochs in: 20 x 6 s for it and 40 x 6 s for the other fold.
    train(prepared, "nnUNetTrainerSSNSWAG", 1, seconds=(6,) * 20, epochs=40, finished=False)
    table, printed = dry_run(file, capsys)
    assert table["train"] == ["2", "0", "2", "3.0", "6.0"]
    assert "about 6.0 minutes, and what sets, predict, calibrate, evaluate, compare, report takes" in printed.out
    # What the study has measured counts more.
    plan = Plan.read(file)
    job = plan.jobs["train", "Dataset007_Toy/nnUNetTrainerSSNSWAG/seed_0"]
    write_made(job.products[0])
    plan.records.finish(job, seconds=90)
    assert dry_run(file, capsys)[0]["train"] == ["2", "1", "1", "1.5", "1.5"]


def write_made(checkpoint):
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(checkpoint)
