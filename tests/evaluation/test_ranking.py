"""Ranks against scipy and against a small Table 2 by hand; Table 3 against the paper's own numbers.

The paper is Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation.
"""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nnunet_stochastic.evaluation.ranking import (
    ALL_DATASETS,
    DELTA,
    add_ranks,
    best_models,
    mean_ranks,
    over_seeds,
    student_half_width,
)


def rows(values, *, quantity="EU AUROC", task="OODD", split="ID and OOD", direction=1, dataset="D", seed="0"):
    """One row per model of {(aleatoric, epistemic): value}."""
    place = {"task": task, "split": split, "quantity": quantity, "direction": direction}
    return [
        {"dataset": dataset, "seed": seed, "aleatoric": model[0], "epistemic": model[1], **place, "value": value}
        for model, value in values.items()
    ]


MODELS = [("A", "none"), ("A", "swag"), ("B", "none"), ("B", "swag")]
FIRST, SECOND = MODELS[:2]


def table(*parts):
    return pd.DataFrame([row for part in parts for row in part])


@pytest.mark.parametrize("direction", [1, -1])
def test_ranks_with_ties(direction):
    values = [0.7, 0.9, 0.7, 0.1]
    found = add_ranks(table(rows(dict(zip(MODELS, values, strict=True)), direction=direction)))["rank"]
    assert found.tolist() == {1: [2.5, 1, 2.5, 4], -1: [2.5, 4, 2.5, 1]}[direction]
    np.testing.assert_array_equal(found, stats.rankdata(-direction * np.array(values)))


def test_ranks_are_within_dataset_and_seed_and_quantity():
    found = add_ranks(
        table(
            rows({FIRST: 0.1, SECOND: 0.2}),
            rows({FIRST: 0.9, SECOND: 0.8}, seed="1"),
            rows({FIRST: 0.3, SECOND: 0.4}, dataset="E"),
            rows({FIRST: 5.0, SECOND: 4.0}, quantity=DELTA),
        )
    )
    assert found["rank"].tolist() == [2, 1, 1, 2, 2, 1, 1, 2]


def test_missing_and_unranked_values_have_no_rank():
    values = rows(dict(zip(MODELS[:3], [0.2, math.nan, 0.1], strict=True)))
    values += rows({MODELS[3]: 0.9}, direction=0)
    np.testing.assert_array_equal(add_ranks(table(values))["rank"], [1, math.nan, 2, math.nan])


def test_bad_input():
    with pytest.raises(ValueError, match="there twice, the first for D, 0, A, none: OODD"):
        add_ranks(table(rows({FIRST: 0.1}), rows({FIRST: 0.2})))
    with pytest.raises(ValueError, match="direction must be"):
        add_ranks(table(rows({FIRST: 0.1}, direction=2)))
    with pytest.raises(ValueError, match="confidence"):
        student_half_width(np.arange(3.0), confidence=95)
    with pytest.raises(ValueError, match="margin"):
        best_models(pd.DataFrame(), margin=-1)


def small_table(*, without=()):
    """Mean ranks {(criterion, task): {model: rank}} of two models; ``without`` lists (model, task, split) with NaN."""
    parts = []
    for quantity, sign in (("performance", 1), (DELTA, -1)):
        for task, split in (("OODD", "ID and OOD"), ("AMB", "ID"), ("AMB", "OOD"), ("CAL", "ID"), ("CAL", "OOD")):
            # By performance the first model is best in AMB OOD alone; by Δ it is worst there alone.
            first = sign * (1.0 if (task, split) == ("AMB", "OOD") else -1.0)
            values = {FIRST: first, SECOND: 0.0}
            values |= {model: math.nan for model in (FIRST, SECOND) if (model, task, split) in without}
            parts.append(rows(values, quantity=quantity, task=task, split=split))
    means = mean_ranks(add_ranks(table(*parts)))
    ranks = {}
    for row in means.itertuples():
        ranks.setdefault((row.criterion, row.task), {})[row.aleatoric, row.epistemic] = row.rank
    return ranks


def test_mean_over_splits_then_over_tasks():
    ranks = small_table()
    assert [ranks["performance", task][FIRST] for task in ("OODD", "AMB", "CAL")] == [2, 1.5, 2]
    assert ranks["performance", "overall"][FIRST] == pytest.approx(5.5 / 3)
    assert ranks["performance", "overall"][SECOND] == pytest.approx(3.5 / 3)
    assert ranks["delta", "overall"][FIRST] == pytest.approx(3.5 / 3)
    assert ranks["both", "CAL"][FIRST] == 1.5
    assert ranks["both", "overall"][FIRST] == pytest.approx(1.5)


def test_a_run_that_lacks_a_split_has_no_mean_rank_of_the_task():
    ranks = small_table(without=[(FIRST, "AMB", "OOD")])
    for task in ("AMB", "overall"):
        for criterion in ("performance", "delta", "both"):
            assert math.isnan(ranks[criterion, task][FIRST])
    assert ranks["performance", "CAL"][FIRST] == 2
    assert ranks["performance", "AMB"][SECOND] == 1
    assert ranks["performance", "overall"][SECOND] == 1


def test_a_task_that_no_run_has_is_left_out_of_the_mean():
    ranks = small_table(without=[(model, "CAL", split) for model in MODELS for split in ("ID", "OOD")])
    assert ranks["performance", "overall"][FIRST] == pytest.approx((2 + 1.5) / 2)
    assert ("performance", "CAL") not in ranks


def test_student_interval():
    values = np.array([7.4, 5.2, 6.5, 8.0, 9.1])
    interval = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
    assert student_half_width(values) == pytest.approx((interval[1] - interval[0]) / 2)
    assert student_half_width([1.0, 2.0]) == pytest.approx(12.7062 / 2, rel=1e-4)
    assert student_half_width([1.0, math.nan, 2.0]) == student_half_width([1.0, 2.0])
    assert student_half_width([3.0, 3.0, 3.0]) == 0
    assert math.isnan(student_half_width([1.0, math.nan]))


def test_over_seeds():
    frame = pd.DataFrame(
        {"model": ["x", "x", "y", "y", "z"], "seed": list("01010"), "rank": [1.0, 2.0, 4.0, math.nan, math.nan]}
    )
    found = over_seeds(frame, "rank").set_index("model")
    assert found["mean"].tolist()[:2] == [1.5, 4]
    assert found["num_seeds"].tolist() == [2, 1, 0]
    assert found.loc["x", "half_width"] == pytest.approx(6.3531, rel=1e-4)
    assert found.loc["x", "sd"] == pytest.approx(0.707107, rel=1e-5)
    assert found.loc[["y", "z"], ["half_width", "sd"]].isna().all(axis=None)
    assert math.isnan(found.loc["z", "mean"])


# Table 2 of the paper without the rows that are in no cell of Table 3: (performance, Δ) on LIDC and Chaksu.
PAPER = {
    ("Softmax", "ensemble"): ((3.0, 5.0), (7.7, 5.9)),
    ("SSN", "ensemble"): ((6.3, 3.5), (6.8, 6.8)),
    ("ProbUNet", "ensemble"): ((6.7, 3.5), (5.7, 5.9)),
    ("Diffusion", "ensemble"): ((6.5, 14.7), (6.5, 10.5)),
    ("Softmax", "dropout"): ((9.8, 7.4), (12.0, 9.3)),
    ("SSN", "dropout"): ((5.8, 5.2), (11.5, 8.9)),
}


def paper_means():
    records = []
    for model, criteria in PAPER.items():
        both = tuple(np.mean(criteria, axis=0))
        for criterion, ranks in zip(("performance", "delta", "both"), (*criteria, both), strict=True):
            for dataset, rank in zip(("LIDC", "Chaksu"), ranks, strict=True):
                records.append((dataset, *model, criterion, "overall", rank))
    return pd.DataFrame(records, columns=["dataset", "aleatoric", "epistemic", "criterion", "task", "mean"])


def listed(best, dataset, criterion):
    chosen = best[(best["dataset"] == dataset) & (best["criterion"] == criterion) & best["listed"]]
    return list(zip(chosen["aleatoric"], chosen["epistemic"], strict=True))


def test_best_models_are_those_of_the_papers_overall_row():
    best = best_models(paper_means())
    assert listed(best, ALL_DATASETS, "performance") == [("Softmax", "ensemble")]
    assert listed(best, ALL_DATASETS, "delta") == [("ProbUNet", "ensemble")]
    assert listed(best, ALL_DATASETS, "both") == [("Softmax", "ensemble"), ("ProbUNet", "ensemble")]
    assert listed(best, "Chaksu", "performance") == [("SSN", "ensemble"), ("ProbUNet", "ensemble")]


def test_over_all_datasets_only_models_that_are_in_each():
    means = paper_means()
    means.loc[(means["dataset"] == "LIDC") & (means["aleatoric"] == "Softmax"), "mean"] = math.nan
    best = best_models(means)
    assert listed(best, ALL_DATASETS, "performance") == [("SSN", "ensemble"), ("ProbUNet", "ensemble")]
    assert listed(best, "Chaksu", "performance")[0] == ("SSN", "ensemble")
    assert not ((best["dataset"] == ALL_DATASETS) & (best["aleatoric"] == "Softmax")).any()
    assert ALL_DATASETS not in set(best_models(means[means["dataset"] == "LIDC"])["dataset"])


def test_margin():
    means = paper_means()
    assert len(listed(best_models(means, margin=0), ALL_DATASETS, "both")) == 1
    assert listed(best_models(means, margin=1), ALL_DATASETS, "both") == [
        ("Softmax", "ensemble"),
        ("ProbUNet", "ensemble"),
        ("SSN", "ensemble"),
    ]
