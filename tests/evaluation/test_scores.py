"""Scores of a case: hand-computed values, nnU-Net's Dice, regions, and voxels that are left out."""

import numpy as np
import pytest

from nnunet_stochastic import metrics
from nnunet_stochastic.evaluation import (
    ALL_CLASSES,
    METRICS,
    PRESETS,
    EvaluatedCase,
    EvaluatedLabels,
    score_annotation,
    score_case,
)

NODULE = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "nodule": 1}})
ORGANS = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "liver": 1, "spleen": 2, "ignore": 3}})
TUMOUR = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "whole": [1, 2], "core": 2}})


def make_case(probabilities, prediction, reference, raters=()):
    prediction, reference, *raters = (np.array(label, dtype=np.uint8) for label in (prediction, reference, *raters))
    return EvaluatedCase("case", np.array(probabilities, dtype=np.float32), prediction, reference, tuple(raters))


def by_class(scores):
    return {row["class"]: row for row in scores.rows}


def test_two_classes_by_hand():
    foreground = np.array([[[0.9, 0.8, 0.4, 0.0]]])
    case = make_case([1 - foreground, foreground], [[[1, 1, 0, 0]]], [[[1, 0, 1, 0]]])
    rows = by_class(score_annotation(case, case.reference, NODULE, annotation="reference"))
    nll = -np.mean(np.log([0.9, 0.2, 0.4, 1.0]))
    brier = np.mean([0.01, 0.64, 0.36, 0.0])
    assert rows["nodule"]["dice"] == rows[ALL_CLASSES]["dice"] == pytest.approx(0.5)
    assert rows["nodule"]["nll"] == pytest.approx(nll, rel=1e-6)
    assert rows[ALL_CLASSES]["nll"] == pytest.approx(nll, rel=1e-6)
    assert rows["nodule"]["brier"] == pytest.approx(brier, rel=1e-6)
    assert rows[ALL_CLASSES]["brier"] == pytest.approx(2 * brier, rel=1e-6)
    # One voxel per bin: p against being nodule, and max(p) against being right.
    assert rows["nodule"]["ece"] == pytest.approx(np.mean([0.1, 0.8, 0.6, 0.0]), rel=1e-6)
    assert rows[ALL_CLASSES]["ece"] == pytest.approx(np.mean([0.1, 0.8, 0.6, 0.0]), rel=1e-6)
    assert rows[ALL_CLASSES]["mce"] == pytest.approx(0.8, rel=1e-6)
    assert rows["nodule"]["reference_voxels"] == rows["nodule"]["predicted_voxels"] == 2


def test_every_annotation_is_scored():
    foreground = np.array([[[0.9, 0.8, 0.4, 0.0]]])
    case = make_case(
        [1 - foreground, foreground], [[[1, 1, 0, 0]]], [[[1, 0, 1, 0]]], [[[[1, 1, 0, 0]]], [[[0, 0, 0, 1]]]]
    )
    scores = score_case(case, NODULE)
    assert {name: by_class(score)["nodule"]["dice"] for name, score in scores.items()} == {
        "reference": 0.5,
        "rater0": 1.0,
        "rater1": 0.0,
    }


@pytest.mark.parametrize("labels", [ORGANS, TUMOUR])
def test_dice_agrees_with_nnunet(labels):
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics

    rng = np.random.default_rng(0)
    prediction, reference = rng.integers(0, 3, (2, 3, 5, 6))
    if labels.ignore_label:
        reference[0, :2] = labels.ignore_label

    class Reader:
        @staticmethod
        def read_seg(name):
            return {"prediction": prediction, "reference": reference}[name][None], {}

    theirs = compute_metrics("reference", "prediction", Reader, list(labels.classes), labels.ignore_label)
    case = make_case(
        rng.dirichlet([1] * labels.num_channels, reference.shape).transpose(3, 0, 1, 2), prediction, reference
    )
    rows = by_class(score_annotation(case, case.reference, labels, annotation="reference"))
    for name, values in zip(labels.names, labels.classes, strict=True):
        assert rows[name]["dice"] == pytest.approx(theirs["metrics"][values]["Dice"])


def test_ignored_voxels_count_for_nothing():
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet([1] * 3, (2, 4, 5)).transpose(3, 0, 1, 2)
    reference = rng.integers(0, 3, (2, 4, 5))
    prediction = probabilities.argmax(axis=0)
    top = make_case(probabilities[:, :1], prediction[:1], reference[:1])
    reference[1] = ORGANS.ignore_label
    whole = make_case(probabilities, prediction, reference)
    expected = score_annotation(top, top.reference, ORGANS, annotation="reference")
    np.testing.assert_equal(
        score_annotation(whole, whole.reference, ORGANS, annotation="reference").rows, expected.rows
    )


def test_structures_by_hand():
    """A liver that is off by two slices of 3 mm, beside what the annotation leaves open; a spleen that is missed."""
    prediction, reference = np.zeros((2, 12, 10, 10), np.uint8)
    prediction[4:6, 2:8, 2:8], reference[2:4, 2:8, 2:8] = 1, 1
    prediction[8:, :3, :3], reference[8:] = 1, ORGANS.ignore_label
    reference[0, 0, 0] = 2
    grid = {"spacing": (3.0, 1.0, 0.5), "nibabel_stuff": {"original_affine": np.diag([0.5, 1.0, 3.0, 1.0])}}
    probabilities = np.full((3, 12, 10, 10), 1 / 3, np.float32)
    case = EvaluatedCase("case", probabilities, prediction, reference, grid=grid)
    rows = by_class(score_annotation(case, reference, ORGANS, annotation="reference", tolerance_mm=3.0))
    names = ("hd95_mm", "assd_mm", "nsd", "lesion_dice")
    # Of two slices each, the one that is nearer is 3 mm away, the other one 6 mm.
    assert [rows["liver"][name] for name in names] == pytest.approx([6, 4.5, 0.5, 0])
    diagonal = np.sqrt(33**2 + 9**2 + 4.5**2)
    assert [rows["spleen"][name] for name in names] == pytest.approx([diagonal, diagonal, 0, 0])
    mean = [(6 + diagonal) / 2, (4.5 + diagonal) / 2, 0.25, 0]
    assert [rows[ALL_CLASSES][name] for name in names] == pytest.approx(mean)
    other = by_class(score_annotation(case, reference, ORGANS, annotation="reference", tolerance_mm=2.9))
    assert other["liver"]["nsd"] == 0


def test_annotation_that_is_ignored_everywhere():
    case = make_case(np.full((3, 1, 2, 2), 1 / 3), np.zeros((1, 2, 2)), np.full((1, 2, 2), ORGANS.ignore_label))
    row = by_class(score_annotation(case, case.reference, ORGANS, annotation="reference"))[ALL_CLASSES]
    assert all(np.isnan(row[name]) for name in METRICS)


def test_regions_are_events_that_overlap():
    probabilities = np.array([[[[0.9, 0.7, 0.2]]], [[[0.8, 0.1, 0.1]]]])
    case = make_case(probabilities, [[[2, 1, 0]]], [[[2, 1, 1]]])
    scores = score_annotation(case, case.reference, TUMOUR, annotation="reference")
    rows = by_class(scores)
    whole, core = np.log([0.9, 0.7, 0.2]), np.log([0.8, 0.9, 0.9])
    assert rows["whole"]["dice"] == pytest.approx(4 / 5)
    assert rows["core"]["dice"] == 1
    assert rows["whole"]["nll"] == pytest.approx(-whole.mean(), rel=1e-6)
    assert rows[ALL_CLASSES]["nll"] == pytest.approx(-(whole.mean() + core.mean()) / 2, rel=1e-6)
    brier = [0.01, 0.09, 0.64, 0.04, 0.01, 0.01]
    assert rows[ALL_CLASSES]["brier"] == pytest.approx(np.mean(brier), rel=1e-6)
    # max(p, 1 - p) of six events; the one at 0.2 is wrong with confidence 0.8.
    bins = metrics.reliability_bins(
        np.array([0.9, 0.7, 0.8, 0.8, 0.9, 0.9], dtype=np.float32), np.array([True, True, False, True, True, True])
    )
    np.testing.assert_array_equal(scores.bins[ALL_CLASSES].count, bins.count)
    assert rows[ALL_CLASSES]["ece"] == pytest.approx(metrics.expected_calibration_error(bins), rel=1e-5)


def test_foreground_calibration_of_several_classes_and_of_regions():
    convention = PRESETS["mixture_of_bases"]
    rng = np.random.default_rng(2)
    probabilities = rng.dirichlet([1] * 3, (1, 4, 5)).transpose(3, 0, 1, 2).astype(np.float32)
    reference = rng.integers(0, 3, (1, 4, 5))
    case = make_case(probabilities, probabilities.argmax(axis=0), reference)
    bins = score_annotation(case, case.reference, ORGANS, annotation="reference", convention=convention).bins
    foreground = metrics.reliability_bins(probabilities[1:].sum(axis=0), reference > 0, num_bins=50, closed="left")
    np.testing.assert_array_equal(bins[ALL_CLASSES].count, foreground.count)
    np.testing.assert_array_equal(bins[ALL_CLASSES].correct_sum, foreground.correct_sum)

    regions = np.array([[[[0.9, 0.7, 1.0]]], [[[0.8, 0.1, 0.1]]]])
    case = make_case(regions, [[[2, 1, 0]]], [[[2, 1, 1]]])
    scores = score_annotation(case, case.reference, TUMOUR, annotation="reference", convention=convention)
    # The six events: 0.9, 0.7 and 1 that happen, 0.8 that does, 0.1 twice that does not.
    gaps = np.array([0.1, 0.3, 0, 0.2, 0.1])
    weights = np.array([1, 1, 1, 1, 2]) / 6
    row = by_class(scores)[ALL_CLASSES]
    assert row["ece"] == pytest.approx(np.sqrt(weights @ gaps**2), rel=1e-5)
    assert row["mce"] == pytest.approx(0.3, rel=1e-5)
    assert scores.bins[ALL_CLASSES].count[50] == 1
