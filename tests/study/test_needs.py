"""What jobs ask of a scheduler, by the formulas of the module, and where each number comes from."""

import pytest

from nnunet_stochastic.study.needs import GUESSES, Needs, threads_of
from nnunet_stochastic.study.plan import Plan

pytest.importorskip("yaml")

STUDY = """
output: out
seeds: 2
device: cuda
aleatoric: [Softmax, SSN]
epistemic: [none]
resources: {predict: {mem: 8GB, gres: "gpu:a100:1"}, evaluate: {runtime: 2d}}
minutes: {calibrate: 6, compare: 8}
datasets:
  - {dataset: Dataset007_Toy, configuration: 2d, raters: false, minutes: {predict: 10}}
  - {dataset: Dataset008_Large, configuration: 3d_fullres, raters: false}
"""


@pytest.fixture
def plan(write_study):
    return Plan.read(write_study(STUDY))


def asked(plan, kind, name):
    needs = Needs(plan.study, plan.records, plan.jobs)
    return {key: function(plan.jobs[kind, name]) for key, function in needs.of_kind(kind).items()}


def test_measured_ones_replace_guesses_of_jobs_alike(plan):
    train = {seed: ("train", f"Dataset007_Toy/nnUNetTrainerSSN/seed_{seed}") for seed in (0, 1)}
    others = [
        ("train", "Dataset007_Toy/nnUNetTrainerSoftmax/seed_0"),
        ("train", "Dataset008_Large/nnUNetTrainerSSN/seed_0"),
    ]
    guess = {"mem_mb": GUESSES["train"].mem_mb, "runtime": GUESSES["train"].runtime}
    assert asked(plan, *train[1]) == guess
    plan.records.finish(plan.jobs[train[0]], seconds=5400, memory_mib=3001)
    assert asked(plan, *train[1]) == {"mem_mb": 5502, "runtime": 210}  # ⌈1.5 · 3001 + 1000⌉, 2 · 90 + 30
    for other in others:
        assert asked(plan, *other) == guess
    plan.records.finish(plan.jobs[train[1]], seconds=60, memory_mib=4000)
    assert asked(plan, *train[1]) == {"mem_mb": 7000, "runtime": 210}  # the most of both


def test_the_time_of_a_job_that_went_on_is_not_taken(plan):
    key = "train", "Dataset007_Toy/nnUNetTrainerSSN/seed_0"
    plan.records.finish(plan.jobs[key], seconds=60, memory_mib=2000, resumed=True)
    assert asked(plan, *key) == {"mem_mb": 4000, "runtime": GUESSES["train"].runtime}


def test_what_the_study_says_stays_its_own(plan):
    names = {name.split("/")[0]: name for kind, name in plan.jobs if kind == "predict" and "SSN" in name}
    assert asked(plan, "predict", names["Dataset007_Toy"]) == {"runtime": 50}  # 2 · 10 + 30
    assert asked(plan, "predict", names["Dataset008_Large"]) == {"runtime": GUESSES["predict"].runtime}
    (evaluation, *_) = (name for kind, name in plan.jobs if kind == "evaluate")
    assert asked(plan, "evaluate", evaluation) == {"mem_mb": GUESSES["evaluate"].mem_mb}
    # A dataset's own minutes stand in the place of the study's.
    runtimes = {
        name.split("/")[0]: asked(plan, kind, name)["runtime"] for kind, name in plan.jobs if kind == "calibrate"
    }
    assert runtimes == {"Dataset007_Toy": GUESSES["calibrate"].runtime, "Dataset008_Large": 42}
    assert asked(plan, "compare", "comparison")["runtime"] == 46


@pytest.mark.parametrize(("variable", "threads"), [(None, 12), ("8", 8), ("0", 1), ("many", 12)])
def test_threads_of_a_training_on_a_cluster_are_those_that_augment(plan, monkeypatch, variable, threads):
    monkeypatch.delenv("nnUNet_n_proc_DA", raising=False)
    if variable is not None:
        monkeypatch.setenv("nnUNet_n_proc_DA", variable)
    assert threads_of(plan.study, "train", on_cluster=True) == threads
    assert threads_of(plan.study, "train", on_cluster=False) == 1
    assert threads_of(plan.study, "evaluate", on_cluster=True) == 1


def test_threads_that_the_study_says(write_study):
    study = Plan.read(write_study(STUDY.replace("resources: {", "resources: {train: {threads: 5}, "))).study
    assert threads_of(study, "train", on_cluster=True) == 5
