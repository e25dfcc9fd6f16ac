"""Percentiles by hand, and how often a new image of the same kind has a small p-value."""

import json

import numpy as np
import pytest

from nnunet_stochastic.decisions.reference_scores import ReferenceScores


def test_percentiles_by_hand():
    """Two patients: one of three cases, one of one."""
    reference = ReferenceScores.fit([3.0, 1.0, 2.0, 2.0], ["a", "a", "a", "b"])
    for score, percentile, p_value in (
        (0, 0, 1),
        (1, 100 / 12, 1),
        (2, 100 * (1 / 6 + (1 / 6 + 1 / 2) / 2), (1 + 2 * 5 / 6) / 3),
        (2.5, 100 * 5 / 6, (1 + 2 / 6) / 3),
        (9, 100, 1 / 3),
    ):
        assert reference.percentile(score) == pytest.approx(percentile)
        assert reference.p_value(score) == pytest.approx(p_value)
    assert ReferenceScores.fit([2.0, 2.0, 1.0, 3.0], ["b", "a", "a", "a"]) == reference
    assert ReferenceScores.model_validate(json.loads(json.dumps(reference.model_dump(mode="json")))) == reference


def test_small_p_values_are_as_rare_as_they_say():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(600):
        number = rng.integers(1, 4, 20)
        level = rng.normal(size=20)
        scores = np.repeat(level, number) + 0.5 * rng.normal(size=number.sum())
        reference = ReferenceScores.fit(scores[number[0] :], np.repeat(np.arange(20), number)[number[0] :].astype(str))
        found.append(reference.p_value(scores[0]))
    for alpha in (0.1, 0.3):
        assert np.mean(np.array(found) <= alpha) <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / 600)
    assert np.mean(np.array(found) <= 0.3) > 0.2


def test_bad_input():
    with pytest.raises(ValueError, match="finite scores"):
        ReferenceScores.fit([], [])
    with pytest.raises(ValueError, match="finite scores"):
        ReferenceScores.fit([np.nan], ["a"])
    with pytest.raises(ValueError, match="must be finite"):
        ReferenceScores.fit([1.0], ["a"]).percentile(np.inf)
    with pytest.raises(ValueError, match="must ascend"):
        ReferenceScores(scores=[2.0, 1.0], weights=[0.5, 0.5], num_patients=2)


@pytest.mark.parametrize("number", range(1, 60))
def test_above_all_is_the_hundredth_percentile_whatever_the_rounding(number):
    scores = ReferenceScores.fit(list(range(number)), [str(i) for i in range(number)])
    assert scores.percentile(number) == 100
    assert scores.percentile(-1) == 0
