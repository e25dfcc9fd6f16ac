"""VOLUME: error of the sampled volumes of each class, CRPS in ml."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nnunet_stochastic import metrics
from nnunet_stochastic.evaluation.case_inputs import CaseInputs
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks.resampling import Resampled
from nnunet_stochastic.evaluation.tasks.task import Task, TaskInputs, mean_of, reason

__all__ = ["VOLUME"]

NAME = "VOLUME"


def _of_classes(inputs: CaseInputs) -> dict[str, float]:
    """CRPS in ml by class, mean over annotations; nothing without samples or annotations, or of a 2D image."""
    case, labels = inputs.case, inputs.labels
    if case.voxel_ml is None or not len(inputs.samples) or not case.annotations:
        return {}
    number = len(inputs.samples)
    crps = {}
    for name, voxels in zip(labels.names, np.diagonal(inputs.overlaps, axis1=1, axis2=2), strict=True):
        predicted, observed = case.voxel_ml * voxels[:number], case.voxel_ml * voxels[number:]
        crps[name] = float(np.mean([metrics.crps_samples(predicted, volume) for volume in observed]))
    return crps


def _table(results: SetResults) -> pd.DataFrame:
    """A row per case, a column per class."""
    return pd.DataFrame(list(results.by_class[NAME].values())).astype(np.float64)


def _replicates(drawn: Resampled, name: str) -> dict[str, np.ndarray]:
    table, weights = _table(drawn.sets[name]), drawn.weights[name]
    return {str(each): metrics.weighted_mean(values.to_numpy(), weights) for each, values in table.items()}


def _of_set(inputs: TaskInputs, results: SetResults) -> dict[str, float]:
    table = _table(results)
    return {str(name): mean_of(values.to_numpy()) for name, values in table.items()}


VOLUME = Task(
    name=NAME,
    title="volume CRPS (ml)",
    metric="CRPS in ml",
    direction=-1,
    describe=lambda convention: (
        "CRPS of the samples' volume against each rater's (the reference's where there are no raters), "
        "in ml, mean over raters and cases"
    ),
    of_set=_of_set,
    has_number=lambda results: any(results.by_class.get(NAME, {}).values()),
    lacking=lambda results: reason(
        results, "2D images have no volume, nor have those without a known spacing", samples=True
    ),
    needs=("samples",),
    by_class=True,
    class_key="crps_ml",
    of_classes=_of_classes,
    replicates=_replicates,
)
