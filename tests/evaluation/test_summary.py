"""Means over cases and raters, and calibration errors over the whole data set."""

import json

import numpy as np
import pytest

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import PRESETS
from nnunet_stochastic.evaluation import ALL_CLASSES, RATERS, REFERENCE, EvaluatedCase, EvaluatedLabels, score_case
from nnunet_stochastic.evaluation.case_sets import CaseSet
from nnunet_stochastic.evaluation.records import bins_to_json, to_json
from nnunet_stochastic.evaluation.results import collect_results
from nnunet_stochastic.evaluation.summary import summarise

ID = CaseSet("ID", ())
LABELS = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "liver": 1, "spleen": 2}})


@pytest.fixture
def cases():
    """Three cases of different size; the spleen is absent everywhere in the first."""
    rng = np.random.default_rng(0)
    made = []
    for index, size in enumerate((3, 5, 9)):
        num_labels = 2 if index == 0 else 3
        probabilities = rng.dirichlet([1] * 3, (2, 4, size)).transpose(3, 0, 1, 2).astype(np.float32)
        labels = rng.integers(0, num_labels, (4, 2, 4, size)).astype(np.uint8)
        made.append(EvaluatedCase(f"case{index}", probabilities, labels[0], labels[1], (labels[2], labels[3])))
    return made


def record(case):
    """The part of a case's record that the summary is made of."""
    scores = score_case(case, LABELS)
    raters = [found for name, found in scores.items() if name != REFERENCE]
    groups = {REFERENCE: scores[REFERENCE].bins} | {
        RATERS: {name: raters[0].bins[name] + raters[1].bins[name] for name in raters[0].bins}
    }
    return to_json(
        {
            "case": case.name,
            "rows": [row for found in scores.values() for row in found.rows],
            "reliability": {
                group: {name: bins_to_json(bins) for name, bins in classes.items()} for group, classes in groups.items()
            },
            "measures": {},
            "image": {"dice": 0.5, "risk": 0.5, "ged_dice": float("nan"), "volume_ml": float("nan")},
            "crps_ml": {},
            "challenge": {},
            "decisions": {},
            "degenerate_samples": None,
            "spread": {},
        }
    )


@pytest.fixture
def results(cases):
    return collect_results(ID, map(record, cases))


@pytest.fixture
def summary(results):
    return summarise(results, LABELS, PRESETS["entanglement"])


def test_one_row_per_case_annotation_and_class(results):
    assert len(results.rows) == 3 * 3 * 3
    assert not results.rows.duplicated(["case", "annotation", "class"]).any()
    assert set(results.rows["set"]) == {"ID"}
    assert results.cases == ["case0", "case1", "case2"]


def test_means_leave_absent_classes_out(cases, summary):
    def dice(label, annotation):
        return metrics.dice(metrics.joint_label_counts(label, annotation, num_labels=3), LABELS.classes)

    per_case = np.array([dice(case.prediction, case.reference) for case in cases])
    assert np.isnan(per_case[0, 1])
    expected = np.nanmean(per_case, axis=0)
    results = summary["reference"]
    assert [results[name]["mean"]["dice"] for name in LABELS.names] == pytest.approx(expected.tolist())
    assert results[ALL_CLASSES]["mean"]["dice"] == pytest.approx(expected.mean())

    per_rater = np.array([[dice(case.prediction, rater) for rater in case.raters] for case in cases])
    expected = np.nanmean(per_rater[:, :, 0].mean(axis=1))
    assert summary["raters"]["liver"]["mean"]["dice"] == pytest.approx(expected)


def test_nll_is_the_mean_over_cases_whatever_their_size(cases, summary):
    expected = np.mean([metrics.nll(case.probabilities, case.reference) for case in cases])
    assert summary["reference"][ALL_CLASSES]["mean"]["nll"] == pytest.approx(expected)
    expected = np.mean([[metrics.nll(case.probabilities, rater) for rater in case.raters] for case in cases])
    assert summary["raters"][ALL_CLASSES]["mean"]["nll"] == pytest.approx(expected)


def test_calibration_of_the_data_set_pools_all_voxels(cases, summary):
    def pooled(annotations_of):
        confidence, correct = zip(
            *[
                metrics.predicted_class_confidence(case.probabilities, annotation)
                for case in cases
                for annotation in annotations_of(case)
            ],
            strict=True,
        )
        return metrics.reliability_bins(
            *(np.concatenate([a.ravel() for a in arrays]) for arrays in (confidence, correct))
        )

    for group, annotations_of in (("reference", lambda case: [case.reference]), ("raters", lambda case: case.raters)):
        bins = pooled(annotations_of)
        found = summary[group][ALL_CLASSES]["dataset"]
        assert found["ece"] == pytest.approx(metrics.expected_calibration_error(bins))
        assert found["mce"] == pytest.approx(metrics.maximum_calibration_error(bins))


def test_undefined_means_are_null_in_json(cases):
    summary = summarise(collect_results(ID, [record(cases[0])]), LABELS, PRESETS["entanglement"])
    assert summary["reference"]["spleen"]["mean"]["dice"] is None
    json.dumps(summary, allow_nan=False)
