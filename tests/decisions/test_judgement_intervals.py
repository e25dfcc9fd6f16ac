"""Intervals of a judgement: those of the judgements of cases that are written out as often as each replicate draws."""

from dataclasses import replace

import numpy as np
import pytest

from nnunet_stochastic.decisions.fitting import fit_decisions
from nnunet_stochastic.decisions.judgement import judge
from nnunet_stochastic.decisions.statistics import LesionStatistics
from tests.decisions.simulated import CLASSES, simulated_cases

NUM_REPLICATES = 25


@pytest.fixture(scope="module")
def fitted():
    return fit_decisions(simulated_cases(0, 12), labels=CLASSES)


@pytest.fixture(scope="module")
def cases():
    """With lesions of many shares, some of them of no reference, and a case without any."""
    rng = np.random.default_rng(3)
    found = []
    for number, case in enumerate(simulated_cases(1, 7)):
        lesions = 0 if number == 2 else rng.integers(1, 6)
        shares, matched = rng.integers(1, 9, lesions) / 8, rng.random((3, lesions)) < 0.5
        num_reference = matched.sum(axis=1) + rng.integers(0, 3, 3)
        of_case = LesionStatistics(np.sort(shares)[::-1], matched, num_reference, shares < 0.4)
        found.append(replace(case, lesions={"tumour": of_case}))
    return found


@pytest.fixture(scope="module")
def weights(cases):
    """Patients with all their cases; one replicate draws a single patient."""
    patients = sorted({case.patient for case in cases})
    drawn = np.random.default_rng(2).multinomial(7, [1 / 7] * 7, size=NUM_REPLICATES)
    drawn[0] = [7, 0, 0, 0, 0, 0, 0]
    return {case.case: drawn[:, patients.index(case.patient)] for case in cases}


def written_out(cases, weights, replicate):
    """Copies of a case are cases, with the patients of their own that they would be if drawn."""
    return [
        replace(case, case=f"{case.case}_{copy}", patient=f"{case.patient}_{copy}")
        for case in cases
        for copy in range(weights[case.case][replicate])
    ]


def number(judged, path):
    found = judged["structures"]["tumour"]
    for key in path:
        found = None if found is None else found[key]
    return np.nan if found is None else found


def intervals_in(tree, path=()):
    """Place of each number that has an interval, and the interval."""
    for key, value in tree.items():
        if key == "intervals":
            yield from ((path + place, ends) for place, ends in leaves(value))
        elif isinstance(value, dict):
            yield from intervals_in(value, (*path, key))


def leaves(tree, path=()):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def test_intervals_are_those_of_repeated_cases(fitted, cases, weights):
    judged = judge(fitted, cases, weights=weights)
    found = dict(intervals_in(judged["structures"]["tumour"]))
    assert {
        ("dice", "aurc"),
        ("dice", "rank_correlation"),
        ("dice", "baselines", "pairwise_dice", "rank_correlation"),
        ("lesions", "segmentation", "sensitivity"),
        ("lesions", "sensitivity_at", "0.5"),
        ("lesions", "existence_calibration_error"),
        ("volume", "0.8", "median_width_ml"),
        ("raters", "ratio"),
        ("raters", "coverage", "0.8", "share_all_inside"),
    } <= found.keys()
    replicates = [judge(fitted, written_out(cases, weights, index)) for index in range(NUM_REPLICATES)]
    known = 0
    for path, ends in found.items():
        values = np.array([number(each, path) for each in replicates], dtype=float)
        values = values[np.isfinite(values)]
        if ends is None:
            assert not values.size or np.ptp(values) < 1e-12
            continue
        known += 1
        np.testing.assert_allclose(ends, np.quantile(values, [0.025, 0.975]), rtol=1e-9, err_msg="/".join(path))
    assert known > 30


def test_without_weights_a_judgement_is_the_same_but_for_the_intervals(fitted, cases, weights):
    def without(tree):
        if not isinstance(tree, dict):
            return tree
        return {key: without(value) for key, value in tree.items() if key != "intervals"}

    alone = judge(fitted, cases)
    assert not list(intervals_in(alone))
    assert without(judge(fitted, cases, weights=weights)) == alone


def test_one_patient_has_no_interval(fitted, cases):
    of_one = [replace(case, patient="one") for case in cases]
    judged = judge(fitted, of_one, weights={case.case: np.ones(9, dtype=int) for case in cases})
    found = dict(intervals_in(judged["structures"]["tumour"]))
    assert len(found) > 25
    assert set(found.values()) == {None}
