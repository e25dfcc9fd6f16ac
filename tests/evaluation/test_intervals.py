"""Intervals at the places of the numbers: as of tables whose rows are written out as often as they are drawn."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nnunet_stochastic.conventions import PRESETS
from nnunet_stochastic.evaluation.bootstrap import resample
from nnunet_stochastic.evaluation.intervals import summary_intervals
from nnunet_stochastic.evaluation.scores import ALL_CLASSES, METRICS
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.summary import summarise
from nnunet_stochastic.evaluation.tasks import compute_tasks
from nnunet_stochastic.labels import EvaluatedLabels
from nnunet_stochastic.metrics import ReliabilityBins

LABELS = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "a": 1, "b": 2}})
NAMES = (ALL_CLASSES, "a", "b")
NUM_REPLICATES = 12
GEDS = ("ged_iou", "ged_dice", "ged_pooled_dice")
COLUMNS = ("mean", "patch", "threshold", "area", "border", "ncc", "ace")
COLUMNS += ("filtered_dice", "filtered_tp", "filtered_tn", "filter_score")


def made(name, cases, seed):
    """Results of cases with two raters each; of some a Dice, a border or a map's number does not exist."""
    rng = np.random.default_rng(seed)
    annotations = ("reference", "rater0", "rater1")
    places = [(case, annotation, each) for case in cases for annotation in annotations for each in NAMES]
    rows = pd.DataFrame(places, columns=["case", "annotation", "class"]).assign(set=name)
    rows = rows.assign(**{metric: rng.random(len(rows)) for metric in METRICS})
    rows.loc[(rows["case"] == cases[0]) & (rows["class"] == "b"), "dice"] = np.nan
    images = pd.DataFrame({"set": name, "case": cases, "dice": rng.uniform(0.4, 1, len(cases))})
    images["risk"] = 1 - images["dice"]
    images = images.assign(**{column: rng.random(len(cases)) for column in (*GEDS, "AU", "EU", "TU", "volume_ml")})
    images["border_length"] = np.where(np.arange(len(cases)) == 1, 0, 9)
    images.loc[2, ["dice", "risk"]] = np.nan
    scores = pd.DataFrame([{"set": name, "case": case, "measure": m} for case in cases for m in ("AU", "EU", "TU")])
    scores = scores.assign(**{column: rng.random(len(scores)) for column in COLUMNS})
    count = rng.integers(0, 9, (2, len(NAMES), len(cases), 15))
    bins = np.stack([count, count * rng.random(count.shape), rng.binomial(count, 0.6)], axis=3).astype(float)
    case_reliability = {
        group: {each: bins[g, c] for c, each in enumerate(NAMES)} for g, group in enumerate(("reference", "raters"))
    }
    count = rng.integers(0, 9, (3, len(cases), 20))
    confidence = np.stack([count, count * rng.random(count.shape), rng.binomial(count, 0.7)], axis=2).astype(float)
    by_class = {
        "VOLUME": {case: {"a": rng.random(), "b": rng.random()} for case in cases},
        "CURVAS": {case: {each: {"soft_dice": rng.random()} for each in NAMES} for case in cases},
        "DECISIONS": {},
    }
    return with_sums(
        SetResults(
            name, rows, images, scores, by_class, {}, dict(zip(("AU", "EU", "TU"), confidence, strict=True)),
            case_reliability=case_reliability, case_spread={"dice_of_raters": rng.random(len(cases))},
            num_raters=2, num_samples=3, has_reference=True,
        )
    )  # fmt: skip


def with_sums(results):
    sums = {
        group: {each: ReliabilityBins(*(of.sum(axis=0) * [[1]])) for each, of in classes.items()}
        for group, classes in results.case_reliability.items()
    }
    spread = {name: float(np.mean(values)) for name, values in results.case_spread.items()}
    return replace(results, reliability=sums, spread=spread)


def written_out(results, drawn):
    """Each case as often as it was drawn, under names of its own."""
    places = np.repeat(np.arange(len(drawn)), drawn)
    names = [f"{results.cases[place]}_{copy}" for copy, place in enumerate(places)]

    drawn_cases = dict(zip(names, (results.cases[place] for place in places), strict=True))

    def table(rows):
        of_case = dict(iter(rows.groupby("case")))
        parts = [of_case[case].assign(case=name) for name, case in drawn_cases.items()]
        return pd.concat(parts, ignore_index=True)

    by_class = {
        task: {name: found[case] for name, case in drawn_cases.items()} if found else {}
        for task, found in results.by_class.items()
    }
    return with_sums(
        replace(
            results,
            rows=table(results.rows),
            images=table(results.images),
            scores=table(results.scores),
            by_class=by_class,
            confidence={measure: bins[places] for measure, bins in results.confidence.items()},
            case_reliability={
                group: {each: bins[places] for each, bins in classes.items()}
                for group, classes in results.case_reliability.items()
            },
            case_spread={name: values[places] for name, values in results.case_spread.items()},
        )
    )


def numbers(sets, convention):
    tasks, _ = compute_tasks(sets, convention, num_samples=3, calibrated=True, raters=True)
    return {
        "results": summarise(sets[0], LABELS, convention),
        "set_results": {shift.name: summarise(shift, LABELS, convention) for shift in sets[1:]},
        "spread": {results.name: results.spread for results in sets},
        "tasks": tasks,
    }


def leaves(tree, path=()):
    if isinstance(tree, dict):
        for key, found in tree.items():
            yield from leaves(found, (*path, key))
    else:
        yield path, tree


def without_words(tree):
    """Numbers by path, without what has no interval: curves, counts and words."""
    counts = {"num_without_border", "num_samples", "failure_dice", "curves"}
    return {
        path: np.nan if value is None else value
        for path, value in leaves(tree)
        if not counts & set(path) and not isinstance(value, str)
    }


@pytest.fixture(scope="module")
def sets():
    cases = [f"case{index}" for index in range(9)]
    return [made("ID", cases, 0), made("blur", cases[:6], 1), made("site", list("uvwxyz"), 2)]


@pytest.mark.parametrize("preset", ["entanglement", "curvas"])
def test_every_number_has_the_interval_of_its_replicates(sets, preset):
    convention = PRESETS[preset]
    found = numbers(sets, convention)
    drawn = resample(sets, convention, seed=4, num_replicates=NUM_REPLICATES)
    intervals = dict(leaves(summary_intervals(found["tasks"], drawn, LABELS)))
    replicates = []
    for replicate in range(NUM_REPLICATES):
        copies = [written_out(results, drawn.weights[results.name][replicate]) for results in sets]
        replicates.append(without_words(numbers(copies, convention)))
    values = without_words(found)
    known = {path for path, value in values.items() if np.isfinite(value)}
    assert len(known) > 150
    assert {("tasks", "FD", "ID", "EU", "failure_auroc"), ("tasks", "OODD", "aggregations", "mean", "AU")} <= known
    for path in known:
        of_path = np.array([each.get(path, np.nan) for each in replicates])
        of_path = of_path[np.isfinite(of_path)]
        varies = np.ptp(of_path) > 1e-12
        expected = np.quantile(of_path, [0.025, 0.975]) if varies else [np.nan] * 2
        np.testing.assert_allclose(intervals[path], expected, rtol=1e-9, atol=1e-12, err_msg="/".join(path))


def test_one_patient_has_no_interval(sets):
    convention = PRESETS["entanglement"]
    patients = {case: "one" for results in sets for case in results.cases}
    drawn = resample(sets, convention, patients=patients, num_replicates=20)
    found = summary_intervals(numbers(sets, convention)["tasks"], drawn, LABELS)
    assert all(np.isnan(interval).all() for _, interval in leaves(found))
