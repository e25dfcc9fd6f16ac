"""DECISIONS from the records of cases: the judgement of their statistics, with patients and image scores put in."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nnunet_stochastic.conventions import PRESETS
from nnunet_stochastic.decisions.fitting import fit_decisions
from nnunet_stochastic.decisions.judgement import judge
from nnunet_stochastic.evaluation.applied_decisions import AppliedDecisions
from nnunet_stochastic.evaluation.bootstrap import resample
from nnunet_stochastic.evaluation.records import to_json
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks import DECISIONS, UNRANKED
from nnunet_stochastic.evaluation.tasks.decision_entry import DecisionsEntry
from nnunet_stochastic.evaluation.tasks.task import TaskInputs
from nnunet_stochastic.io.text import check_content
from tests.decisions.simulated import CLASSES, simulated_cases


@pytest.fixture(scope="module")
def decisions():
    return fit_decisions(simulated_cases(0, 12), labels=CLASSES)


def results(name, cases):
    """Results of a set of cases, whose records say nothing of patients and image scores."""
    records = {
        case.case: json.loads(json.dumps(to_json(replace(case, patient=case.case, image_scores={}).as_json())))
        for case in cases
    }
    scores = [
        {
            "set": name,
            "case": case.case,
            "measure": measure,
            "mean": case.image_scores[f"{measure}_mean"],
            "border": case.image_scores[f"{measure}_border"],
        }
        for case in cases
        for measure in ("AU", "EU", "TU")
    ]
    images = pd.DataFrame({"case": [case.case for case in cases]})
    return SetResults(
        name, pd.DataFrame(), images, pd.DataFrame(scores), {"DECISIONS": records}, {}, {}, has_reference=True
    )


def task_inputs(sets, decisions, *, patients=None, left_out=None, weights=None):
    applied = AppliedDecisions(decisions, 0.1, {}, left_out or {})
    return TaskInputs(sets, PRESETS["entanglement"], 0, False, True, applied, patients, weights or {})


def test_judgement_of_records_is_that_of_the_statistics(decisions):
    known, shifted = simulated_cases(1, 8), simulated_cases(2, 4)
    sets = [results("ID", known), results("blur", shifted)]
    patients = {case.case: case.patient for case in [*known, *shifted]}
    inputs = task_inputs(sets, decisions, patients=patients)
    entry = DECISIONS.complete(inputs, {each.name: DECISIONS.of_set(inputs, each) for each in sets})
    assert to_json(entry["ID"]) == to_json(judge(decisions, known))
    assert to_json(entry["shifts"]) == {"blur": to_json(judge(decisions, shifted))}
    assert entry["ID"]["structures"]["tumour"]["dice"]["baselines"].keys() >= {"mean_entropy", "border_EU"}
    assert (entry["unit"], entry["ID"]["num_patients"], entry["num_validation_patients"]) == ("patients", 8, 12)
    check_content("entry", to_json(entry), DecisionsEntry)


def test_without_a_table_each_case_is_a_patient(decisions):
    cases = simulated_cases(1, 8)
    inputs = task_inputs([results("ID", cases)], decisions)
    entry = DECISIONS.complete(inputs, {"ID": DECISIONS.of_set(inputs, inputs.known)})
    own = judge(decisions, [replace(case, patient=case.case) for case in cases])
    assert to_json(entry["ID"]) == to_json(own)
    assert (entry["unit"], own["num_patients"]) == ("cases", 12)
    coverage = own["structures"]["tumour"]["volume"]["0.8"]["coverage"]
    shares = [case["share_inside"]["0.8"] for case in own["structures"]["tumour"]["cases"]]
    assert coverage == pytest.approx(np.mean(shares))


def test_omissions_name_structures_where_not_all_lack_it(decisions):
    left_out = {
        "liver": {"lesions": "none", "raters": "one annotation"},
        "spleen": {"lesions": "none", "volume": "2D"},
        "tumour": {"lesions": "none", "volume": "2D"},
    }
    entry = {"ID": {"structures": {name: {"left_out": parts} for name, parts in left_out.items()}}}
    inputs = task_inputs([], decisions, left_out={"blur": "no rows"})
    assert DECISIONS.omissions(inputs, entry) == {
        "lesions": "none",
        "raters": "liver: one annotation",
        "volume": "spleen, tumour: 2D",
        "blur": "no rows",
    }


def test_tables_of_numbers_leave_it_out():
    assert DECISIONS not in UNRANKED
    assert not DECISIONS.by_measure
    assert not DECISIONS.by_class


def test_intervals_are_of_the_replicates_of_the_evaluation(decisions):
    cases = simulated_cases(1, 8)
    sets, patients = [results("ID", cases)], {case.case: case.patient for case in cases}
    drawn = resample(sets, PRESETS["entanglement"], patients=patients, num_replicates=50)
    inputs = task_inputs(sets, decisions, patients=patients, weights=drawn.weights)
    entry = DECISIONS.complete(inputs, {"ID": DECISIONS.of_set(inputs, sets[0])})
    by_case = dict(zip(sets[0].cases, drawn.weights["ID"].T, strict=True))
    assert to_json(entry["ID"]) == to_json(judge(decisions, cases, weights=by_case))
    low, high = entry["ID"]["structures"]["tumour"]["dice"]["intervals"]["aurc"]
    assert low < entry["ID"]["structures"]["tumour"]["dice"]["aurc"] < high
    check_content("summary.json", to_json(entry), DecisionsEntry)
    entry["ID"]["structures"]["tumour"]["dice"]["intervals"]["aurc"] = [0.1]
    with pytest.raises(ValueError, match="aurc"):
        check_content("summary.json", to_json(entry), DecisionsEntry)
