"""The studies in examples/: each can be read, has the jobs that its paper has, and trainers that nnU-Net finds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_stochastic.study.plan import Plan
from nnunet_stochastic.training import DropoutTrainer, ProbUNetTrainer, SnapshotTrainer

EXAMPLES = Path(__file__).parents[2] / "examples"
ENDED_ALIKE = ("calibrate", "evaluate")


@pytest.fixture
def read(monkeypatch, tmp_path):
    """Reads the plan of an example; none of its datasets is there, and nnU-Net finds its trainers."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "LIDC_DICOM", "CHAKSU", "TOTALSEGMENTATOR"):
        monkeypatch.setenv(name, str(tmp_path / name))

    def read_example(name):
        monkeypatch.setenv("nnUNet_extTrainer", str(EXAMPLES.parent / "trainers"))
        plan = Plan.read(EXAMPLES / name / f"{name}.yaml")
        monkeypatch.setenv("nnUNet_extTrainer", plan.environment["nnUNet_extTrainer"])
        return plan

    return read_example


def count(plan, dataset=None):
    return Counter(kind for (kind, _), job in plan.jobs.items() if dataset in (None, job.dataset))


def test_entanglement_has_19_combinations_on_both_datasets(read):
    plan = read("entanglement")
    lidc, chaksu = plan.study.datasets
    for dataset in (lidc, chaksu):
        models = {(model.name, method) for model, method in dataset.models}
        assert len(models) == 19
        assert ("Softmax", "none") not in models
        assert dataset.seeds == 5
        assert (dataset.predict["num_samples"], dataset.predict["num_members"]) == (10, 10)
    # 4 models with SWAG and with dropout, 5 seeds; 15 combinations of 5 seeds and 4 ensembles, on 6 and on 4 sets.
    assert count(plan, "Dataset511_LIDC2d") == {
        **{"convert": 1, "plan": 1, "sets": 5, "train": 40, "predict": 79 * 6},
        **dict.fromkeys(ENDED_ALIKE, 79),
    }
    assert count(plan, "Dataset512_Chaksu") == {
        **{"convert": 1, "plan": 1, "sets": 1, "train": 40, "predict": 79 * 4},
        **dict.fromkeys(ENDED_ALIKE, 79),
    }
    assert count(plan, "") == {"compare": 1, "report": 1}


def test_chaksu_is_trained_as_the_paper_says(read):
    study = read("entanglement").study
    chaksu = study.datasets[1]
    for name in {chaksu.trainer_of(*model) for model in chaksu.models}:
        trainer = recursive_find_trainer_class_by_name(name)
        assert trainer.training_epochs == 500
        assert getattr(trainer, "kl_weight", 2.5e-3) == 2.5e-3
        assert trainer.num_snapshots == 30 if name.endswith("SWAG") else trainer.dropout_rate == 0.2


def test_mixture_of_bases_has_its_tables_and_its_figure(read):
    plan = read("mixture_of_bases")
    paper = ["nnU-Net", "Diagonal", "LowRank", "SingleBasis", "MoB"]
    for dataset in plan.study.datasets:
        names = [model.name for model, _ in dataset.models]
        assert [name for name in names if name in paper] == paper
        assert (dataset.seeds, dataset.start_from) == (5, "nnUNetTrainer")
        assert dataset.plans == "nnUNetResEncUNetLPlans"
        more = 3 if "pancreas" in dataset.dataset else 0
        # nnU-Net itself and 5 models that fine-tune it.
        assert count(plan, dataset.dataset) == {
            **{"convert": 1, "plan": 1, "sets": 1, "train": 5 * (6 + more), "predict": 5 * (6 + more) * 2},
            **dict.fromkeys(ENDED_ALIKE, 5 * (6 + more)),
        }
    fine_tuning = plan.jobs["train", "Dataset521_TotalSegmentator_pancreas/nnUNetTrainerMoB5/seed_4"]
    assert ("train", "Dataset521_TotalSegmentator_pancreas/nnUNetTrainer/seed_4") in fine_tuning.needs


def test_bases_are_as_many_as_the_names_say(read):
    study = read("mixture_of_bases").study
    pancreas = study.datasets[0]
    bases = {"SingleBasis": 1, "MoB2": 2, "MoB": 3, "MoB4": 4, "MoB5": 5}
    trainers = {model.name: pancreas.trainer_of(model, method) for model, method in pancreas.models}
    assert {
        name: recursive_find_trainer_class_by_name(trainers[name]).num_bases for name in trainers if name in bases
    } == bases
    assert trainers["nnU-Net"] == "nnUNetTrainer"


def test_tiny(read):
    plan = read("tiny")
    # 2 models with SWAG and with dropout, 2 seeds; 5 combinations of 2 seeds and 2 ensembles, on 3 sets.
    assert count(plan) == {
        **{"convert": 1, "plan": 1, "sets": 2, "train": 8, "predict": 36},
        **dict.fromkeys(ENDED_ALIKE, 12),
        **{"compare": 1, "report": 1},
    }
    assert plan.study.variables["train"] == {"nnUNet_n_proc_DA": "0"}
    tiny = plan.study.datasets[0]
    for name in {tiny.trainer_of(*model) for model in tiny.models}:
        assert recursive_find_trainer_class_by_name(name).training_epochs <= 10


def test_generative_models_are_trained_as_long_as_the_readme_says(monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", str(EXAMPLES / "generative_models" / "trainers"))
    iterations = {"Softmax": (800, 300), "SSN": (1100, 300), "ProbUNet": (1200, 300), "Diffusion": (1200, 300)}
    for model, lengths in iterations.items():
        parts = [
            recursive_find_trainer_class_by_name(f"nnUNetTrainer{model}Small{part}") for part in ("SWAG", "", "Dropout")
        ]
        for trainer in parts:
            assert (trainer.full_epochs * 10, trainer.last_epochs * 10) == lengths
        assert [issubclass(trainer, SnapshotTrainer) for trainer in parts] == [True, True, False]
        assert [issubclass(trainer, DropoutTrainer) for trainer in parts] == [False, False, True]
    # As much against the sum over a patch of 32 x 32 as the paper's against that over 128 x 128.
    weight = recursive_find_trainer_class_by_name("nnUNetTrainerProbUNetSmall").kl_weight
    assert weight * 32**2 == pytest.approx(ProbUNetTrainer.kl_weight * 128**2)
