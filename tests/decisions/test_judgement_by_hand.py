"""Judgements of three cases of two patients, whose numbers are known: each is worked out beside it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta

from nnunet_stochastic.decisions.conformal import DiceBounds, LevelQuantile, VolumeIntervals
from nnunet_stochastic.decisions.decisions import VERSION, Decisions, Presence, StructureDecisions
from nnunet_stochastic.decisions.existence import ExistenceCalibration
from nnunet_stochastic.decisions.judgement import judge, shared_with_validation
from nnunet_stochastic.decisions.predicted_dice import DiceFit, DiceModel
from nnunet_stochastic.decisions.reference_scores import ReferenceScores
from nnunet_stochastic.decisions.risk_control import GRID, RiskMasks, Threshold
from nnunet_stochastic.decisions.statistics import CaseStatistics, LesionStatistics, StructureStatistics
from nnunet_stochastic.decisions.structures import StructureRow

PLACE = 40


def identity(feature, low=0.0, high=1.0):
    return DiceModel(kind="isotonic", features=[feature], x=[low, high], y=[0.0, 1.0])


#: V̂ ± 1 ml at 80 %, infinite at 90 %; predicted Dice = pairwise Dice, at least 0.1 less; P = 0.9, 0.5, 0.1 of a lesion
#: in all, 60 % and 20 % of the samples.
FITTED = StructureDecisions(
    presence=Presence(num_cases=9, num_patients=9, reference_share=1, num_not_segmented=0, num_missed=0),
    volume=VolumeIntervals(
        has_samples=False,
        least_spread_ml=0,
        quantiles=[LevelQuantile(level=0.8, quantile=1.0), LevelQuantile(level=0.9, quantile=None)],
        num_patients=9,
        num_cases=9,
    ),
    masks=RiskMasks(
        thresholds=[Threshold(alpha=0.2, outer=GRID[PLACE], inner=GRID[PLACE + 1])],
        num_patients_outer=9,
        num_patients_inner=9,
    ),
    dice=DiceFit(
        model=identity("pairwise_dice_samples"),
        errors={},
        baselines={
            "pairwise_dice": identity("pairwise_dice_samples"),
            "volume": identity("log_volume", 0, math.log(100)),
        },
        num_cases=9,
        num_patients=9,
    ),
    dice_bounds=DiceBounds(
        quantiles=[LevelQuantile(level=0.8, quantile=0.1), LevelQuantile(level=0.9, quantile=None)], num_patients=9
    ),
    existence=ExistenceCalibration(
        a=-math.log(9) / 0.4, b=-math.log(9), num_lesions=9, num_cases=9, num_patients=9, has_candidates=True
    ),
)
DECISIONS = Decisions(
    version=VERSION,
    seed=0,
    labels={"tumour": [1]},
    num_cases=9,
    num_patients=9,
    levels=[0.8, 0.9],
    alphas=[0.2],
    structures={"tumour": FITTED},
    image_scores={
        "TU_mean": ReferenceScores(scores=[0.25, 0.5], weights=[0.5, 0.5], num_patients=2),
        "EU_mean": ReferenceScores(scores=[0.125, 0.75], weights=[0.5, 0.5], num_patients=2),
    },
    num_samples=4,
)


def losses(at):
    """Losses that are ``at`` where the thresholds are, and anything elsewhere."""
    found = np.full(len(GRID), 0.77)
    found[PLACE : PLACE + 2] = at
    return found


def case(name, patient, *, expected, volumes, spread, pairwise, dice, outer, inner=(0.0, 0.0)):
    row = StructureRow(
        "tumour",
        num_voxels=10,
        expected_voxels=10.0,
        volume_ml=expected,
        expected_volume_ml=expected,
        num_samples=4,
        sample_sd_ml=spread,
        pairwise_dice_samples=pairwise,
    )
    found = StructureStatistics(row, [1] * len(volumes), volumes, dice, losses(outer), losses(inner))
    return CaseStatistics(name, patient, {"tumour": found})


CASES = [
    case("a", "one", expected=10, volumes=[10, 12], spread=1, pairwise=0.7, dice=[0.7, 0.9], outer=(0.1, 0.5)),
    case("b", "one", expected=20, volumes=[20, 21], spread=2, pairwise=0.9, dice=[0.6, None], outer=(0.3, 0.5)),
    case("c", "two", expected=35, volumes=[30, 31], spread=2, pairwise=0.5, dice=[0.4, 0.4], outer=(0.4, 0.5)),
]
LESIONS = [
    LesionStatistics(
        np.array([1.0, 0.6]), np.array([[True, False], [True, True]]), np.array([2, 2]), np.array([False, True])
    ),
    LesionStatistics(np.array([0.2]), np.array([[True], [False]]), np.array([1, 0]), np.array([True])),
]


@pytest.fixture(scope="module")
def judged():
    with_lesions = [replace(each, lesions={"tumour": of}) for each, of in zip(CASES[:2], LESIONS, strict=True)]
    return judge(DECISIONS, [CASES[2], *with_lesions])["structures"]["tumour"]


def test_coverage_of_volumes(judged):
    """a: 1 of 2 raters, b: both, c: none; patients 3/4 and 0."""
    at80, at90 = judged["volume"]["0.8"], judged["volume"]["0.9"]
    assert at80 == {
        "coverage": 0.375,
        "interval": pytest.approx([beta.ppf(0.025, 0.75, 2.25), beta.ppf(0.975, 1.75, 1.25)]),
        "num_cases": 3,
        "num_patients": 2,
        "mean_width_ml": 2.0,
        "median_width_ml": 2.0,
        "share_infinite": 0.0,
    }
    assert (at90["coverage"], at90["interval"][1], at90["share_infinite"], at90["median_width_ml"]) == (1, 1, 1, None)


def test_risk_of_masks(judged):
    """Outer: patients (0.1 + 0.3) / 2 and 0.4; inner: at the next λ."""
    found = judged["masks"]["0.2"]
    assert found["outer"] == pytest.approx(
        {"threshold": GRID[PLACE], "risk": 0.3, "standard_error": 0.1, "num_patients": 2}
    )
    assert found["inner"] == {"threshold": GRID[PLACE + 1], "risk": 0, "standard_error": 0, "num_patients": 2}


def test_predicted_dice(judged):
    """True 0.8, 0.6, 0.4; predicted 0.7, 0.9, 0.5, so that b is kept longest: risks 0.4, 0.3, 0.4."""
    found = judged["dice"]
    assert found["mae"] == pytest.approx((0.1 + 0.3 + 0.1) / 3)
    assert found["rank_correlation"] == pytest.approx(0.5)
    assert found["aurc"] == pytest.approx((0.4 + 0.3 + 0.4) / 3)
    assert found["mean_dice"] == pytest.approx(0.6)
    assert found["baselines"]["pairwise_dice"] == pytest.approx(
        {name: found[name] for name in ("mae", "rank_correlation", "aurc")}
    )
    # The largest is the worst: kept in the order c, b, a.
    volume = found["baselines"]["volume"]
    assert (volume["rank_correlation"], volume["aurc"]) == pytest.approx((-1, (0.6 + 0.5 + 0.4) / 3))
    predicted = np.log([10, 20, 35]) / math.log(100)
    assert volume["mae"] == pytest.approx(np.abs(predicted - [0.8, 0.6, 0.4]).mean())
    # At least 0.6, 0.8 and 0.4: holds for a and c.
    bound = found["lower_bound"]["0.8"]
    assert (bound["coverage"], bound["mean_bound"]) == pytest.approx((0.75, 0.6))
    assert judged["left_out"]["dice/mean_entropy"] == "the validation predictions had no maps of the total uncertainty"
    assert judged["left_out"]["dice/border_EU"] == "the validation predictions had no maps of the epistemic uncertainty"


def test_lesions(judged):
    """Of six words of raters on lesions, 2 of 2, 1 of 2 and 1 of 2 say that it is there; five lesions of raters."""
    found = judged["lesions"]
    points = [(p["probability"], p["sensitivity"], p["false_per_case"]) for p in found["froc"]]
    assert points == [pytest.approx(point) for point in ((0.9, 0.4, 0), (0.5, 0.6, 0.25), (0.1, 0.8, 0.5))]
    # Without the candidates, of 0.6 and 0.2 of the samples; the hits of a lesion in all.
    assert (found["segmentation"], found["num_candidates"]) == ({"sensitivity": 0.4, "false_per_case": 0}, 2)
    assert found["sensitivity_at"] == {"0.5": 0.8, "1": 0.8, "2": 0.8, "4": 0.8}
    assert found["existence_calibration_error"] == pytest.approx((0.1 + 0 + 0.4) / 3)
    bins = found["existence_bins"]
    assert sorted(zip(bins["count"], bins["correct_sum"], strict=True), reverse=True)[:4] == [
        (2, 2),
        (2, 1),
        (2, 1),
        (0, 0),
    ]
    assert (found["num_lesions"], found["num_reference_lesions"], found["num_cases"], found["num_patients"]) == (
        3,
        5,
        2,
        1,
    )


def test_several_raters(judged):
    """Variances of the raters 2, 1/2 and 1/2, of the samples 1, 4 and 4."""
    found = judged["raters"]
    assert found["ratio"] == pytest.approx(math.sqrt(3))
    assert (found["sampled_sd_ml"], found["raters_sd_ml"]) == pytest.approx((math.sqrt(3), 1))
    assert found["coverage"]["0.8"]["coverage"] == 0.375
    assert found["coverage"]["0.8"]["share_all_inside"] == pytest.approx(1 / 3)


def test_numbers_of_a_case(judged):
    a, b, _ = judged["cases"]
    assert (a["case"], a["patient"], a["segmented"], a["reference_ml"]) == ("a", "one", True, [10, 12])
    assert (a["intervals_ml"]["0.8"], a["share_inside"]) == ([9, 11], {"0.8": 0.5, "0.9": 1})
    assert a["intervals_ml"]["0.9"] == [0, math.inf]
    assert (a["dice"], a["predicted_dice"], b["dice"]) == (0.8, 0.7, 0.6)
    assert a["dice_at_least"] == pytest.approx({"0.8": 0.6, "0.9": 0})
    assert a["baselines"] == pytest.approx({"pairwise_dice": 0.7, "volume": math.log(10)})
    assert (a["outer_loss"], a["inner_loss"]) == ({"0.2": 0.1}, {"0.2": 0})


def test_what_there_is_not_is_none_and_said():
    one = replace(CASES[0].structures["tumour"], reference_ml=[10.0], dice=[0.8], outer_loss=None, inner_loss=None)
    found = judge(DECISIONS, [replace(CASES[0], structures={"tumour": one})])["structures"]["tumour"]
    assert (found["masks"], found["lesions"], found["raters"], found["dice"]["rank_correlation"]) == (None,) * 4
    assert found["left_out"] | {"dice/mean_entropy": "", "dice/border_EU": ""} == {
        "masks": "there are no probabilities; predict with --save_probabilities",
        "lesions": "none were asked for; predict with --lesions",
        "raters": "no case has volumes of several annotations",
        "dice/mean_entropy": "",
        "dice/border_EU": "",
    }
    absent = replace(one, row=replace(one.row, num_voxels=0), reference_ml=[None])
    found = judge(DECISIONS, [replace(CASES[0], structures={"tumour": absent})])["structures"]["tumour"]
    assert (found["num_segmented"], found["volume"], found["dice"]) == (0, None, None)
    assert found["left_out"]["dice"] == "no segmentation has the structure"
    assert found["left_out"]["volume"] == "no case has volumes in ml of its segmentation and of an annotation"
    assert found["cases"][0]["intervals_ml"] == found["cases"][0]["baselines"] == {}


def test_no_annotated_lesion_has_no_sensitivity_and_no_lesion_no_calibration_error():
    none = LesionStatistics(
        np.array([0.6]), np.zeros((1, 1), bool), np.array([0]), np.zeros(1, bool), has_candidates=False
    )
    found = judge(DECISIONS, [replace(CASES[0], lesions={"tumour": none})])["structures"]["tumour"]
    assert found["lesions"]["froc"] == [
        pytest.approx({"share": 0.6, "probability": 0.5, "sensitivity": None, "false_per_case": 1.0})
    ]
    assert set(found["lesions"]["sensitivity_at"].values()) == {None}
    assert found["left_out"]["lesions/sensitivity"] == "no annotation has a lesion"
    assert "not all samples were saved" in found["left_out"]["lesions/candidates"]
    empty = LesionStatistics(np.zeros(0), np.zeros((1, 0), bool), np.array([2]), np.zeros(0, bool))
    found = judge(DECISIONS, [replace(CASES[0], lesions={"tumour": empty})])["structures"]["tumour"]
    assert set(found["lesions"]["sensitivity_at"].values()) == {0}
    assert (found["lesions"]["existence_calibration_error"], found["lesions"]["existence_bins"]) == (None, None)
    assert found["left_out"]["lesions/existence"] == "no lesion and no candidate was found"


def test_cases_that_were_fitted_to_are_recognised():
    scores = [{"TU_mean": 0.5, "EU_mean": 0.125}, {"TU_mean": 0.5, "EU_mean": 0.1251}, {"TU_mean": 0.25}, {}]
    cases = [replace(CASES[0], case=str(index), image_scores=each) for index, each in enumerate(scores)]
    assert shared_with_validation(DECISIONS, cases) == 2
