"""Evaluation folders to a comparison: a Table 2 by hand, what is missing, and what must not be compared."""

import json
import math

import pytest
from scipy import stats

from nnunet_stochastic.evaluation.comparison import compare
from nnunet_stochastic.evaluation.evaluated_runs import read_overrides, read_runs
from tests.evaluation import evaluation_folder as made_up

DATASET = made_up.DATASET


def overall(comparison, criterion, *model):
    ranks = comparison.ranks
    chosen = ranks[(ranks["criterion"] == criterion) & (ranks["task"] == "overall")]
    return chosen.set_index(["aleatoric", "epistemic"]).loc[model]


def reasons(comparison):
    return {tuple(row[:-1]): row[-1] for row in comparison.missing.itertuples(index=False)}


def test_table_2_by_hand(tmp_path):
    comparison = compare(read_runs(made_up.write_models(tmp_path)))
    expected = {
        ("SSN", "none"): (7 / 3, 7.25 / 3),
        ("SSN", "ensemble"): (4 / 3, 5.25 / 3),
        ("Softmax", "ensemble"): (7 / 3, 5.5 / 3),
    }
    for model, (performance, delta) in expected.items():
        assert overall(comparison, "performance", *model)["mean"] == pytest.approx(performance)
        assert overall(comparison, "delta", *model)["mean"] == pytest.approx(delta)
        assert overall(comparison, "both", *model)["mean"] == pytest.approx((performance + delta) / 2)
        assert math.isnan(overall(comparison, "both", *model)["half_width"])


def test_values_are_those_of_the_files(tmp_path):
    comparison = compare(read_runs(made_up.write_models(tmp_path)))
    values = comparison.values.set_index(["aleatoric", "epistemic", "task", "split", "quantity"]).loc["SSN", "ensemble"]
    expected = {
        ("segmentation", "ID", "Dice"): (0.8, math.nan),
        ("segmentation", "ID", "NLL"): (0.05, math.nan),
        ("segmentation", "ID", "ECE"): (0.012, math.nan),
        ("segmentation", "ID", "MCE"): (0.1, math.nan),
        ("GED", "ID", "GED (1 - IoU)"): (0.35, math.nan),
        ("GED", "ID", "GED (1 - Dice)"): (0.3, math.nan),
        ("OODD", "ID and OOD", "EU AUROC"): (0.9, 1.5),
        ("OODD", "ID and OOD", "delta"): (0.2, 1),
        ("AMB", "ID", "AU NCC"): (0.6, 1),
        ("AMB", "ID", "delta"): (0.1, 2),
        ("AMB", "OOD", "AU NCC"): (0.2, 2),
        ("AMB", "OOD", "delta"): (0.0, 2),
        ("CAL", "ID", "TU ACE"): (0.05, 1),
        ("CAL", "ID", "delta"): (0.0, 2.5),
        ("CAL", "OOD", "TU ACE"): (0.1, 1),
        ("CAL", "OOD", "delta"): (0.1, 2),
        ("RATIO", "ID", "EU/AU"): (0.12, math.nan),
        ("RATIO", "OOD", "EU/AU"): (0.2, math.nan),
    }
    found = {key: (row["value"], row["rank"]) for key, row in values.iterrows()}
    assert found.keys() == expected.keys()
    for key, pair in expected.items():
        assert found[key] == pytest.approx(pair, nan_ok=True), key


def test_without_raters_the_reference_counts(tmp_path):
    folders = made_up.write_models(tmp_path, change=lambda summary: summary["results"].pop("raters"))
    performance = compare(read_runs(folders)).performance
    assert set(performance.loc[performance["quantity"] == "Dice", "mean"]) == {-1.0}


def test_calibration_is_ranked_by_the_ace_that_a_dataset_asks_for(tmp_path):
    folders = made_up.write_models(tmp_path / "a") + made_up.write_models(tmp_path / "b", dataset="Dataset502_B")
    comparison = compare(read_runs(folders), ace={"Dataset502_B": "per_image"})
    columns = ["dataset", "aleatoric", "epistemic", "task", "split", "quantity"]
    values = comparison.values.set_index(columns).sort_index()
    # Per image the errors are 1 minus those of all images, so that their ranks are reversed; Δ changes places.
    for epistemic, error, rank, other in (("none", 0.1, 2, 2), ("ensemble", 0.05, 1, 3)):
        row = values.loc[(DATASET, "SSN", epistemic, "CAL", "ID", "TU ACE")]
        assert (row["value"], row["rank"]) == (error, rank)
        row = values.loc[("Dataset502_B", "SSN", epistemic, "CAL", "ID", "TU ACE")]
        assert (row["value"], row["rank"]) == (1 - error, other)
    delta = [values.loc[(name, "SSN", "ensemble", "CAL", "ID", "delta"), "value"] for name in (DATASET, "Dataset502_B")]
    assert delta == [0.0, 0.1]
    assert comparison.notes == ("ACE of Dataset502_B is the mean over images.",)
    assert compare(read_runs(folders), ace={DATASET: "dataset"}).missing["task"].tolist() == ["CAL"] * 2  # without Δ
    with pytest.raises(ValueError, match=f"chosen for Dataset9, of which there is no run; name some of {DATASET}, "):
        compare(read_runs(folders), ace={"Dataset9": "dataset"})


def test_order_of_folders_does_not_matter(tmp_path):
    folders = made_up.write_models(tmp_path)
    one, other = compare(read_runs(folders)), compare(read_runs(folders[::-1]))
    for table in ("values", "ranks", "best", "performance", "missing"):
        assert getattr(one, table).equals(getattr(other, table))


def test_seeds(tmp_path):
    folders = [
        folder
        for seed, dice in ((1, 0.7), (2, 0.8), (10, 0.84))
        for folder in made_up.write_models(tmp_path / str(seed), seed=seed, dice=dice)
    ]
    better = json.loads((folders[0] / "summary.json").read_text())
    better["tasks"]["OODD"]["EU"] = 0.95  # in seed 1: ranks 1, 2.5, 2.5 instead of 3, 1.5, 1.5
    (folders[0] / "summary.json").write_text(json.dumps(better))
    comparison = compare(read_runs(folders))
    row = overall(comparison, "performance", "SSN", "none")
    per_seed = [(1 + 1.5 + 2.5) / 3, 7 / 3, 7 / 3]
    assert row["num_seeds"] == 3
    assert row["mean"] == pytest.approx(sum(per_seed) / 3)
    assert row["half_width"] == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(per_seed))
    dice = comparison.performance.set_index(["aleatoric", "epistemic", "quantity"]).loc["SSN", "none", "Dice"]
    assert dice["mean"] == pytest.approx(0.78)
    assert dice["half_width"] == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem([0.7, 0.8, 0.84]))


def test_softmax_without_epistemic_method_is_not_applicable_and_not_missing(tmp_path):
    folders = made_up.write_models(tmp_path)
    without = compare(read_runs(folders))
    deterministic = made_up.write_folder(tmp_path / "deterministic", made_up.deterministic_summary())
    comparison = compare(read_runs([*folders, deterministic]))
    # Its ACE is the best of all, but it takes no one's rank.
    assert comparison.ranks.equals(without.ranks)
    assert comparison.missing.empty
    assert without.missing.empty
    values = comparison.values.set_index(["aleatoric", "epistemic", "task", "split", "quantity"])
    assert values.loc[("Softmax", "none", "CAL", "ID", "TU ACE"), "value"] == 0.01
    assert values.loc[("Softmax", "none"), "rank"].isna().all()


def test_any_model_without_decomposition_is_not_applicable(tmp_path):
    summary = made_up.deterministic_summary()
    summary["model"]["aleatoric"] = "Deterministic"
    folders = [*made_up.write_models(tmp_path), made_up.write_folder(tmp_path / "deterministic", summary)]
    comparison = compare(read_runs(folders))
    assert comparison.undecomposed == {("Softmax", "none"), ("Deterministic", "none")}
    assert reasons(comparison) == {(DATASET, "", "Deterministic", "ensemble", "all", "all"): "no result was given"}


def test_impossible_combinations_are_not_missing(tmp_path):
    """SWAG needs a trainer with snapshots: TTA of a plain U-Net has none, MoB has one that is not among the results."""
    trained = {
        ("TTA", "none"): "nnUNetTrainer",
        ("MoB", "none"): "nnUNetTrainerMoB",
        ("MoBShort", "none"): "nnUNetTrainerMoBShort",
        ("MoBLong", "swag_diag"): "nnUNetTrainerMoBLongSWAG",
        ("Theirs", "none"): None,
    }
    folders = []
    for (aleatoric, epistemic), trainer in trained.items():
        summary = made_up.summary_of(aleatoric, epistemic, numbers=made_up.NUMBERS["SSN", "none"])
        summary["model"]["trainer"] = trainer
        folders.append(made_up.write_folder(tmp_path / aleatoric, summary))
    comparison = compare(read_runs(folders))
    missing = {(row.aleatoric, row.epistemic) for row in comparison.missing.itertuples() if row.task == "all"}
    assert missing == {("MoB", "swag_diag"), ("MoBLong", "none"), ("Theirs", "swag_diag")}
    assert comparison.impossible == {("TTA", "swag_diag"), ("MoBShort", "swag_diag")}


def degenerate(summary, num_cases):
    summary["degenerate_samples"] = {
        "ID": dict.fromkeys(["case_0", "case_1"][:num_cases], "full"),
        "blur": {"a": "full"},
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda summary: degenerate(summary, 0), None),
        (lambda summary: degenerate(summary, 1), "all samples are empty or fill the image in 1 of 2 cases"),
        (lambda summary: summary["results"]["raters"]["all classes"]["mean"].update(dice=0.4), None),
        (
            lambda summary: summary["results"]["raters"]["all classes"]["mean"].update(dice=0.399),
            "Dice 0.399 is below half of the best, 0.800",
        ),
        (lambda summary: summary["results"]["raters"]["all classes"]["mean"].update(dice=None), None),
    ],
)
def test_a_model_whose_segmentation_failed_is_in_no_rank(tmp_path, change, reason):
    folders = made_up.write_models(tmp_path)
    without = compare(read_runs(folders[:2]))
    summary = json.loads((folders[2] / "summary.json").read_text())
    change(summary)
    (folders[2] / "summary.json").write_text(json.dumps(summary))
    comparison = compare(read_runs(folders))
    if reason is None:
        assert comparison.failed == {}
        assert overall(comparison, "performance", "Softmax", "ensemble")["mean"] == pytest.approx(7 / 3)
        return
    assert comparison.failed == {(DATASET, "Softmax", "ensemble"): reason}
    assert comparison.ranks.equals(without.ranks)
    assert set(comparison.best.loc[comparison.best["listed"], "aleatoric"]) == {"SSN"}
    assert "Softmax" in set(comparison.performance["aleatoric"])


def test_a_model_has_failed_where_one_seed_of_it_has(tmp_path):
    folders = [folder for seed in (1, 2) for folder in made_up.write_models(tmp_path / str(seed), seed=seed)]
    summary = json.loads((folders[0] / "summary.json").read_text())
    summary["results"]["raters"]["all classes"]["mean"]["dice"] = 0.1
    (folders[0] / "summary.json").write_text(json.dumps(summary))
    comparison = compare(read_runs(folders))
    assert comparison.failed == {(DATASET, "SSN", "none"): "seed 1: Dice 0.100 is below half of the best, 0.800"}
    assert ("SSN", "none") not in set(comparison.ranks[["aleatoric", "epistemic"]].itertuples(index=False, name=None))


def test_missing_combinations_and_tasks_are_named(tmp_path):
    folders = made_up.write_models(tmp_path / "a", seed=0)
    folders += made_up.write_models(tmp_path / "b", seed=1)[:1]
    ssn = json.loads((folders[1] / "summary.json").read_text())
    del ssn["tasks"]["AMB"], ssn["delta"]["AMB"]
    ssn["left_out"] = {"AMB": "no raters were given"}
    ssn["delta"]["OODD"] = None
    ssn["left_out"]["delta"] = "it needs all three maps"
    (folders[1] / "summary.json").write_text(json.dumps(ssn))
    comparison = compare(read_runs(folders))
    assert reasons(comparison) == {
        (DATASET, "1", "SSN", "ensemble", "all", "all"): "no result was given",
        (DATASET, "1", "Softmax", "ensemble", "all", "all"): "no result was given",
        (DATASET, "0", "SSN", "ensemble", "OODD", "ID and OOD"): "it needs all three maps",
        (DATASET, "0", "SSN", "ensemble", "AMB", "ID"): "no raters were given",
        (DATASET, "0", "SSN", "ensemble", "AMB", "OOD"): "no raters were given",
    }
    assert math.isnan(overall(comparison, "performance", "SSN", "ensemble")["mean"])
    # Ranked among the two that have AMB: 1 and 2 in both splits.
    ranks = comparison.ranks.set_index(["criterion", "task", "aleatoric", "epistemic"])["mean"]
    assert ranks["performance", "AMB", "Softmax", "ensemble"] == 2


def test_reason_of_a_split(tmp_path):
    def change(summary):
        summary["tasks"]["CAL"].update(OOD={"AU": None, "TU": None}, shifts={})
        summary["left_out"] = {"CAL/blur": "no annotations were given (-ood_gt)", "OODD/threshold": "no -val folder"}

    found = reasons(compare(read_runs(changed(tmp_path, change))))
    assert found == {
        (DATASET, "", "SSN", "ensemble", "CAL", "OOD"): "no annotations were given (-ood_gt)",
    }


def test_numbers_of_samples_that_differ_are_noted(tmp_path):
    folders = made_up.write_models(tmp_path, change=lambda summary: summary["tasks"]["GED"].update(num_samples=16))
    assert compare(read_runs(folders)).notes == ()
    summary = json.loads((folders[0] / "summary.json").read_text())
    summary["tasks"]["GED"]["num_samples"] = 9
    (folders[0] / "summary.json").write_text(json.dumps(summary))
    assert compare(read_runs(folders)).notes == (
        f"GED of {DATASET} comes from different numbers of samples (9, 16), on which it depends.",
    )


def test_auroc_without_the_images_that_have_no_border_is_noted(tmp_path):
    def change(summary):
        without = 1 if summary["model"]["aleatoric"] == "Softmax" else 0
        summary["tasks"]["OODD"] |= {
            "num_without_border": {"ID": 0, "blur": without},
            "auroc_with_border": {"AU": 0.4, "EU": 0.55, "TU": 0.5, "shifts": {}},
        }

    assert compare(read_runs(made_up.write_models(tmp_path, change=change))).notes == (
        f"EU AUROC of Softmax / Folds (splits unknown) in {DATASET}: 1 of 1 of blur without a predicted border, whose "
        "score is a sum divided by 1; without them 0.550.",
    )


def test_task_that_all_runs_lack_is_one_row(tmp_path):
    def change(summary):
        del summary["tasks"]["OODD"], summary["delta"]["OODD"]
        summary["left_out"]["OODD"] = "no -ood set was given"

    comparison = compare(read_runs(made_up.write_models(tmp_path, change=change)))
    assert reasons(comparison) == {(DATASET, "all", "all", "all", "OODD", "ID and OOD"): "no -ood set was given"}
    assert overall(comparison, "performance", "SSN", "none")["mean"] == pytest.approx((1.5 + 2.5) / 2)


def test_same_run_twice(tmp_path):
    folders = made_up.write_models(tmp_path / "a") + made_up.write_models(tmp_path / "b")[:1]
    with pytest.raises(ValueError, match=r"a/SSN_none and \S+b/SSN_none are the same run .*--runs"):
        read_runs(folders)


def test_unknown_seed_beside_known_ones(tmp_path):
    folders = made_up.write_models(tmp_path / "a", seed=0) + made_up.write_models(tmp_path / "b")[:1]
    with pytest.raises(ValueError, match=r"seed is known for other runs, but not for \S+b/SSN_none; .*--runs"):
        read_runs(folders)


def test_unknown_model(tmp_path):
    folders = made_up.write_models(tmp_path, change=lambda summary: summary["model"].update(dataset=None))
    with pytest.raises(ValueError, match="does not say the dataset of its model"):
        read_runs(folders)


def test_folders_that_are_no_evaluation_are_listed_together(tmp_path):
    folders = made_up.write_models(tmp_path)
    (folders[0] / "summary.json").unlink()
    (folders[1] / "summary.json").write_text("{")
    (folders[2] / "images.csv").unlink()
    old = made_up.write_folder(tmp_path / "old", {"results": {}, "model": {}})
    with pytest.raises(ValueError, match="cannot be compared") as error:
        read_runs([*folders, old])
    for text in (
        "has no summary.json",
        "summary.json: not valid JSON",
        "has no images.csv",
        "old/summary.json lacks convention",
    ):
        assert text in str(error.value)


def test_evaluations_of_the_version_without_names_of_distances_are_refused(tmp_path):
    def age(summary):
        summary["tasks"]["GED"] = {"ID": 0.3, "OOD": None, "shifts": {}, "distance": "iou", "num_samples": 16}

    with pytest.raises(ValueError, match=r"second/summary\.json is of an older version, whose GED .*run .* again"):
        read_runs(changed(tmp_path, age))


def changed(tmp_path, change):
    """Two folders, of which the second is changed."""
    first = made_up.write_folder(tmp_path / "first", made_up.summary_of("SSN", "none"))
    summary = made_up.summary_of("SSN", "ensemble")
    change(summary)
    return [first, made_up.write_folder(tmp_path / "second", summary)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda summary: summary.update(convention="values"), "different conventions: entanglement in .*first, values"),
        (lambda summary: summary.update(num_bins=20), "different numbers of bins: 15 .* 20"),
        (lambda summary: summary["tasks"]["OODD"].update(aggregation="mean"), "aggregations of OODD: border .* mean"),
        (lambda summary: summary["tasks"]["GED"].update(distance="iou"), "distances of GED: dice .* iou"),
        (lambda summary: summary.update(num_raters=3), f"numbers of raters in {DATASET}: 4 .* 3"),
        (
            lambda summary: summary["tasks"]["AMB"].update(shifts={"blur": {}, "noise": {}}),
            r"shifts of AMB .*: 1 in .*first, 2 \(noise here alone\) in .*second",
        ),
    ],
)
def test_what_would_mix_in_ranks(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        compare(read_runs(changed(tmp_path, change)))


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ({"ID": ("case_0", "case_2"), "blur": ("case_0",)}, r"cases of ID .*: 2 \(case_1 here alone\) .*\(case_2 here"),
        ({"ID": ("case_0", "case_1"), "noise": ("case_0",)}, r"shifts in .*: 1 \(blur here alone\)"),
    ],
)
def test_other_cases(tmp_path, cases, message):
    first = made_up.write_folder(tmp_path / "first", made_up.summary_of("SSN", "none"))
    second = made_up.write_folder(tmp_path / "second", made_up.summary_of("SSN", "ensemble"), cases=cases)
    with pytest.raises(ValueError, match=message):
        compare(read_runs([first, second]))


def test_without_shifts_tasks_are_missing_but_comparable(tmp_path):
    def change(summary):
        for task in ("AMB", "CAL", "GED", "RATIO"):
            summary["tasks"][task].update(shifts={}, OOD=None)
        del summary["tasks"]["OODD"]
        summary["left_out"] = {"OODD": "no -ood set was given"}

    first = made_up.write_folder(tmp_path / "first", made_up.summary_of("SSN", "none"))
    summary = made_up.summary_of("SSN", "ensemble")
    change(summary)
    second = made_up.write_folder(tmp_path / "second", summary, cases={"ID": made_up.CASES["ID"]})
    found = reasons(compare(read_runs([first, second])))
    assert set(found.values()) == {"no -ood set was given"}
    assert {key[4:] for key in found} == {
        ("OODD", "ID and OOD"),
        ("AMB", "OOD"),
        ("CAL", "OOD"),
        ("RATIO", "OOD"),
    }


def test_one_run_and_a_broken_number(tmp_path):
    folders = changed(tmp_path, lambda summary: summary["tasks"]["GED"]["dice"].update(ID="0.3"))
    with pytest.raises(ValueError, match="at least 2"):
        compare(read_runs(folders[:1]))
    with pytest.raises(ValueError, match=r"tasks\.GED\.dice\.ID: must be a number, got '0\.3'"):
        compare(read_runs(folders))


def test_overrides(tmp_path):
    folders = made_up.write_models(tmp_path / "a") + made_up.write_models(tmp_path / "b")
    lines = ["folder,seed,aleatoric,dataset"]
    lines += [f"{folder.relative_to(tmp_path)},{folder.parent.name},,Other" for folder in folders[1:]]
    lines += [f"{folders[0]},a,MoB,"]
    (tmp_path / "runs.csv").write_text("\n".join(lines))
    runs = read_runs(folders, read_overrides(tmp_path / "runs.csv"))
    assert runs[0].key == (DATASET, "a", "MoB", "none")
    assert runs[1].key == ("Other", "a", "SSN", "ensemble")
    assert runs[3].key == ("Other", "b", "SSN", "none")


def test_folds_of_the_same_and_of_different_data_are_in_no_row_together(tmp_path):
    """Five folds of SWAG by seed: what they were trained on must be the same in the row."""

    def write(name, epistemic, data, seed):
        numbers = made_up.NUMBERS["SSN", "ensemble"]
        summary = made_up.summary_of("SSN", epistemic, seed=seed, numbers=numbers)
        summary["model"]["training_data_of_folds"] = data
        return made_up.write_folder(tmp_path / name, summary)

    ensemble = [write("deep", "deep_ensemble", "same", 0), write("folds", "cross_validation", "different", 0)]
    comparison = compare(read_runs(ensemble))
    assert set(comparison.performance["epistemic"]) == {"deep_ensemble", "cross_validation"}
    (tmp_path / "runs.csv").write_text("folder,epistemic\ndeep,deep_ensemble\nfolds,deep_ensemble\n")
    with pytest.raises(ValueError, match=r"folds/summary\.json has the epistemic method cross_validation"):
        read_runs(ensemble, read_overrides(tmp_path / "runs.csv"))
    swag = [write(f"swag_{seed}", "swag", data, seed) for seed, data in enumerate(("same", "unknown", None))]
    compare(read_runs(swag))
    other = write("swag_3", "swag", "different", 3)
    with pytest.raises(ValueError, match=r"training data of the folds of SSN / SWAG in .*: same in .*, different in"):
        compare(read_runs([*swag, other]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"runs\.csv: the header lacks folder, got 'nothing'; name a table with the column folder and any of"),
        ("seed\n1\n", "the header lacks folder, got 'seed'"),
        ("folder,seed\na/SSN_none\n", "line 2 has 1 values, the header 2"),
        ("folder,seed\n,1\n", "line 2 has no folder"),
        ('folder,seed\na/SSN_none,"1\n2"\n', "line 3 has a line break or another sign in '1.n2'"),
        (
            "folder,sed\nx,1\n",
            "the header has 'sed', which is not known; .* any of dataset, seed, aleatoric, epistemic",
        ),
        ("folder,seed\na/SSN_none,1\n./a/SSN_none,1\n", r"a/SSN_none and \S+a/SSN_none are the same run"),
        ("folder,seed\nx,1\n", "names folders that are not compared: .*x"),
    ],
)
def test_bad_overrides(tmp_path, text, message):
    folders = made_up.write_models(tmp_path / "a")
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_runs(folders, read_overrides(tmp_path / "runs.csv"))


def test_one_run_of_one_member_marks_its_model(tmp_path):
    folders = [
        folder
        for dataset, is_stand_in in ((DATASET, True), ("Dataset502_B", False), ("Dataset503_C", None))
        for folder in made_up.write_models(tmp_path / dataset, dataset=dataset, is_stand_in=is_stand_in)
    ]
    found = compare(read_runs(folders)).stand_ins
    expected = {DATASET: True, "Dataset502_B": False, "Dataset503_C": None, "all datasets": True}
    assert {key[0]: said for key, said in found.items() if key[1:] == ("SSN", "none")} == expected
    assert len(found) == 4 * 3
