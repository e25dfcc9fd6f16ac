"""Risk-coverage curves against literal tables and every order of tied cases, and their identities."""

from itertools import chain, permutations, product

import numpy as np
import pytest

from nnunet_stochastic.metrics import augrc, aurc, auroc, excess_aurc, risk_coverage_curve


@pytest.mark.parametrize(
    ("risk", "confidence", "curve", "excess"),
    [
        ([0.1, 0.2, 0.6], [3, 2, 1], [0.1, 0.15, 0.3], 0),
        ([0.1, 0.2, 0.6], [1, 2, 3], [0.6, 0.4, 0.3], (0.5 + 0.25) / 3),
        ([0.1, 0.2, 0.6], [5, 5, 5], [0.3, 0.3, 0.3], (0.2 + 0.15) / 3),
        # 0.2 first, then 0 and 0.6 at once: the second is 0.3 on average.
        ([0.0, 0.2, 0.6], [1, 2, 1], [0.2, 0.25, 0.8 / 3], (0.2 + 0.15) / 3),
    ],
)
def test_literal_tables(risk, confidence, curve, excess):
    coverage, selective_risk = risk_coverage_curve(np.array(risk), np.array(confidence))
    np.testing.assert_allclose(coverage, [1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(selective_risk, curve)
    assert aurc(np.array(risk), np.array(confidence)) == pytest.approx(np.mean(curve))
    assert excess_aurc(np.array(risk), np.array(confidence)) == pytest.approx(excess, abs=1e-12)


def test_ties_are_the_mean_over_every_order():
    rng = np.random.default_rng(0)
    risk, confidence = rng.random(6), np.array([2, 1, 1, 1, 0, 0])
    sizes = np.arange(1, 7)
    orders = [
        list(chain(*order)) for order in product(permutations([0]), permutations([1, 2, 3]), permutations([4, 5]))
    ]
    expected = np.mean([np.cumsum(risk[order]) / sizes for order in orders], axis=0)
    np.testing.assert_allclose(risk_coverage_curve(risk, confidence)[1], expected)
    shuffled = rng.permutation(6)
    np.testing.assert_allclose(risk_coverage_curve(risk[shuffled], confidence[shuffled])[1], expected)


def test_bounds():
    rng = np.random.default_rng(1)
    risk, confidence = rng.random(50), rng.random(50)
    assert excess_aurc(risk, -risk) == pytest.approx(0, abs=1e-15)
    assert 0 < excess_aurc(risk, confidence) < excess_aurc(risk, risk)
    assert aurc(risk, np.zeros(50)) == pytest.approx(risk.mean())
    assert aurc(risk, np.exp(confidence)) == aurc(risk, confidence)


@pytest.mark.parametrize(
    ("risk", "confidence", "expected"),
    [
        # Areas of trapezoids below 0, 0.1/3, 0.3/3, 0.9/3, a third wide each.
        ([0.1, 0.2, 0.6], [3, 2, 1], (0.1 / 2 + (0.1 + 0.3) / 2 + (0.3 + 0.9) / 2) / 9),
        ([0.1, 0.2, 0.6], [1, 2, 3], (0.6 / 2 + (0.6 + 0.8) / 2 + (0.8 + 0.9) / 2) / 9),
        ([0.1, 0.2, 0.6], [5, 5, 5], 0.15),
        ([0.0, 0.0], [1, 2], 0.0),
        ([1.0], [0], 0.5),
        ([0.1, np.nan, 0.5], [2.0, np.nan, 1.0], (0.05 + 0.35) / 4),
    ],
)
def test_generalized_risk_literal_tables(risk, confidence, expected):
    assert augrc(np.array(risk), np.array(confidence)) == pytest.approx(expected)


@pytest.mark.parametrize("levels", [1000, 4, 1])
def test_generalized_risk_of_failures_follows_from_their_auroc(levels):
    """The closed form of Traub et al., ties included, and the mean risk of the longer kept of two cases."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        risk, confidence = (rng.random(30) < 0.4).astype(float), rng.integers(0, levels, 30)
        right = np.mean(risk == 0)
        of_failures = auroc(-confidence[risk == 0], -confidence[risk == 1])
        expected = (1 - of_failures) * right * (1 - right) + (1 - right) ** 2 / 2
        assert augrc(risk, confidence) == pytest.approx(expected)
    risk = rng.random(30)
    longer = np.sign(confidence[:, None] - confidence) / 2 + 0.5
    assert augrc(risk, confidence) == pytest.approx(np.mean(longer * risk[:, None]))


def test_cases_without_a_risk_are_left_out():
    risk, confidence = np.array([0.1, np.nan, 0.5]), np.array([1.0, np.nan, 2.0])
    coverage, selective_risk = risk_coverage_curve(risk, confidence)
    np.testing.assert_allclose(coverage, [0.5, 1])
    np.testing.assert_allclose(selective_risk, [0.5, 0.3])
    assert excess_aurc(risk, confidence) == pytest.approx((0.5 - 0.1) / 2)


def test_no_cases():
    nothing = np.zeros(0)
    assert [len(part) for part in risk_coverage_curve(nothing, nothing)] == [0, 0]
    assert np.isnan(aurc(nothing, nothing))
    assert np.isnan(augrc(nothing, nothing))
    assert np.isnan(excess_aurc(np.array([np.nan]), np.array([1.0])))


def test_bad_input():
    with pytest.raises(ValueError, match="same length"):
        aurc(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="NaN for 1 of 2 cases"):
        aurc(np.zeros(2), np.array([1, np.nan]))
