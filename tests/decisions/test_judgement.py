"""Judgements against numbers by hand and other implementations, and decisions that hold on cases of the same kind."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import binomtest, spearmanr

from nnunet_stochastic.decisions.coverage import binomial_interval
from nnunet_stochastic.decisions.experiment import split_experiment
from nnunet_stochastic.decisions.fitting import fit_decisions
from nnunet_stochastic.decisions.judged_lesions import froc
from nnunet_stochastic.decisions.judgement import flattened, judge
from nnunet_stochastic.decisions.risk_control import GRID
from nnunet_stochastic.decisions.statistics import LesionStatistics
from nnunet_stochastic.metrics import aurc
from tests.decisions.simulated import CLASSES, simulated_cases


@pytest.fixture(scope="module")
def fitted():
    return fit_decisions(simulated_cases(0, 30), labels=CLASSES)


@pytest.fixture(scope="module")
def tests():
    return simulated_cases(1, 40)


def by_patient(values, cases):
    patients = sorted({case.patient for case in cases})
    return np.mean([np.mean([v for v, c in zip(values, cases, strict=True) if c.patient == p]) for p in patients])


def test_coverage_risk_and_errors_are_those_of_the_cases(fitted, tests):
    judged = judge(fitted, tests)
    assert (judged["num_cases"], judged["num_patients"]) == (60, 40)
    found = judged["structures"]["tumour"]
    structures = [case.structures["tumour"] for case in tests]
    assessed = [fitted.assess(each.row) for each in structures]
    for level in (0.8, 0.9, 0.95):
        bounds = [each.intervals_ml[level] for each in assessed]
        inside = [
            np.mean([low <= v <= high for v in s.reference_ml])
            for (low, high), s in zip(bounds, structures, strict=True)
        ]
        entry = found["volume"][f"{level:g}"]
        assert entry["coverage"] == pytest.approx(by_patient(inside, tests))
        assert entry["mean_width_ml"] == pytest.approx(np.mean([high - low for low, high in bounds]))
        assert (entry["num_patients"], entry["share_infinite"]) == (40, 0)
        assert entry["interval"][0] < entry["coverage"] < entry["interval"][1]
    for alpha in (0.05, 0.2):
        threshold = fitted.structures["tumour"].masks.at(alpha)
        place = list(GRID).index(threshold.outer)
        outer = [each.outer_loss[place] for each in structures]
        assert found["masks"][f"{alpha:g}"]["outer"]["risk"] == pytest.approx(by_patient(outer, tests))
        place = list(GRID).index(threshold.inner)
        inner = [each.inner_loss[place] for each in structures]
        assert found["masks"][f"{alpha:g}"]["inner"]["risk"] == pytest.approx(by_patient(inner, tests))
    true = np.array([each.mean_dice for each in structures])
    predicted = np.array([each.predicted_dice for each in assessed])
    assert found["dice"]["mae"] == pytest.approx(np.abs(predicted - true).mean())
    assert found["dice"]["rank_correlation"] == pytest.approx(spearmanr(predicted, true).statistic)
    scores = {
        "pairwise_dice": [each.row.pairwise_dice_samples for each in structures],
        "mean_entropy": [-case.image_scores["TU_mean"] for case in tests],
        "border_EU": [-each.row.border["EU"] for each in structures],
        "volume": [each.row.volume_ml for each in structures],
    }
    assert found["dice"]["baselines"].keys() == scores.keys()
    for name, entry in found["dice"]["baselines"].items():
        assert entry["rank_correlation"] == pytest.approx(spearmanr(scores[name], true).statistic)
        assert entry["aurc"] == pytest.approx(aurc(1 - true, np.array(scores[name])))
    given = [each.reference_ml for each in structures]
    ratio = np.sqrt(np.mean([each.row.sample_sd_ml**2 for each in structures]) / np.mean(np.var(given, axis=1, ddof=1)))
    assert found["raters"]["ratio"] == pytest.approx(ratio)
    assert found["lesions"]["sensitivity_at"]["0.5"] == 1
    shuffled = [tests[i] for i in np.random.default_rng(0).permutation(len(tests))]
    assert flattened(judge(fitted, shuffled)) == flattened(judged)


def test_binomial_interval():
    for hits, trials in ((0, 10), (7, 10), (10, 10), (190, 200)):
        expected = binomtest(hits, trials).proportion_ci(0.95, "exact")
        assert binomial_interval(hits / trials, trials) == pytest.approx((expected.low, expected.high))


def test_froc_by_hand():
    """Two cases of two raters; shares 1, 0.6 and 0.2."""
    lesions = [
        LesionStatistics(
            np.array([1.0, 0.6]), np.array([[True, False], [True, True]]), np.array([2, 2]), np.array([False, True])
        ),
        LesionStatistics(np.array([0.2]), np.array([[True], [False]]), np.array([1, 0]), np.array([True])),
    ]
    assert froc(lesions) == [
        {"share": 1.0, "sensitivity": 2 / 5, "false_per_case": 0.0},
        {"share": 0.6, "sensitivity": 3 / 5, "false_per_case": 0.5 / 2},
        {"share": 0.2, "sensitivity": 4 / 5, "false_per_case": 1 / 2},
    ]
    assert froc([]) == []


def test_what_was_not_fitted_is_not_judged(tests):
    one = fit_decisions([dataclasses.replace(case, patient="only") for case in tests[:3]], labels=CLASSES)
    found = judge(one, tests)["structures"]["tumour"]
    assert found["dice"] is None
    assert found["volume"]["0.9"]["coverage"] == 1
    assert found["volume"]["0.9"]["share_infinite"] == 1
    assert found["volume"]["0.9"]["mean_width_ml"] is None
    assert found["masks"]["0.1"]["outer"]["risk"] == 0
    assert judge(one, [])["structures"]["tumour"]["volume"] is None


def test_a_case_without_what_the_fit_rests_on_is_named(fitted, tests):
    structure = tests[0].structures["tumour"]
    structure = dataclasses.replace(structure, row=dataclasses.replace(structure.row, sample_sd_ml=None))
    with pytest.raises(ValueError, match="case0_0: tumour: the intervals were fitted"):
        judge(fitted, [dataclasses.replace(tests[0], structures={"tumour": structure})])
    with pytest.raises(ValueError, match="no statistics of tumour"):
        judge(fitted, [dataclasses.replace(tests[0], structures={})])


def test_divisions_of_the_patients():
    cases = simulated_cases(2, 40)
    found = split_experiment(cases, labels=CLASSES, num_splits=12, alphas=[0.1], seed=1)
    assert (found["num_validation_patients"], found["num_test_patients"], found["num_cases"]) == (20, 20, 60)
    results = found["results"]
    for level in (0.8, 0.9, 0.95):
        entry = results[f"tumour/volume/{level:g}/coverage"]
        exact = math.ceil(21 * level - 1e-9) / 21
        assert entry["num_splits"] == 12
        assert entry["mean"] == pytest.approx(exact, abs=3 * entry["sd"] / np.sqrt(12) + 0.02)
    for which in ("outer", "inner"):
        entry = results[f"tumour/masks/0.1/{which}/risk"]
        assert 0.02 < entry["mean"] <= 0.1 + 3 * entry["sd"] / np.sqrt(12)
    assert results["tumour/dice/mae"]["mean"] < 0.15
    assert results["tumour/dice/rank_correlation"]["mean"] > 0.2
    shuffled = [cases[i] for i in np.random.default_rng(0).permutation(len(cases))]
    again = split_experiment(shuffled, labels=CLASSES, num_splits=2, alphas=[0.1], seed=1)
    assert again == split_experiment(cases, labels=CLASSES, num_splits=2, alphas=[0.1], seed=1)
    with pytest.raises(ValueError, match="at least 2 patients"):
        split_experiment(cases[:1], labels=CLASSES)
    with pytest.raises(ValueError, match="num_splits"):
        split_experiment(cases, labels=CLASSES, num_splits=0)
