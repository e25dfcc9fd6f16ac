"""Existence probabilities against the rate that lesions were drawn with, and where there is nothing to go by."""

import json

import numpy as np
import pytest

from nnunet_stochastic.decisions.existence import ExistenceCalibration


def test_recovers_the_rate_that_lesions_exist_with():
    rng = np.random.default_rng(0)
    shares = [rng.random(rng.integers(0, 6)) for _ in range(400)]
    matched = [rng.random((3, len(share))) < 1 / (1 + np.exp(4 - 6 * share)) for share in shares]
    fit = ExistenceCalibration.fit(shares, matched, [str(i // 2) for i in range(400)])
    assert fit.num_lesions == sum(map(len, shares))
    assert fit.num_cases == sum(1 for share in shares if len(share))
    for share in (0.1, 0.5, 0.9):
        assert fit.probability(share) == pytest.approx(1 / (1 + np.exp(4 - 6 * share)), abs=0.04)
    assert (np.diff([fit.probability(share) for share in np.linspace(0, 1, 30)]) > 0).all()
    order = rng.permutation(400)
    again = ExistenceCalibration.fit([shares[i] for i in order], [matched[i] for i in order], ["p"] * 400)
    assert again.probability(0.3) == pytest.approx(fit.probability(0.3), abs=1e-9)
    assert ExistenceCalibration.model_validate(json.loads(json.dumps(fit.model_dump(mode="json")))) == fit


@pytest.mark.parametrize(
    ("shares", "matched", "expected"),
    [
        ([0.5, 0.5, 0.5], [[True, True, False]], 3 / 5),
        ([1.0], [[True]], 2 / 3),
        ([0.1, 0.9], [[True, False]], 1 / 2),  # the wrong way round
        ([0.9, 1.0], [[False, False]], 1 / 4),
    ],
)
def test_shares_that_tell_nothing(shares, matched, expected):
    fit = ExistenceCalibration.fit([np.array(shares)], [np.array(matched)], ["p"])
    if fit.a == 0:
        assert fit.probability(0.2) == pytest.approx(expected) == fit.probability(0.8)
    else:
        assert fit.probability(0.95) == pytest.approx(expected, abs=0.1)
        assert fit.probability(0.2) <= fit.probability(0.8)


def test_bad_input():
    with pytest.raises(ValueError, match="no validation case has a lesion"):
        ExistenceCalibration.fit([np.zeros(0)], [np.zeros((2, 0), bool)], ["p"])
    with pytest.raises(ValueError, match=r"matched must be boolean \(A, 2\)"):
        ExistenceCalibration.fit([np.zeros(2)], [np.zeros((2, 3), bool)], ["p"])
    with pytest.raises(ValueError, match="share of the samples"):
        ExistenceCalibration.fit([np.array([2.0])], [np.zeros((1, 1), bool)], ["p"])
    with pytest.raises(ValueError, match="share of the samples"):
        ExistenceCalibration(a=-1.0, b=0.0, num_lesions=1, num_cases=1, num_patients=1).probability(1.5)
