"""Weights that stand for resampled cases or patients, and intervals against resampling the tables themselves."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import PRESETS
from nnunet_stochastic.evaluation.bootstrap import (
    case_weights,
    describe_bootstrap,
    entanglement_of_tasks,
    name_resampled,
    resample,
)
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks import compute_tasks

MEASURES = ("AU", "EU", "TU")


def test_copies_are_drawn_together_with_their_originals():
    cases = {"ID": ["a", "b", "c"], "blur": ["c", "a"], "site": ["x", "y"], "site_blur": ["x", "y"]}
    weights = case_weights(cases, 500, seed=0)
    assert {name: found.shape for name, found in weights.items()} == {
        "ID": (500, 3),
        "blur": (500, 2),
        "site": (500, 2),
        "site_blur": (500, 2),
    }
    np.testing.assert_array_equal(weights["blur"], weights["ID"][:, [2, 0]])
    np.testing.assert_array_equal(weights["site"], weights["site_blur"])
    assert (weights["ID"].sum(axis=1) == 3).all()
    assert (weights["site"].sum(axis=1) == 2).all()
    # A case is drawn Binomial(3, 1/3) times: mean 1, variance 2/3.
    assert weights["ID"].mean() == pytest.approx(1)
    assert weights["ID"].var(axis=0) == pytest.approx(2 / 3, abs=0.15)


def test_the_seed_decides():
    cases = {"ID": list("abcdef")}
    first = case_weights(cases, 20, seed=1)["ID"]
    np.testing.assert_array_equal(first, case_weights(cases, 20, seed=1)["ID"])
    assert (first != case_weights(cases, 20, seed=2)["ID"]).any()


def test_cases_are_drawn_with_their_patient_in_all_sets():
    cases = {"ID": list("abcd"), "near": ["d", "e", "f"], "far": ["x", "y"], "far_blur": ["y"]}
    patients = {"a": "1", "b": "1", "c": "2", "d": "3", "e": "2", "f": "4", "x": "9", "y": "8"}
    weights = case_weights(cases, 2000, patients=patients, seed=0)
    a, b, c, d = weights["ID"].T
    near_d, e, f = weights["near"].T
    for one, other in ((a, b), (c, e), (d, near_d), (weights["far"][:, 1], weights["far_blur"][:, 0])):
        np.testing.assert_array_equal(one, other)
    # ID and near share patients, so the four patients of both are drawn, four times; far has two of its own.
    assert (a + c + d + f == 4).all()
    assert (weights["far"].sum(axis=1) == 2).all()
    assert weights["ID"].mean(axis=0) == pytest.approx(1, abs=0.06)
    assert weights["ID"].var(axis=0) == pytest.approx(3 / 4, abs=0.06)  # Binomial(4, 1/4)
    correlation = np.corrcoef([a, c, f, *weights["far"].T])
    assert correlation[:3, :3][np.triu_indices(3, 1)] == pytest.approx(-1 / 3, abs=0.06)
    assert correlation[:3, 3:] == pytest.approx(0, abs=0.08)


def test_a_set_that_joins_two_others_is_drawn_with_both():
    cases = {"ID": ["a", "b"], "far": ["x", "y"], "both": ["b2", "x2"]}
    patients = {"a": "1", "b": "2", "b2": "2", "x": "3", "x2": "3", "y": "4"}
    weights = case_weights(cases, 50, patients=patients, seed=0)
    np.testing.assert_array_equal(weights["both"], np.stack([weights["ID"][:, 1], weights["far"][:, 0]], axis=1))
    assert (weights["ID"].sum(axis=1) + weights["far"].sum(axis=1) == 4).all()


def test_without_patients_shifts_of_other_names_are_drawn_alone():
    cases = {"ID": list("abc"), "partly": ["c", "d"], "site": ["x", "y"]}
    weights = case_weights(cases, 30, seed=5)
    random = np.random.default_rng(5)
    for name, members in cases.items():
        count = len(members)
        np.testing.assert_array_equal(weights[name], random.multinomial(count, [1 / count] * count, size=30))


def test_variance_of_a_mean_of_patients():
    """Over P patients with M cases each, of mean m_p: sum (m_p - m)^2 / P^2; over cases: sum (y - m)^2 / (P M)^2."""
    num_patients, num_cases = 12, 5
    random = np.random.default_rng(0)
    values = random.normal(0, 2, (num_patients, 1)) + random.normal(0, 1, (num_patients, num_cases))
    names = [f"{patient}_{case}" for patient in range(num_patients) for case in range(num_cases)]

    def variance(patients):
        weights = case_weights({"ID": names}, 20_000, patients=patients, seed=1)["ID"]
        return np.var(weights @ values.ravel() / weights.sum(axis=1))

    of_patients = np.sum((values.mean(axis=1) - values.mean()) ** 2) / num_patients**2
    of_cases = np.sum((values - values.mean()) ** 2) / values.size**2
    assert of_patients > 3 * of_cases
    # The variance of 20,000 replicates has a standard error of 1 %.
    assert variance({name: name.split("_")[0] for name in names}) == pytest.approx(of_patients, rel=0.04)
    assert variance(None) == pytest.approx(of_cases, rel=0.04)


def test_numbers_of_cases_and_patients_are_named():
    cases = {"ID": ["a", "b", "c"], "blur": ["a", "b", "c"], "site": ["x"]}
    found = describe_bootstrap(cases, {"a": "1", "b": "1", "c": "2", "x": "3"})
    assert found["sets"]["blur"] == {"cases": 3, "patients": 2}
    assert (found["unit"], found["level"], found["num_replicates"]) == ("patient", 0.95, 1000)
    assert name_resampled({"bootstrap": found}) == "patients (ID, blur: 3 cases of 2; site: 1 case of 1)"
    alone = describe_bootstrap(cases, None)
    assert alone["sets"]["site"] == {"cases": 1, "patients": None}
    assert name_resampled({"bootstrap": alone}) == "cases (ID, blur: 3 cases; site: 1 case)"
    assert name_resampled({}) == "cases"  # of an older evaluation


def make_results(name, cases, seed, *, scale):
    rng = np.random.default_rng(seed)
    rows = []
    for case in cases:
        for measure in MEASURES:
            values = dict.fromkeys(("mean", "patch", "threshold", "area"), 0.5)
            score = scale[measure] * rng.uniform(0.5, 1.5)
            rows.append({"set": name, "case": case, "measure": measure, **values, "border": score, "ncc": rng.random()})
    filtered = dict.fromkeys(("filtered_dice", "filtered_tp", "filtered_tn", "filter_score"), np.nan)
    scores = pd.DataFrame(rows).assign(ace=rng.random(len(rows)), **filtered)
    images = pd.DataFrame(
        {
            "set": name,
            "case": cases,
            "dice": 0.5,
            "risk": 0.5,
            "ged_dice": np.nan,
            "AU": 1.0,
            "EU": 1.0,
            "border_length": 9,
        }
    )
    confidence = {}
    for measure in MEASURES:
        count = rng.integers(0, 50, (len(cases), 20))
        confidence[measure] = np.stack([count, count * rng.random(20), rng.binomial(count, 0.7)], axis=1).astype(float)
    return SetResults(name, pd.DataFrame(), images, scores, {}, {}, confidence)


@pytest.fixture
def sets():
    names = [f"case{index}" for index in range(12)]
    return [
        make_results("ID", names, 0, scale={"AU": 1, "EU": 1, "TU": 1}),
        make_results("blur", names[:8], 1, scale={"AU": 1.1, "EU": 1.4, "TU": 1.2}),
        make_results("site", list("uvwxyz"), 2, scale={"AU": 1.2, "EU": 1.3, "TU": 1.2}),
    ]


def test_intervals_are_those_of_repeated_tables(sets):
    convention = PRESETS["entanglement"]
    tasks, _ = compute_tasks(sets, convention, num_samples=0, calibrated=True, raters=True)
    found = entanglement_of_tasks(tasks, resample(sets, convention, seed=3, num_replicates=60))
    weights = case_weights({results.name: results.cases for results in sets}, 60, seed=3)

    def repeated(name, values, replicate):
        return np.repeat(values, weights[name][replicate], axis=0)

    def auroc(measure, replicate):
        known = repeated("ID", sets[0].score(measure, "border"), replicate)
        each = []
        for shift in sets[1:]:
            shifted = repeated(shift.name, shift.score(measure, "border"), replicate)
            truth = [0] * len(known) + [1] * len(shifted)
            each.append(roc_auc_score(truth, np.concatenate([known, shifted])))
        return np.mean(each)

    def ace(results, measure, replicate):
        count, confidence, correct = repeated(results.name, results.confidence[measure], replicate).sum(axis=0)
        filled = count > 0
        return np.abs(correct - confidence)[filled] @ (1 / count[filled]) / filled.sum()

    out_of_distribution, ambiguity, calibration, shifted = [], [], [], []
    for replicate in range(60):
        out_of_distribution.append(metrics.entanglement(auroc("EU", replicate), auroc("AU", replicate)))
        ncc = {
            measure: np.mean([repeated(s.name, s.score(measure, "ncc"), replicate).mean() for s in sets[1:]])
            for measure in MEASURES
        }
        ambiguity.append(metrics.entanglement(ncc["AU"], ncc["EU"]))
        error = {measure: ace(sets[0], measure, replicate) for measure in MEASURES}
        calibration.append(metrics.entanglement(error["TU"], min(error["AU"], error["EU"]), lower_is_better=True))
        errors = [{measure: ace(s, measure, replicate) for measure in MEASURES} for s in sets[1:]]
        wrong = np.mean([min(error["AU"], error["EU"]) for error in errors])
        right = np.mean([error["TU"] for error in errors])
        shifted.append(metrics.entanglement(right, wrong, lower_is_better=True))
    assert found["OODD"]["interval"] == pytest.approx(np.quantile(out_of_distribution, [0.025, 0.975]))
    assert found["AMB"]["OOD"]["interval"] == pytest.approx(np.quantile(ambiguity, [0.025, 0.975]))
    assert found["CAL"]["ID"]["interval"] == pytest.approx(np.quantile(calibration, [0.025, 0.975]))
    assert found["CAL"]["OOD"]["interval"] == pytest.approx(np.quantile(shifted, [0.025, 0.975]))
    assert found["OODD"]["value"] == pytest.approx(metrics.entanglement(tasks["OODD"]["EU"], tasks["OODD"]["AU"]))


def test_numbers_that_do_not_exist(sets):
    convention = PRESETS["values"]
    sets[0].scores.loc[sets[0].scores["measure"] == "EU", ["ncc", "ace"]] = np.nan
    tasks, _ = compute_tasks(sets, convention, num_samples=0, calibrated=True, raters=True)
    found = entanglement_of_tasks(tasks, resample(sets, convention, num_replicates=10))
    assert np.isnan(found["AMB"]["ID"]["value"])
    assert np.isnan(found["CAL"]["ID"]["interval"]).all()
    assert np.isfinite(found["AMB"]["OOD"]["interval"]).all()
    # All patch scores are the same: AUROC is 1/2 for each measure.
    assert found["OODD"] == {"value": 0, "interval": [0, 0]}


PATHS = (("OODD",), ("AMB", "ID"), ("AMB", "OOD"), ("CAL", "ID"), ("CAL", "OOD"))


def intervals(sets, patients=None):
    convention = PRESETS["entanglement"]
    tasks, _ = compute_tasks(sets, convention, num_samples=0, calibrated=True, raters=True)
    found = entanglement_of_tasks(tasks, resample(sets, convention, patients=patients, num_replicates=400))
    return np.array([(found[path[0]] if len(path) == 1 else found[path[0]][path[1]])["interval"] for path in PATHS])


def copied(results, times):
    """Each case as often, with all its numbers."""

    def repeat(table, rows_per_case):
        rows = np.arange(len(table)).reshape(-1, rows_per_case)
        copies = [table.iloc[rows.ravel()].assign(case=table["case"] + f"_{copy}") for copy in range(times)]
        return pd.concat(copies, ignore_index=True)

    confidence = {measure: np.concatenate([bins] * times) for measure, bins in results.confidence.items()}
    images, scores = repeat(results.images, 1), repeat(results.scores, len(MEASURES))
    return replace(results, images=images, scores=scores, confidence=confidence)


def test_copies_of_a_case_are_no_evidence(sets):
    single = intervals(sets)
    copies = [copied(results, 9) for results in sets]
    patients = {case: case.rpartition("_")[0] for results in copies for case in results.cases}
    np.testing.assert_allclose(intervals(copies, patients), single, rtol=0, atol=1e-12)
    # As independent cases their intervals are a third as wide.
    width = np.diff(intervals(copies), axis=1) / np.diff(single, axis=1)
    assert width == pytest.approx(1 / 3, abs=0.12)


def test_one_case_per_patient_is_no_change(sets):
    patients = {case: f"patient of {case}" for results in sets for case in results.cases}
    np.testing.assert_array_equal(intervals(sets, patients), intervals(sets))


def test_one_patient_has_no_interval(sets):
    """Every replicate is the data itself, so that an interval would have no width and look like certainty."""
    convention = PRESETS["entanglement"]
    tasks, _ = compute_tasks(sets, convention, num_samples=0, calibrated=True, raters=True)
    patients = {name: "a" for results in sets for name in results.cases}
    found = entanglement_of_tasks(tasks, resample(sets, convention, patients=patients, num_replicates=50))
    of_two = {**patients, sets[0].cases[0]: "b"}
    assert np.isfinite(found["AMB"]["ID"]["value"])
    assert np.isnan(found["AMB"]["ID"]["interval"]).all()
    assert np.isnan(found["CAL"]["per_image"]["OOD"]["interval"]).all()
    of_two_found = entanglement_of_tasks(tasks, resample(sets, convention, patients=of_two, num_replicates=50))
    assert np.isfinite(of_two_found["AMB"]["ID"]["interval"]).all()
