"""A study as jobs: how many of each kind, which need which, and commands that the real programs understand."""

import sys
from collections import Counter

import pytest

from nnunet_stochastic.commands import (
    compare,
    corrupt,
    determine_calibration,
    evaluate,
    fit_laplace,
    predict,
    preprocess_raters,
    report,
)
from nnunet_stochastic.study.jobs import evaluations_of, final_jobs
from nnunet_stochastic.study.plan import Plan

pytest.importorskip("yaml")

ENTANGLEMENT = """
output: results
seeds: 5
aleatoric: [Softmax, SSN, ProbUNet, Diffusion]
epistemic: [none, ensemble, dropout, swag, swag_diag]
exclude: [Softmax/none]
predict: {num_samples: 10, num_members: 10, save_samples: 5, disable_tta: true, step_size: 0.5, swag_scale: 0.25}
evaluate: {np: 2}
datasets:
  - {dataset: Dataset511_LIDC, configuration: 2d, convert: convert it, corruptions: [blur, noise, contrast, jpeg]}
  - {dataset: Dataset512_Chaksu, configuration: 2d, convert: convert it, ood: [Bosch, Forus]}
"""
SWAG, DROPOUT = "nnUNetTrainerSSNSWAG", "nnUNetTrainerSSNDropout"
ALL_SEEDS = [("train", f"Dataset511_LIDC/{SWAG}/seed_{seed}") for seed in range(5)]


@pytest.fixture
def plan(write_study):
    return Plan.read(write_study(ENTANGLEMENT))


def test_numbers_of_jobs_of_the_entanglement_study(plan):
    counts = Counter((job.kind, job.dataset) for job in plan.jobs.values())
    for dataset, num_sets in (("Dataset511_LIDC", 6), ("Dataset512_Chaksu", 4)):
        assert counts["train", dataset] == 4 * 2 * 5
        results = 15 * 5 + 4  # 15 combinations with a result per seed, 4 ensembles
        assert counts["evaluate", dataset] == counts["calibrate", dataset] == results
        assert counts["predict", dataset] == results * num_sets
    assert (counts["sets", "Dataset511_LIDC"], counts["sets", "Dataset512_Chaksu"]) == (5, 1)
    assert counts["convert", "Dataset511_LIDC"] == counts["plan", "Dataset511_LIDC"] == 1
    assert counts["compare", ""] == counts["report", ""] == 1


def test_every_job_comes_after_those_that_it_needs(plan):
    before = set()
    for key, job in plan.jobs.items():
        assert set(job.needs) <= before, key
        before.add(key)


@pytest.mark.parametrize(
    ("method", "seeds", "trainings"),
    [
        ("none", "seed_3", [("train", f"Dataset511_LIDC/{SWAG}/seed_3")]),
        ("swag", "seed_3", [("train", f"Dataset511_LIDC/{SWAG}/seed_3")]),
        ("swag_diag", "seed_3", [("train", f"Dataset511_LIDC/{SWAG}/seed_3")]),
        ("dropout", "seed_3", [("train", f"Dataset511_LIDC/{DROPOUT}/seed_3")]),
        ("ensemble", "all_seeds", ALL_SEEDS),
    ],
)
def test_what_predictions_need(plan, method, seeds, trainings):
    label = f"Dataset511_LIDC/SSN/{method}/{seeds}"
    assert list(plan.jobs["predict", f"{label}/ID"].needs) == trainings
    assert list(plan.jobs["predict", f"{label}/blur"].needs) == [*trainings, ("sets", "Dataset511_LIDC/blur")]
    assert plan.jobs["calibrate", label].needs == (("predict", f"{label}/validation"),)
    sets = ("ID", "validation", "blur", "noise", "contrast", "jpeg")
    assert set(plan.jobs["evaluate", label].needs) == {
        ("calibrate", label),
        *(("predict", f"{label}/{s}") for s in sets),
    }
    assert plan.jobs[trainings[0]].needs == (("plan", "Dataset511_LIDC"),)
    assert plan.jobs["plan", "Dataset511_LIDC"].needs == (("convert", "Dataset511_LIDC"),)


def options(job):
    (command,) = job.commands
    return command.argv[1:]


def test_commands_are_those_that_the_programs_understand(plan, nnunet):
    raw, output = nnunet / "raw", plan.study.output
    label = "Dataset511_LIDC/SSN/swag/seed_2"
    found = predict._parser().parse_args(options(plan.jobs["predict", f"{label}/blur"]))
    assert (found.i, found.o) == (
        str(output / "sets/Dataset511_LIDC/blur"),
        str(output / "predictions" / label / "blur"),
    )
    assert (found.d, found.c, found.p, found.tr, found.f) == ("Dataset511_LIDC", "2d", "nnUNetPlans", SWAG, ["2"])
    assert (found.num_samples, found.num_members, found.save_samples, found.swag_scale) == (10, 10, 5, 0.25)
    assert (found.epistemic, found.device, found.step_size) == ("swag", "cuda", 0.5)
    assert found.disable_tta
    assert found.save_probabilities
    assert found.continue_prediction

    ensemble = predict._parser().parse_args(options(plan.jobs["predict", "Dataset511_LIDC/SSN/ensemble/all_seeds/ID"]))
    assert (ensemble.i, ensemble.f) == (str(raw / "Dataset511_LIDC/imagesTs"), list("01234"))
    assert "--num_members" not in options(plan.jobs["predict", "Dataset511_LIDC/SSN/ensemble/all_seeds/ID"])

    validation = predict._parser().parse_args(options(plan.jobs["predict", f"{label}/validation"]))
    assert (validation.save_samples, validation.save_probabilities) == (0, False)
    calibration = determine_calibration._parser().parse_args(options(plan.jobs["calibrate", label]))
    assert str(calibration.val) == validation.o
    assert (calibration.gt, calibration.gt_raters) == (
        raw / "Dataset511_LIDC/labelsTr",
        raw / "Dataset511_LIDC/ratersTr",
    )

    lidc = evaluate._parser().parse_args(options(plan.jobs["evaluate", label]))
    assert (lidc.pred, lidc.val) == (output / "predictions" / label / "ID", calibration.val)
    assert (lidc.np, lidc.convention) == (2, "entanglement")
    assert lidc.o == output / "evaluations" / label
    assert f"blur={found.o}" in lidc.ood
    assert f"blur={raw / 'Dataset511_LIDC/labelsTs'}" in lidc.ood_gt
    chaksu = evaluate._parser().parse_args(options(plan.jobs["evaluate", label.replace("511_LIDC", "512_Chaksu")]))
    folders = {"ood_gt": "labels", "ood_gt_raters": "raters"}
    for option, folder in folders.items():
        names = [f"{shift}={raw / 'Dataset512_Chaksu' / f'{folder}OOD_{shift}'}" for shift in ("Bosch", "Forus")]
        assert getattr(chaksu, option) == names

    corruption = corrupt._parser().parse_args(options(plan.jobs["sets", "Dataset511_LIDC/noise"]))
    assert (corruption.o / "noise", corruption.shifts) == (output / "sets/Dataset511_LIDC/noise", ["noise"])
    comparison = compare._parser().parse_args(options(plan.jobs["compare", "comparison"]))
    assert (comparison.runs, comparison.o) == (output / "runs.csv", output / "comparison")
    page = report._parser().parse_args(options(plan.jobs["report", "report"]))
    assert len(page.results) == 2 * 19  # the first seed of each model
    assert output / "evaluations/Dataset511_LIDC/SSN/swag/seed_0" in page.results
    assert page.title == "study"


def test_plan_and_training(plan, nnunet):
    verified, preprocessed, raters, splits = (command.argv for command in plan.jobs["plan", "Dataset511_LIDC"].commands)
    assert verified[:5] == ("nnUNetv2_plan_and_preprocess", "-d", "511", "-c", "2d")
    assert preprocessed[:5] == ("nnUNetv2_preprocess", "-d", "511", "-plans_name", "nnUNetPlans")
    found = preprocess_raters._parser().parse_args(raters[1:])
    assert (found.d, found.p, found.c) == (["Dataset511_LIDC"], "nnUNetPlans", ["2d"])
    assert splits == (sys.executable, "-m", "nnunet_stochastic.study.splits", "Dataset511_LIDC", "5")
    job = plan.jobs["train", f"Dataset511_LIDC/{DROPOUT}/seed_4"]
    assert options(job) == (
        *("Dataset511_LIDC", "2d", "4", "-tr", DROPOUT, "-p", "nnUNetPlans", "-device", "cuda", "--c"),
    )
    folder = nnunet / "results" / "Dataset511_LIDC" / f"{DROPOUT}__nnUNetPlans__2d"
    assert job.products == (folder / "fold_4" / "checkpoint_final.pth",)
    assert job.environment == {"nnUNet_stochastic_seed": "0"}


def test_planner_and_start_of_the_training(write_study):
    text = ENTANGLEMENT.replace("seeds: 5", "seeds: 1\nstart_from: nnUNetTrainer").replace(", ensemble,", ",")
    text = text.replace("configuration: 2d, convert", "configuration: 2d, planner: nnUNetPlannerResEncL, convert", 1)
    text = text.replace("configuration: 2d, convert: convert it, ood", "configuration: 2d, plans: Mine, ood")
    plan = Plan.read(write_study(text))
    argv = plan.jobs["plan", "Dataset511_LIDC"].commands[0].argv
    assert argv[-2:] == ("-pl", "nnUNetPlannerResEncL")
    assert len(plan.jobs["plan", "Dataset511_LIDC"].commands) == 3  # one seed leaves the splits alone
    assert plan.jobs["plan", "Dataset512_Chaksu"].commands[0].argv[-2:] == ("-overwrite_plans_name", "Mine")
    assert "-overwrite_plans_name" not in argv
    start, job = (plan.jobs["train", f"Dataset511_LIDC/{name}/seed_0"] for name in ("nnUNetTrainer", SWAG))
    assert "nnUNetResEncUNetLPlans" in start.commands[0].argv
    assert job.needs == (("plan", "Dataset511_LIDC"), start.key)
    assert job.environment["nnUNet_stochastic_init"] == str(start.products[0])
    assert "nnUNet_stochastic_init" not in start.environment


def test_an_ensemble_is_a_run_of_each_seed(plan):
    results = evaluations_of(plan.study, plan.folders)
    comparison, page = final_jobs(plan.study, results)
    ((file, table),) = comparison.files
    assert page.files == comparison.files
    rows = [line.split(",") for line in table.splitlines()]
    assert file == plan.study.output / "runs.csv"
    assert rows[0] == ["folder", "dataset", "seed", "aleatoric", "epistemic"]
    assert len(rows) == 1 + 2 * 19 * 5
    folder = "evaluations/Dataset512_Chaksu/SSN/ensemble/all_seeds"
    assert [row for row in rows if row[0] == folder] == [
        [folder, "Dataset512_Chaksu", str(seed), "SSN", "ensemble"] for seed in range(5)
    ]
    assert [job.kind for job in final_jobs(plan.study, results[:1])] == ["report"]
    assert final_jobs(plan.study, []) == []


def test_the_ace_of_a_dataset_is_that_of_the_comparison(write_study):
    plan = Plan.read(write_study(ENTANGLEMENT.replace("ood: [Bosch, Forus]", "ood: [Bosch, Forus], ace: per_image")))
    results = evaluations_of(plan.study, plan.folders)
    arguments = compare._parser().parse_args(options(final_jobs(plan.study, results)[0]))
    assert arguments.ace == ["Dataset512_Chaksu=per_image"]
    # An option of a dataset without a result would be refused.
    assert "--ace" not in options(final_jobs(plan.study, results[:2])[0])


@pytest.mark.parametrize(("kind", "command"), [("evaluate", evaluate), ("calibrate", determine_calibration)])
def test_evaluations_and_calibrations_take_the_patients_of_the_dataset(write_study, make_dataset, kind, command):
    raw = make_dataset("Dataset512_Chaksu", num_raters=5)
    label = "Dataset512_Chaksu/SSN/swag/seed_2"

    def groups():
        job = Plan.read(write_study(ENTANGLEMENT)).jobs[kind, label]
        return command._parser().parse_args(options(job)).groups

    assert groups() is None
    (raw / "patients.csv").write_text("case,patient\n")
    assert groups() == raw / "patients.csv"


def test_datasets_that_are_not_there_yet_wait_for_their_conversion(write_study, make_dataset):
    make_dataset("Dataset512_Eyes", num_raters=5)
    text = ENTANGLEMENT.replace("Dataset511_LIDC", "511").replace("Dataset512_Chaksu", "512")
    plan = Plan.read(write_study(text))
    assert {job.dataset for job in plan.targets("evaluate")} == {"Dataset512_Eyes"}
    assert [job.name for job in plan.targets("convert")] == ["Dataset511", "Dataset512"]
    assert plan.records.is_adoptable(plan.jobs["convert", "Dataset512"])
    assert not plan.records.is_adoptable(plan.jobs["convert", "Dataset511"])


def test_what_is_fitted_after_training_belongs_to_the_training(write_study, nnunet):
    """Of each seed, by the trainer that all methods without one of their own share."""
    text = ENTANGLEMENT.replace("dropout, swag, swag_diag]", "dropout, laplace]").replace("swag_scale: 0.25", "npp: 0")
    plan = Plan.read(write_study(text.replace(", npp: 0", "")))
    training, fit = plan.jobs["train", "Dataset511_LIDC/nnUNetTrainerSSN/seed_3"].commands
    assert training.argv[0] == "nnUNetv2_train"
    assert fit.argv[0] == "nnunet_stochastic_fit_laplace"
    found = fit_laplace._parser().parse_args(fit.argv[1:])
    assert (found.d, found.c, found.p, found.tr, found.f) == (
        *("Dataset511_LIDC", "2d", "nnUNetPlans", "nnUNetTrainerSSN"),
        ["3"],
    )
    assert (found.device, found.fit) == ("cuda", "nll")
    assert len(plan.jobs["train", f"Dataset511_LIDC/{DROPOUT}/seed_3"].commands) == 1
    predicted = plan.jobs["predict", "Dataset511_LIDC/SSN/laplace/seed_3/ID"]
    assert predicted.needs == (("train", "Dataset511_LIDC/nnUNetTrainerSSN/seed_3"),)
    assert predict._parser().parse_args(options(predicted)).epistemic == "laplace"
