"""Scores of a set of cases -> means over cases, and calibration errors of the whole set.

Against the reference: mean over cases. Against the raters: mean over the raters of a case, then over cases. A missing
value (Dice of a class empty in both maps) is left out of means. ECE and MCE over the set pool all voxels of all
cases, and of all raters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import Convention
from nnunet_stochastic.evaluation.results import SetResults
from nnunet_stochastic.evaluation.scores import ALL_CLASSES, MEANS_OF_CLASSES, METRICS, RATERS, REFERENCE
from nnunet_stochastic.labels import EvaluatedLabels

__all__ = ["summarise", "summary_replicates"]


def summarise(results: SetResults, labels: EvaluatedLabels, convention: Convention) -> Mapping[str, Any]:
    """Means by annotation group (``reference``, ``raters``) and class, and calibration errors of the set.

    A set without annotations has none.
    """
    summary = {}
    for group, per_case in _scores_of_cases(results).items():
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


def summary_replicates(
    results: SetResults, labels: EvaluatedLabels, convention: Convention, weights: np.ndarray
) -> dict[str, Any]:
    """The numbers of ``summarise`` in each replicate of a bootstrap, (B,), in the same places.

    Parameters
    ----------
    results, labels, convention
        Those of ``summarise``.
    weights
        How often each replicate draws each case, (B, N).
    """
    found: dict[str, Any] = {}
    for group, per_case in _scores_of_cases(results).items():
        of_class = {name: per_case.loc[name].reindex(results.cases) for name in (ALL_CLASSES, *labels.names)}
        means = {
            name: {metric: metrics.weighted_mean(table[metric].to_numpy(), weights) for metric in METRICS}
            for name, table in of_class.items()
        }
        for metric in MEANS_OF_CLASSES:
            means[ALL_CLASSES][metric] = metrics.mean_of_known([means[name][metric] for name in labels.names])
        found[group] = {}
        for name, of_metrics in means.items():
            errors = metrics.calibration_errors_bootstrap(
                results.case_reliability[group][name], weights, norm=convention.ece_norm
            )
            found[group][name] = {"mean": of_metrics, "dataset": {"ece": errors.expected, "mce": errors.maximum}}
    return found


def _scores_of_cases(results: SetResults) -> dict[str, pd.DataFrame]:
    """Scores by annotation group: a row per class and case, means over the annotations."""
    rows = results.rows
    groups = {REFERENCE: rows[rows["annotation"] == REFERENCE], RATERS: rows[rows["annotation"] != REFERENCE]}
    return {
        group: table.groupby(["class", "case"])[list(METRICS)].mean()
        for group, table in groups.items()
        if not table.empty
    }


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if pd.isna(value) else float(value)
