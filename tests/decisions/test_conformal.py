"""Conformal quantiles against every rank of a new score, and coverage of the intervals by simulation."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom

from nnunet_stochastic.decisions.conformal import (
    LEVELS,
    DiceBounds,
    VolumeIntervals,
    conformal_quantile,
    draw_cases,
    draw_rater,
    least_number,
)


@pytest.mark.parametrize("level", [*LEVELS, 0.5, 2 / 3])
@pytest.mark.parametrize("n", [0, 1, 3, 4, 8, 9, 18, 19, 20, 39])
def test_coverage_is_exact_over_every_rank_of_the_new_score(n, level):
    """n + 1 exchangeable scores: the new one is each of them with the same probability."""
    scores = np.arange(n + 1.0)
    covered = sum(new <= conformal_quantile(np.delete(scores, int(new)), level) for new in scores)
    wanted = Fraction(level).limit_denominator(1000)
    assert Fraction(int(covered), n + 1) >= wanted
    assert Fraction(int(covered) - 1, n + 1) < wanted


@pytest.mark.parametrize(("level", "least"), [(0.8, 4), (0.9, 9), (0.95, 19), (0.5, 1), (0.99, 99)])
def test_too_few_are_infinite(level, least):
    assert least_number(level) == least
    assert conformal_quantile(np.arange(least - 1.0), level) == math.inf
    assert conformal_quantile(np.arange(float(least)), level) == least - 1


def test_the_draw_knows_no_order_and_gives_each_patient_one_case():
    cases = [(f"case{i}", f"patient{i % 7}") for i in range(30)]
    drawn = draw_cases(cases, seed=3)
    assert drawn == draw_cases(cases[::-1], seed=3) != draw_cases(cases, seed=4)
    assert [dict(cases)[name] for name in drawn] == [f"patient{i}" for i in range(7)]
    # Each case of a patient, and each rater of a case, as often as the others.
    counts = np.zeros((2, 4))
    for seed in range(400):
        counts[0, int(draw_cases([(str(i), "p") for i in range(4)], seed=seed)[0])] += 1
        counts[1, draw_rater("case", 4, seed=seed)] += 1
    assert (np.abs(counts - 100) < 4 * np.sqrt(400 * 3 / 16)).all()


def hierarchical(rng, num_patients):
    """Patients of 1 to 4 cases of 3 raters: errors have parts of the patient, the case and the rater."""
    table = []
    for patient in range(num_patients):
        of_patient = rng.normal()
        for case in range(rng.integers(1, 5)):
            size, spread = rng.gamma(4, 5), rng.gamma(2, 0.5) + 0.1
            raters = size + spread * (of_patient + rng.normal() + 0.7 * rng.normal(size=3))
            table.append((f"{patient}_{case}", str(patient), size, spread, np.maximum(raters, 0)))
    return table


@pytest.mark.parametrize(("num_patients", "has_samples"), [(24, True), (20, False)])
def test_coverage_with_patients_and_raters(num_patients, has_samples):
    """Of a rater drawn for a case drawn of a new patient, over many validation sets."""
    rng = np.random.default_rng(0)
    covered, trials = dict.fromkeys(LEVELS, 0), 400
    for seed in range(trials):
        table = hierarchical(rng, num_patients + 1)
        by_name = {row[0]: row for row in table}
        drawn = [by_name[name] for name in draw_cases([row[:2] for row in table], seed=seed)]
        new = drawn.pop(rng.integers(len(drawn)))
        volume = np.array([row[4][draw_rater(row[0], 3, seed=seed)] for row in drawn])
        expected, spread = (np.array([row[k] for row in drawn]) for k in (2, 3))
        intervals = VolumeIntervals.fit(volume, expected, spread if has_samples else None)
        true = new[4][draw_rater(new[0], 3, seed=seed)]
        for level in LEVELS:
            low, high = intervals.interval(level, new[2], new[3] if has_samples else None)
            covered[level] += low <= true <= high
    for level in LEVELS:
        exact = math.ceil((num_patients + 1) * level - 1e-9) / (num_patients + 1)
        low, high = binom.interval(0.999, trials, exact)
        assert low <= covered[level] <= high, (level, covered[level] / trials, exact)


def test_interval_by_hand():
    volume, expected = np.array([12.0, 9, 10, 14]), np.array([10.0, 10, 10, 10])
    intervals = VolumeIntervals.fit(volume, expected, np.array([1.0, 1, 3, 0]), num_cases=6)
    # σ₀ = 1: scores 2/2, 1/2, 0/4, 4/1; at 80 % the ceil(5 · 0.8) = 4th of them.
    assert intervals.least_spread_ml == 1
    assert intervals.interval(0.8, 20, 1.5) == (10, 30)
    assert intervals.interval(0.8, 3, 1.5) == (0, 13)
    assert intervals.interval(0.9, 20, 1.5) == (0, math.inf)
    assert (intervals.num_patients, intervals.num_cases) == (4, 6)
    without = VolumeIntervals.fit(volume, expected, None)
    assert without.interval(0.8, 20, None) == (16, 24) == without.interval(0.8, 20, 5)
    with pytest.raises(ValueError, match="predict with as many samples"):
        intervals.interval(0.8, 20, None)


def test_spreads_that_are_mostly_or_all_zero():
    volume, expected = np.array([12.0, 9, 10, 14]), np.full(4, 10.0)
    mostly = VolumeIntervals.fit(volume, expected, np.array([0.0, 0, 0, 4]))
    assert mostly.least_spread_ml == 1
    assert mostly.interval(0.8, 10, 0) == (8, 12)
    constant = VolumeIntervals.fit(volume, expected, np.zeros(4))
    assert constant == VolumeIntervals.fit(volume, expected, None)


def test_lower_bound_of_the_dice():
    bounds = DiceBounds.fit(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.8, 0.9, 0.4, 0.6]), levels=[0.8, 0.9])
    assert bounds.lower(0.8, 0.95) == pytest.approx(0.65)
    assert bounds.lower(0.8, 0.1) == 0 == bounds.lower(0.9, 0.95)
    rng, trials, n = np.random.default_rng(1), 1000, 19
    covered = 0
    for _ in range(trials):
        predicted = rng.uniform(0.3, 0.9, n + 1)
        true = np.clip(predicted + rng.normal(0, 0.1, n + 1), 0, 1)
        covered += DiceBounds.fit(predicted[:-1], true[:-1]).lower(0.9, predicted[-1]) <= true[-1]
    low, high = binom.interval(0.999, trials, 18 / 20)
    assert low <= covered <= high


def test_stored_as_plain_json():
    rng = np.random.default_rng(2)
    intervals = VolumeIntervals.fit(*rng.random((3, 12)))
    again = VolumeIntervals.model_validate(json.loads(json.dumps(intervals.model_dump(mode="json"), allow_nan=False)))
    assert again == intervals
    assert again.interval(0.9, 0.3, 0.2) == intervals.interval(0.9, 0.3, 0.2)
    assert again.interval(0.95, 0.3, 0.2) == (0, math.inf)


def test_invariant_to_order():
    rng = np.random.default_rng(3)
    values, order = rng.random((3, 21)), rng.permutation(21)
    assert VolumeIntervals.fit(*values) == VolumeIntervals.fit(*values[:, order])


def test_nothing_and_bad_input():
    nothing = VolumeIntervals.fit(np.zeros(0), np.zeros(0), None)
    assert nothing.interval(0.8, 1, None) == (0, math.inf)
    with pytest.raises(ValueError, match="without NaN"):
        conformal_quantile(np.array([1, np.nan]), 0.9)
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\)"):
        conformal_quantile(np.zeros(3), 90)
    with pytest.raises(ValueError, match="same length"):
        VolumeIntervals.fit(np.zeros(2), np.zeros(3), None)
    with pytest.raises(ValueError, match="not negative"):
        VolumeIntervals.fit(np.zeros(2), np.array([1.0, -1]), None)
    with pytest.raises(ValueError, match=r"level must be one of 0.8, 0.9, 0.95, got 0.7"):
        nothing.interval(0.7, 1, None)
    with pytest.raises(ValueError, match="num_raters"):
        draw_rater("case", 0, seed=0)
