"""All fits together: JSON, order, what each is given, what is left out and said, and what a new case is told."""

import dataclasses
import json
import math

import numpy as np
import pytest

from nnunet_stochastic.decisions.conformal import VolumeIntervals, draw_cases, draw_rater
from nnunet_stochastic.decisions.decisions import Decisions
from nnunet_stochastic.decisions.fitting import fit_decisions
from nnunet_stochastic.decisions.judgement import judge
from nnunet_stochastic.decisions.lesions import Lesion
from nnunet_stochastic.decisions.risk_control import GRID
from nnunet_stochastic.decisions.statistics import StructureStatistics
from nnunet_stochastic.decisions.structures import StructureRow
from nnunet_stochastic.io.text import check_content
from tests.decisions.simulated import CLASSES, simulated_cases


@pytest.fixture(scope="module")
def cases():
    return simulated_cases(0, 24)


@pytest.fixture(scope="module")
def decisions(cases):
    return fit_decisions(cases, labels=CLASSES, seed=3)


def changed(case, **of_row):
    found = case.structures["tumour"]
    found = dataclasses.replace(found, row=dataclasses.replace(found.row, **of_row))
    return dataclasses.replace(case, structures={"tumour": found})


def test_json_gives_the_same_answers(cases, decisions):
    content = json.loads(json.dumps(decisions.model_dump(mode="json"), allow_nan=False))
    check_content("calibration.json: decisions", content, Decisions)
    again = Decisions.model_validate(content)
    assert again == decisions
    for case in simulated_cases(1, 3):
        row = case.structures["tumour"].row
        assert again.assess(row) == decisions.assess(row)


def test_order_of_cases_does_not_matter(cases, decisions):
    shuffled = [cases[i] for i in np.random.default_rng(0).permutation(len(cases))]
    assert fit_decisions(shuffled, labels=CLASSES, seed=3) == decisions
    assert fit_decisions(cases, labels=CLASSES, seed=4) != decisions


def test_numbers_of_cases_and_patients(decisions):
    tumour = decisions.structures["tumour"]
    assert (decisions.num_cases, decisions.num_patients) == (36, 24)
    assert (tumour.volume.num_cases, tumour.volume.num_patients) == (36, 24)
    assert (tumour.dice.num_cases, tumour.dice.num_patients, tumour.dice_bounds.num_patients) == (36, 24, 24)
    assert (tumour.masks.num_patients_outer, tumour.masks.num_patients_inner) == (24, 24)
    assert (tumour.existence.num_cases, tumour.existence.num_patients) == (36, 24)
    assert tumour.left_out == {} == decisions.left_out
    assert decisions.remarks() == []


def test_a_case_of_each_patient_and_a_rater_of_that(cases, decisions):
    by_name = {case.case: case for case in cases}
    drawn = [by_name[name] for name in draw_cases([(case.case, case.patient) for case in cases], seed=3)]
    structures = [case.structures["tumour"] for case in drawn]
    volumes = [s.reference_ml[draw_rater(case.case, 3, seed=3)] for case, s in zip(drawn, structures, strict=True)]
    expected = VolumeIntervals.fit(
        np.array(volumes),
        np.array([s.row.expected_volume_ml for s in structures]),
        np.array([s.row.sample_sd_ml for s in structures]),
        num_cases=36,
    )
    assert decisions.structures["tumour"].volume == expected


def test_a_new_case(decisions):
    row = simulated_cases(2, 1)[0].structures["tumour"].row
    found = decisions.assess(row)
    lows, highs = zip(*(found.intervals_ml[level] for level in (0.95, 0.9, 0.8)), strict=True)
    assert list(lows) == sorted(lows)
    assert list(highs) == sorted(highs, reverse=True)
    assert lows[-1] < row.expected_volume_ml < highs[-1]
    assert found.dice_at_least[0.95] <= found.dice_at_least[0.8] < found.predicted_dice < 1
    assert found.expected_loss == 1 - found.predicted_dice


def test_a_lesion(cases, decisions):
    fit = decisions.structures["tumour"].existence
    lesion = Lesion("tumour", 1, False, 5, 0.05, (0, 0, 0), (0, 0, 0), existence=0.5)
    candidate = dataclasses.replace(lesion, candidate=True)
    assert decisions.existence(lesion) == decisions.existence(candidate) == fit.probability(0.5)
    assert decisions.existence(dataclasses.replace(lesion, existence=None)) is None
    assert decisions.existence(dataclasses.replace(lesion, structure="liver")) is None

    def without_candidates(case):
        return dataclasses.replace(case.lesions["tumour"], has_candidates=False)

    alone = [dataclasses.replace(case, lesions={"tumour": without_candidates(case)}) for case in cases]
    fitted = fit_decisions(alone, labels=CLASSES, seed=3)
    assert fitted.existence(candidate) is None
    assert fitted.existence(lesion) == fit.probability(0.5)
    mixed = fit_decisions([*alone[:3], *cases[3:]], labels=CLASSES, seed=3).structures["tumour"]
    assert "predict all alike" in mixed.left_out["existence"]


def test_a_structure_that_the_segmentation_lacks(cases, decisions):
    """Its loss is how often the validation cases missed it; a structure that all have is as good as missed."""
    row = dataclasses.replace(cases[0].structures["tumour"].row, num_voxels=0)
    found = decisions.assess(row)
    assert (found.intervals_ml, found.predicted_dice, found.expected_loss) == ({}, None, 1)
    absent = [changed(case, num_voxels=0) for case in cases[:4]]
    for index in (0, 1, 2):
        of_case = dataclasses.replace(absent[index].structures["tumour"], reference_voxels=[0, 0, 0])
        absent[index] = dataclasses.replace(absent[index], structures={"tumour": of_case})
    fitted = fit_decisions([*absent, *cases[4:]], labels=CLASSES)
    assert fitted.assess(row).expected_loss == pytest.approx((1 + 33 / 36) / 5)
    assert fitted.structures["tumour"].volume.num_cases == 32


def test_too_few_patients_are_said(cases):
    few = fit_decisions(cases[:12], labels=CLASSES)
    assert few.num_patients == 8
    found = few.assess(cases[20].structures["tumour"].row)
    assert found.intervals_ml[0.8][1] < math.inf == found.intervals_ml[0.9][1]
    assert found.intervals_ml[0.9][0] == 0 == found.dice_at_least[0.95]
    remarks = few.remarks()
    assert "tumour: volume interval at 90 % is infinite: 8 patients, at least 9 are needed" in remarks
    assert "tumour: lower bound of the Dice at 95 % is 0: 8 patients, at least 19 are needed" in remarks
    assert "tumour: outer mask at 5 % is the whole image: 8 patients, at least 19 are needed" in remarks
    assert len(remarks) == 2 * 2 + 2 * 2


def test_one_patient(cases):
    one = fit_decisions([dataclasses.replace(case, patient="only") for case in cases], labels=CLASSES)
    tumour = one.structures["tumour"]
    assert tumour.left_out == {"dice": "predicted Dice needs at least 4 patients, got 1"}
    assert one.assess(cases[0].structures["tumour"].row).intervals_ml[0.8] == (0, math.inf)
    assert (tumour.masks.at(0.2).outer, tumour.masks.at(0.2).inner) == (0, 2)
    assert tumour.volume.num_patients == 1


def test_no_segmentation_has_the_structure(cases):
    absent = [changed(case, num_voxels=0) for case in cases]
    tumour = fit_decisions(absent, labels=CLASSES).structures["tumour"]
    assert tumour.left_out == {
        "volume": "no validation case has the structure in its segmentation",
        "dice": "predicted Dice needs at least 4 patients, got 0",
    }
    assert tumour.presence.loss_where_missing == 1


def test_without_samples_probabilities_lesions_and_volumes():
    cases = simulated_cases(5, 12, num_samples=0)
    decisions = fit_decisions(cases, labels=CLASSES)
    tumour = decisions.structures["tumour"]
    assert not tumour.volume.has_samples
    assert tumour.existence is None
    missing = {"existence": "case0_0 has lesions and neither samples nor members; predict with --save_samples"}
    assert tumour.left_out == missing
    assert judge(decisions, cases)["structures"]["tumour"]["lesions"] is None
    bare = [
        dataclasses.replace(
            case,
            structures={
                "tumour": dataclasses.replace(
                    case.structures["tumour"], outer_loss=None, inner_loss=None, reference_ml=[None] * 3
                )
            },
        )
        for case in cases
    ]
    assert fit_decisions(bare, labels=CLASSES).structures["tumour"].left_out == {
        "volume": "no validation case has volumes in ml of the segmentation and of a reference: 2D images have none, "
        "nor have references that label a part of the image",
        "masks": "there are no probabilities; predict with --save_probabilities",
        **missing,
    }


def test_a_structure_that_no_validation_case_has(cases):
    def absent(case):
        found = dataclasses.replace(case.structures["tumour"], reference_voxels=[0, 0, 0], reference_ml=[0.0] * 3)
        return dataclasses.replace(case, structures={"tumour": found})

    tumour = fit_decisions([absent(case) for case in cases], labels=CLASSES).structures["tumour"]
    assert set(tumour.left_out) == {"volume", "masks", "dice", "existence"}
    assert tumour.volume is None is tumour.dice
    assert "no validation case has the structure" in tumour.left_out["dice"]


def test_a_rare_structure_beside_a_common_one(cases, decisions):
    """It is fitted to the cases that have it, the common one as if it were alone; missing in all it costs little."""
    nothing = np.full(len(GRID), np.nan)

    def with_rare(index, case):
        found = case.structures["tumour"]
        if index >= 6:
            row = StructureRow("rare", 0, 0.0, 0.0, 0.0, num_samples=8, sample_mean_ml=0.0, sample_sd_ml=0.0)
            found = StructureStatistics(row, [0] * 3, [0.0] * 3, [None] * 3, nothing, nothing)
        return dataclasses.replace(case, structures={"tumour": case.structures["tumour"], "rare": found})

    both = fit_decisions(
        [with_rare(index, case) for index, case in enumerate(cases)], labels={**CLASSES, "rare": [2, 3]}, seed=3
    )
    assert both.structures["tumour"].volume == decisions.structures["tumour"].volume
    assert both.structures["tumour"].masks == decisions.structures["tumour"].masks
    rare = both.structures["rare"]
    assert (rare.volume.num_cases, rare.volume.num_patients) == (6, 4)
    assert (rare.masks.num_patients_outer, rare.masks.num_patients_inner) == (4, 4)
    assert (rare.dice.num_cases, rare.dice.num_patients) == (6, 4)
    assert (rare.presence.num_cases, rare.presence.num_not_segmented, rare.presence.num_missed) == (36, 30, 0)
    absent = StructureRow("rare", 0, 0.0)
    assert both.assess(absent).expected_loss == pytest.approx((6 / 36) / 31)


def test_cases_that_differ_in_what_they_have(cases):
    some = [changed(cases[0], sample_sd_ml=None), *cases[1:]]
    assert "case0_0 has no samples" in fit_decisions(some, labels=CLASSES).structures["tumour"].left_out["volume"]
    some = [dataclasses.replace(cases[0], image_scores={}), *cases[1:]]
    assert fit_decisions(some, labels=CLASSES).left_out["score EU_mean"] == "1 of 36 cases have none, as case0_0"


def test_bad_input(cases, decisions):
    with pytest.raises(ValueError, match="no validation case"):
        fit_decisions([], labels=CLASSES)
    with pytest.raises(ValueError, match="same name"):
        fit_decisions([cases[0], cases[0]], labels=CLASSES)
    with pytest.raises(ValueError, match="case0_0 has structures tumour, the labels are liver"):
        fit_decisions(cases, labels={"liver": [1]})
    decisions.check_labels({"tumour": (1,)})
    with pytest.raises(ValueError, match=r"tumour is \[1\] in it and \[2\] here"):
        decisions.check_labels({"tumour": [2]})
    with pytest.raises(ValueError, match=r"liver is not there in it and \[1\] here \(and 1 more\)"):
        decisions.check_labels({"liver": [1]})
    row = cases[0].structures["tumour"].row
    with pytest.raises(ValueError, match="tumour: the intervals were fitted to predictions with samples"):
        decisions.assess(dataclasses.replace(row, sample_sd_ml=None))
    with pytest.raises(ValueError, match="tumour: the intervals are of volumes in ml"):
        decisions.assess(dataclasses.replace(row, expected_volume_ml=None))
    with pytest.raises(ValueError, match="liver: the calibration has no such structure"):
        decisions.assess(dataclasses.replace(row, structure="liver"))
    for wrong, message in (
        ({"version": 2}, "version"),
        ({"num_cases": "3"}, "num_cases"),
        ({"unknown": 1}, "unknown"),
        ({"levels": [math.nan]}, "levels"),
    ):
        with pytest.raises(ValueError, match=message):
            check_content("file", {**decisions.model_dump(mode="json"), **wrong}, Decisions)
