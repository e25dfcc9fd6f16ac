"""Scores of all cases -> one table, means over cases, and calibration errors of the whole data set.

Against the reference: mean over cases. Against the raters: mean over the raters of a case, then over cases. A missing
value (Dice of a class empty in both maps) is left out of means. ECE and MCE over the data set pool all voxels of all
cases, and of all raters.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from nnunet_stochastic import metrics
from nnunet_stochastic.evaluation.labels import EvaluatedLabels
from nnunet_stochastic.evaluation.scores import ALL_CLASSES, METRICS, REFERENCE, AnnotationScores

__all__ = ["CONVENTIONS", "RATERS", "Evaluation", "summarise"]

RATERS = "raters"
COLUMNS = ("case", "annotation", "class", *METRICS, "reference_voxels", "predicted_voxels")

CONVENTIONS = {
    "voxels": "all voxels of the original image, background included; ignore label left out",
    "dice": "segmentation file against annotation; NaN (null) where a class is empty in both; means leave NaN out; "
    "all classes: mean over foreground classes",
    "nll": "-ln of the predictive mean at the label, nats, mean over voxels, floor 1e-8 in float64; "
    "class: one against the rest; regions: mean over regions",
    "brier": "all classes: sum over classes of the squared error, mean over voxels (0 to 2); "
    "class: one against the rest (0 to 1); regions: mean over regions",
    "ece": "bins of equal width on [0, 1], right-closed, weighted by counts; all classes: confidence of the predicted "
    "class (arg max; regions: max(p, 1 - p), pooled over regions); class: p against belonging to the class",
    "mce": "largest gap of a non-empty bin of the same diagram",
    "mean": "over cases; against raters first over the raters of a case",
    "dataset": "ece and mce from the bins of all cases (and raters) together",
}


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation.

    Attributes
    ----------
    rows
        One row per case, annotation and class.
    bins
        Reliability bins over all cases, per annotation (``reference``, ``raters``) and class.
    summary
        What summary.json holds.
    """

    rows: pd.DataFrame
    bins: dict[str, dict[str, metrics.ReliabilityBins]]
    summary: dict


def summarise(cases: Sequence[dict[str, AnnotationScores]], labels: EvaluatedLabels, *, num_bins: int) -> Evaluation:
    """Pool the scores of cases, one dictionary of ``score_case`` each, in the order given."""
    scores = [annotation for case in cases for annotation in case.values()]
    rows = pd.DataFrame([row for annotation in scores for row in annotation.rows], columns=list(COLUMNS))
    groups = {REFERENCE: rows[rows["annotation"] == REFERENCE], RATERS: rows[rows["annotation"] != REFERENCE]}
    members = {
        REFERENCE: [case[REFERENCE] for case in cases],
        RATERS: [scores for case in cases for name, scores in case.items() if name != REFERENCE],
    }
    names = (ALL_CLASSES, *labels.names)
    bins: dict[str, dict[str, metrics.ReliabilityBins]] = {}
    results = {}
    for group, table in groups.items():
        if table.empty:
            continue
        per_case = table.groupby(["class", "case"])[list(METRICS)].mean()
        means = per_case.groupby("class").mean()
        # As nnU-Net's foreground mean: over classes of the means over cases.
        means.loc[ALL_CLASSES, "dice"] = means.loc[list(labels.names), "dice"].mean()
        bins[group] = {
            name: functools.reduce(operator.add, [annotation.bins[name] for annotation in members[group]])
            for name in names
        }
        results[group] = {
            name: {
                "mean": {metric: _number(means.loc[name, metric]) for metric in METRICS},
                "dataset": {
                    "ece": _number(metrics.expected_calibration_error(bins[group][name])),
                    "mce": _number(metrics.maximum_calibration_error(bins[group][name])),
                },
            }
            for name in names
        }
    summary = {
        "conventions": CONVENTIONS,
        "num_bins": num_bins,
        "num_cases": len(cases),
        "num_raters": len(cases[0]) - 1,
        "results": results,
    }
    return Evaluation(rows, bins, summary)


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if pd.isna(value) else float(value)
