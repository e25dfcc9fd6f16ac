"""Means over cases and raters, and calibration errors over the whole data set."""

import json

import numpy as np
import pytest

from nnunet_stochastic import metrics
from nnunet_stochastic.evaluation import ALL_CLASSES, Case, EvaluatedLabels, score_case, summarise

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
        made.append(Case(f"case{index}", probabilities, labels[0], labels[1], (labels[2], labels[3])))
    return made


@pytest.fixture
def evaluation(cases):
    return summarise([score_case(case, LABELS) for case in cases], LABELS, num_bins=15)


def test_one_row_per_case_annotation_and_class(evaluation):
    assert len(evaluation.rows) == 3 * 3 * 3
    assert not evaluation.rows.duplicated(["case", "annotation", "class"]).any()
    assert evaluation.summary["num_cases"] == 3
    assert evaluation.summary["num_raters"] == 2


def test_means_leave_absent_classes_out(cases, evaluation):
    def dice(label, annotation):
        return metrics.dice(metrics.joint_label_counts(label, annotation, num_labels=3), LABELS.classes)

    per_case = np.array([dice(case.prediction, case.reference) for case in cases])
    assert np.isnan(per_case[0, 1])
    expected = np.nanmean(per_case, axis=0)
    results = evaluation.summary["results"]["reference"]
    assert [results[name]["mean"]["dice"] for name in LABELS.names] == pytest.approx(expected.tolist())
    assert results[ALL_CLASSES]["mean"]["dice"] == pytest.approx(expected.mean())

    per_rater = np.array([[dice(case.prediction, rater) for rater in case.raters] for case in cases])
    expected = np.nanmean(per_rater[:, :, 0].mean(axis=1))
    assert evaluation.summary["results"]["raters"]["liver"]["mean"]["dice"] == pytest.approx(expected)


def test_nll_is_the_mean_over_cases_whatever_their_size(cases, evaluation):
    expected = np.mean([metrics.nll(case.probabilities, case.reference) for case in cases])
    assert evaluation.summary["results"]["reference"][ALL_CLASSES]["mean"]["nll"] == pytest.approx(expected)
    expected = np.mean([[metrics.nll(case.probabilities, rater) for rater in case.raters] for case in cases])
    assert evaluation.summary["results"]["raters"][ALL_CLASSES]["mean"]["nll"] == pytest.approx(expected)


def test_calibration_of_the_data_set_pools_all_voxels(cases, evaluation):
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
        found = evaluation.summary["results"][group][ALL_CLASSES]["dataset"]
        assert found["ece"] == pytest.approx(metrics.expected_calibration_error(bins))
        assert found["mce"] == pytest.approx(metrics.maximum_calibration_error(bins))


def test_undefined_means_are_null_in_json(cases):
    summary = summarise([score_case(cases[0], LABELS)], LABELS, num_bins=15).summary
    assert summary["results"]["reference"]["spleen"]["mean"]["dice"] is None
    json.dumps(summary, allow_nan=False)
