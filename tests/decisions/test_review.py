"""The order of review, its reasons and its worth by hand; which case is labelled next."""

import math

import numpy as np
import pytest

from nnunet_stochastic.decisions.decisions import AssessedStructure
from nnunet_stochastic.decisions.fitting import fit_decisions
from nnunet_stochastic.decisions.review import CaseToReview, labelling_features, next_to_label, review
from nnunet_stochastic.decisions.structures import StructureRow
from tests.decisions.simulated import CLASSES, simulated_cases


def structure(name, dice, bound=None):
    at_least = {} if bound is None else {0.8: bound + 0.1, 0.9: bound, 0.95: bound - 0.1}
    return AssessedStructure(name, {}, dice, at_least, 1 - dice)


CASES = [
    CaseToReview("a", [structure("liver", 0.95), structure("pancreas", 0.8)], {"EU_border": 40.0}),
    CaseToReview("b", [structure("liver", 0.9), structure("pancreas", 0.61, 0.43)], {"EU_border": 99.2, "TU_mean": 97}),
    CaseToReview("c", [AssessedStructure("liver", {}, None, {}, 0.97), structure("pancreas", 0.5)], {"AU_mean": 100.0}),
    CaseToReview("d", [AssessedStructure("liver", {}, None, {}, None)], {"EU_mean": 94.9}),
    CaseToReview("e", [structure("liver", 0.8)], {"EU_mean": 50.0}),
]


def test_order_reasons_and_worth():
    rows = review(CASES)
    assert [(row.place, row.case, row.structure) for row in rows] == [
        (1, "c", "liver"),
        (2, "b", "pancreas"),
        (3, "e", "liver"),
        (4, "a", "pancreas"),
        (5, "d", None),
    ]
    assert [row.reason for row in rows] == [
        "liver: not segmented, there with probability 0.97; image unlike the validation images, AU above all of theirs",
        "pancreas: predicted Dice 0.61, at least 0.43; image unlike the validation images, EU at their 99th percentile",
        "liver: predicted Dice 0.80",
        "pancreas: predicted Dice 0.80",
        "no predicted Dice",
    ]
    np.testing.assert_allclose([row.removed for row in rows], np.cumsum([0.97, 0.39, 0.2, 0.2, 0]) / 1.76)
    assert review(CASES[::-1]) == rows
    assert (rows[1].dice_at_least, rows[1].percentile, rows[1].score) == (0.43, 99.2, "EU_border")


def test_nothing_to_remove_and_nothing_known():
    assert review([]) == []
    perfect = review([CaseToReview("a", [structure("liver", 1.0)], {})])
    assert (perfect[0].removed, perfect[0].percentile) == (None, None)
    unknown = [CaseToReview(name, [], {"EU_mean": value}) for name, value in (("a", 1.0), ("b", 9.0))]
    assert [row.case for row in review(unknown)] == ["b", "a"]


def test_of_fitted_decisions():
    decisions = fit_decisions(simulated_cases(0, 24), labels=CLASSES)
    new = simulated_cases(1, 8)
    cases = [CaseToReview.of(case.case, [case.structures["tumour"].row], case.image_scores, decisions) for case in new]
    rows = review(cases)
    assert [row.expected_loss for row in rows] == sorted((row.expected_loss for row in rows), reverse=True)
    assert rows[-1].removed == pytest.approx(1)
    true = {case.case: case.structures["tumour"].mean_dice for case in new}
    assert np.mean([true[row.case] for row in rows[:4]]) < np.mean([true[row.case] for row in rows[-4:]])
    row = StructureRow("liver", 1, 1.0)
    with pytest.raises(ValueError, match="case7: liver: the calibration has no such structure"):
        CaseToReview.of("case7", [row], {}, decisions)
    with pytest.raises(ValueError, match="case7: the score of an image must be finite"):
        CaseToReview.of("case7", [], {"EU_mean": math.nan}, decisions)


@pytest.mark.parametrize(("num_patients", "said"), [(18, False), (19, True)])
def test_an_image_is_unlike_those_of_enough_patients(num_patients, said):
    """Of K patients' images a new one that is like them lies above all with probability 1 / (K + 1)."""
    decisions = fit_decisions(simulated_cases(0, num_patients), labels=CLASSES)
    case = simulated_cases(1, 1)[0]
    found = CaseToReview.of("a", [case.structures["tumour"].row], {"AU_mean": 1e6}, decisions)
    (row,) = review([found])
    assert (row.percentile, row.score) == (100, "AU_mean")
    assert ("image unlike the validation images, AU above all of theirs" in row.reason) is said


def test_next_to_label_by_hand():
    """On a line: the most uncertain first, then far from it before near it, however uncertain."""
    features = {"a": [0.0], "b": [0.1], "c": [10.0], "d": [9.0]}
    uncertainty = {"a": 4.0, "b": 3.0, "c": 1.0, "d": 2.0}
    assert next_to_label(uncertainty, features) == ["a", "d", "c", "b"]
    # a is labelled: 0.75 · 0.1, 0.25 · 10 and 0.5 · 9, where shares are now of three cases.
    rest = {name: uncertainty[name] for name in "bcd"}
    assert next_to_label(rest, {name: features[name] for name in "bcd"}, labelled=[[0.0]])[0] == "d"
    same = {name: [1.0, 2.0] for name in "abcd"}
    assert next_to_label(uncertainty, same) == ["a", "b", "d", "c"]
    assert next_to_label({}, {}) == []


def test_next_to_label_against_a_search():
    rng = np.random.default_rng(0)
    names = [f"case{i:02}" for i in range(12)]
    points = rng.normal(size=(12, 3)) * [1, 10, 100]
    values = rng.random(12)
    order = next_to_label(dict(zip(names, values, strict=True)), dict(zip(names, points.tolist(), strict=True)))
    z = (points - points.mean(axis=0)) / points.std(axis=0)
    weight = np.array([(values <= value).mean() for value in values])
    chosen = [int(np.argmax(weight))]
    while len(chosen) < 12:
        gains = [
            -math.inf if i in chosen else weight[i] * min(np.linalg.norm(z[i] - z[j]) for j in chosen)
            for i in range(12)
        ]
        chosen.append(int(np.argmax(gains)))
    assert order == [names[i] for i in chosen]


def test_features_and_bad_input():
    rows = [StructureRow("a", 9, 1.0), StructureRow("b", 0, 0.0)]
    assert labelling_features(rows, {"EU": math.e, "AU": 1.0}) == pytest.approx([0, 1, math.log(10), 0])
    with pytest.raises(ValueError, match="same cases"):
        next_to_label({"a": 1.0}, {})
    with pytest.raises(ValueError, match="equally many"):
        next_to_label({"a": 1.0}, {"a": [1.0]}, labelled=[[1.0, 2.0]])
    with pytest.raises(ValueError, match="finite"):
        next_to_label({"a": math.nan}, {"a": [1.0]})
