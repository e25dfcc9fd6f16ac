"""Weights that stand for a resampled set of cases, and intervals against resampling the tables themselves."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from nnunet_stochastic import metrics
from nnunet_stochastic.evaluation.bootstrap import case_weights, entanglement_of_tasks
from nnunet_stochastic.evaluation.conventions import PRESETS
from nnunet_stochastic.evaluation.results import SetResults
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


def make_results(name, cases, seed, *, scale):
    rng = np.random.default_rng(seed)
    rows = []
    for case in cases:
        for measure in MEASURES:
            values = dict.fromkeys(("mean", "patch", "threshold", "area"), 0.5)
            score = scale[measure] * rng.uniform(0.5, 1.5)
            rows.append({"set": name, "case": case, "measure": measure, **values, "border": score, "ncc": rng.random()})
    scores = pd.DataFrame(rows).assign(ace=rng.random(len(rows)))
    images = pd.DataFrame(
        {"set": name, "case": cases, "dice": 0.5, "risk": 0.5, "ged_dice": np.nan, "AU": 1.0, "EU": 1.0}
    )
    confidence = {}
    for measure in MEASURES:
        count = rng.integers(0, 50, (len(cases), 20))
        confidence[measure] = np.stack([count, count * rng.random(20), rng.binomial(count, 0.7)], axis=1).astype(float)
    return SetResults(name, pd.DataFrame(), images, scores, pd.DataFrame(index=cases), pd.DataFrame(), {}, confidence)


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
    found = entanglement_of_tasks(tasks, sets, convention, seed=3, num_replicates=60)
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
    found = entanglement_of_tasks(tasks, sets, convention, num_replicates=10)
    assert np.isnan(found["AMB"]["ID"]["value"])
    assert np.isnan(found["CAL"]["ID"]["interval"]).all()
    assert np.isfinite(found["AMB"]["OOD"]["interval"]).all()
    # All patch scores are the same: AUROC is 1/2 for each measure.
    assert found["OODD"] == {"value": 0, "interval": [0, 0]}
