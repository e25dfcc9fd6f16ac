"""Scores of a set of cases -> means over cases, and calibration errors of the whole set.

Against the reference: mean over cases. Against the raters: mean over the raters of a case, then over cases. A missing
value (Dice of a class empty in both maps) is left out of means. ECE and MCE over the set pool all voxels of all
cases, and of all raters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import Convention
from nnunet_stochastic.evaluation.results import SetResults
from nnunet_stochastic.evaluation.scores import ALL_CLASSES, MEANS_OF_CLASSES, METRICS, RATERS, REFERENCE
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = ["summarise"]


def summarise(results: SetResults, labels: EvaluatedLabels, convention: Convention) -> Mapping[str, Any]:
    """Means by annotation group (``reference``, ``raters``) and class, and calibration errors of the set.

    A set without annotations has none.
    """
    rows = results.rows
    groups = {REFERENCE: rows[rows["annotation"] == REFERENCE], RATERS: rows[rows["annotation"] != REFERENCE]}
    summary = {}
    for group, table in groups.items():
        if table.empty:
            continue
        per_case = table.groupby(["class", "case"])[list(METRICS)].mean()
        means = per_case.groupby("class").mean()
        # As nnU-Net's foreground mean: over classes of the means over cases.
        of_classes = list(MEANS_OF_CLASSES)
        means.loc[ALL_CLASSES, of_classes] = means.loc[list(labels.names), of_classes].mean()
        bins = results.reliability[group]
        summary[group] = {
            name: {
                "mean": {metric: _number(means.loc[name, metric]) for metric in METRICS},
                "dataset": {
                    "ece": _number(metrics.expected_calibration_error(bins[name], norm=convention.ece_norm)),
                    "mce": _number(metrics.maximum_calibration_error(bins[name])),
                },
            }
            for name in (ALL_CLASSES, *labels.names)
        }
    return summary


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if pd.isna(value) else float(value)
