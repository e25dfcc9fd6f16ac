"""The study against what is there: datasets, raters, splits, variables, trainers and GPUs."""

import json
import os
from pathlib import Path

import pytest

from nnunet_stochastic.study.checks import (
    Machine,
    check_datasets,
    check_machine,
    check_programs,
    environment_of,
    find_machine,
)
from nnunet_stochastic.study.plan import Plan
from nnunet_stochastic.study.splits import check_splits
from nnunet_stochastic.study.splits import main as make_splits
from nnunet_stochastic.study.validation_images import link_validation_images

pytest.importorskip("yaml")

STUDY = """
output: results
seeds: 2
aleatoric: [SSN]
epistemic: [none, dropout]
datasets:
  - {dataset: 7, configuration: 2d, ood: [far]}
"""


@pytest.fixture
def check(write_study):
    def check(text=STUDY):
        plan = Plan.read(write_study(text))
        check_datasets(plan.study, plan.folders, plan.environment)

    return check


def test_a_command_that_is_not_there_is_named_before_anything_runs(write_study, tmp_path, monkeypatch):
    """Beside this interpreter, among its scripts, or on PATH; the study's own variables have the last word."""
    monkeypatch.setenv("PATH", str(tmp_path))
    text = STUDY.replace("ood: [far]", "convert: our_converter --all")
    plan = Plan.read(write_study(text))
    with pytest.raises(
        FileNotFoundError, match=r"convert Dataset007: the command our_converter was not found on .*PATH"
    ):
        check_programs(plan.study, plan.jobs.values())
    (tmp_path / "tools").mkdir()
    program = tmp_path / "tools" / "our_converter"
    program.write_text("#!/bin/sh")
    program.chmod(0o755)
    plan = Plan.read(write_study(text + f"variables: {{convert: {{PATH: '{program.parent}'}}}}\n"))
    check_programs(plan.study, plan.jobs.values())


def test_missing_variable(write_study, monkeypatch):
    monkeypatch.delenv("nnUNet_results")
    with pytest.raises(ValueError, match="nnUNet_results is not set; set it as for nnU-Net"):
        Plan.read(write_study(STUDY))


def test_dataset_must_be_there_or_made(check, make_dataset, monkeypatch):
    with pytest.raises(ValueError, match=r"Dataset007 is not in .*; put it there, or write as convert the command"):
        check()
    made = STUDY.replace("configuration", "convert: 'make -i ${HERE}', configuration")
    monkeypatch.delenv("HERE", raising=False)
    with pytest.raises(ValueError, match=r"convert has \$\{HERE\}, a variable that is not set"):
        check(made)
    monkeypatch.setenv("HERE", "somewhere")
    check(made)
    for name in ("Dataset007_One", "Dataset007_Two"):
        make_dataset(name, num_raters=3, endings=("Ts", "OOD_far"))
    with pytest.raises(ValueError, match="has Dataset007_One and Dataset007_Two; write the name"):
        check()
    check(STUDY.replace("dataset: 7", "dataset: Dataset007_Two"))


def test_dataset_as_the_study_says(check, make_dataset):
    raw = make_dataset("Dataset007_One", endings=("Ts",))
    with pytest.raises(ValueError, match=r"Dataset007_One: dataset.json has no num_raters; write raters: false"):
        check()
    without = STUDY.replace("ood:", "raters: false, ood:")
    with pytest.raises(ValueError, match=r"there is no folder .*imagesOOD_far"):
        check(without)
    for kind in ("images", "labels"):
        (raw / f"{kind}OOD_far").mkdir()
    check(without)


def test_a_configuration_that_the_plans_lack(check, make_dataset, nnunet):
    make_dataset("Dataset007_One", num_raters=3, endings=("Ts", "OOD_far"))
    folder = nnunet / "preprocessed" / "Dataset007_One"
    folder.mkdir()
    plans = folder / "nnUNetPlans.json"
    once = STUDY.replace("seeds: 2", "seeds: 1")
    plans.write_text(json.dumps({"configurations": {"3d_fullres": {}, "3d_lowres": {}}}))
    with pytest.raises(ValueError, match=r"nnUNetPlans.json has no configuration 2d, only 3d_fullres, 3d_lowres"):
        check(once)
    for content in (json.dumps({"configurations": {"2d": {}}}), ""):  # planning makes what cannot be read again
        plans.write_text(content)
        check(once)


def test_patients_of_all_cases_that_are_evaluated(check, make_dataset):
    raw = make_dataset("Dataset007_One", endings=("Tr", "Ts", "OOD_far"))
    for name in ("labelsTr/a.png", "labelsTs/b.png", "labelsOOD_far/c.png", "labelsOOD_far/._c.png"):
        (raw / name).touch()
    text = STUDY.replace("ood:", "raters: false, ood:").replace("seeds: 2", "seeds: 1")
    (raw / "patients.csv").write_text("case,patient\nb,1\n")
    with pytest.raises(ValueError, match=r"patients\.csv does not say the patient of each case:\n  no line for c;"):
        check(text)
    (raw / "patients.csv").write_text("case,patient\nb,1\nc,1\n")
    check(text)


A, B = {"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}


@pytest.mark.parametrize("splits", [None, [A], [A, A], [A, A, A, B]])
def test_splits_of_the_first_folds_are_equal(tmp_path, splits):
    file = tmp_path / "splits_final.json"
    if splits is not None:
        file.write_text(json.dumps(splits))
    check_splits(file, 3)


@pytest.mark.parametrize("splits", [[A, B], [A, A, B], [B, A, A, A]])
def test_different_splits_are_an_error(tmp_path, splits):
    file = tmp_path / "splits_final.json"
    file.write_text(json.dumps(splits))
    with pytest.raises(ValueError, match=r"has different splits .* or write seeds: 1"):
        check_splits(file, 3)


def test_one_split_becomes_that_of_all_seeds_and_more_are_left(nnunet, make_dataset, monkeypatch):
    make_dataset("Dataset007_One")
    file = nnunet / "preprocessed" / "Dataset007_One" / "splits_final.json"
    file.parent.mkdir()
    file.write_text(json.dumps([A]))
    assert make_splits(["Dataset007_One", "3"]) == 0
    assert json.loads(file.read_text()) == [A, A, A]
    assert json.loads((file.parent / "splits_before_ensemble_0.json").read_text()) == [A]
    assert make_splits(["Dataset007_One", "2"]) == 0
    assert json.loads(file.read_text()) == [A, A, A]


def test_links_to_the_validation_images(nnunet, make_dataset):
    raw = make_dataset("Dataset007_One")
    (raw / "dataset.json").write_text(json.dumps({"file_ending": ".png", "channel_names": {"0": "R", "1": "G"}}))
    for case in "abcdef":
        for channel in range(2):
            (raw / "imagesTr" / f"{case}_000{channel}.png").write_text(f"{case}{channel}")
    splits, folder = nnunet / "splits_final.json", nnunet / "sets" / "validation"
    splits.write_text(json.dumps([{"train": ["b", "c"], "val": ["a", "d"]}]))
    assert link_validation_images(raw, splits, folder) == 2
    found = {file.name: file.read_text() for file in folder.iterdir()}
    assert found == {"a_0000.png": "a0", "a_0001.png": "a1", "d_0000.png": "d0", "d_0001.png": "d1"}
    splits.write_text(json.dumps([{"train": [], "val": ["x"]}]))
    with pytest.raises(ValueError, match="names x, of which there is no image"):
        link_validation_images(raw, splits, folder)
    splits.unlink()  # nnU-Net's default of five folds: 2 of 6 cases in the first
    assert link_validation_images(raw, splits, folder) == 2


def test_copies_where_the_system_lets_nobody_make_links(nnunet, make_dataset, monkeypatch):
    """Files of other programs may be padded, or compressed in several parts; that is not for this command to judge."""
    raw = make_dataset("Dataset007_One")
    (raw / "dataset.json").write_text(json.dumps({"file_ending": ".nii.gz", "channel_names": {"0": "CT"}}))
    for case in "ab":
        (raw / "imagesTr" / f"{case}_0000.nii.gz").write_text("of another program")
    splits, folder = nnunet / "splits_final.json", nnunet / "validation"
    splits.write_text(json.dumps([{"train": ["b"], "val": ["a"]}]))

    def refuse(*_):
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    assert link_validation_images(raw, splits, folder) == 1
    assert [file.read_text() for file in folder.iterdir()] == ["of another program"]


def test_trainers_and_gpus(write_study, nnunet):
    (nnunet / "mine").mkdir()
    (nnunet / "mine" / "mine.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n\n\n"
        "class MySSN(nnUNetTrainer):\n    pass\n"
    )
    own = 'device: cpu\ntrainers: mine\ntrainer: "My{aleatoric}{epistemic}"\nstart_from: nnUNetTrainer\n'
    study = Plan.read(write_study(own + STUDY)).study
    environment = environment_of(study)
    assert environment["nnUNet_extTrainer"].split(os.pathsep)[-1] == str(nnunet / "mine")
    machine = find_machine(study, environment)
    assert machine.gpus == ()
    assert machine.trainers.keys() == {"MySSNDropout"}
    assert machine.epochs == {"MySSN": 1000, "nnUNetTrainer": 1000}
    fine_tuned = "device: cpu\noutput: o\nseeds: 1\naleatoric: [MoB, SSN]\nepistemic: [swag]\n"
    fine_tuned += "start_from: nnUNetTrainer_5epochs\ndatasets:\n  - {dataset: 7, configuration: 2d, raters: false}\n"
    study = Plan.read(write_study(fine_tuned)).study
    found = find_machine(study, environment_of(study)).epochs
    assert found == {"nnUNetTrainerMoBSWAG": 50, "nnUNetTrainerSSNSWAG": 1000, "nnUNetTrainer_5epochs": 5}
    with pytest.raises(ValueError, match=r"nnU-Net finds no trainer MySSNDropout .*name with trainers the folder"):
        check_machine(study, machine, local=True)
    check_machine(study, Machine((), {}), local=True)
    study = Plan.read(write_study(STUDY)).study
    with pytest.raises(ValueError, match="torch sees no GPU on this machine; write device: cpu"):
        check_machine(study, Machine((), {}), local=True)
    check_machine(study, Machine((), {}), local=False)


def test_variables_of_the_study_have_the_last_word(write_study, monkeypatch):
    monkeypatch.setenv("A", "shell")
    study = Plan.read(write_study(STUDY + "variables: {all: {A: all, B: all}, train: {B: train}}\n")).study
    environment = environment_of(study, "train", {"A": "job", "C": "job"})
    assert [environment[name] for name in "ABC"] == ["all", "train", "job"]
    assert environment_of(study, "predict")["B"] == "all"
