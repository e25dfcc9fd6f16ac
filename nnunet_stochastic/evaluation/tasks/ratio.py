"""RATIO: mean EU over mean AU. Near 0 the epistemic part has collapsed, and TU is AU."""

from __future__ import annotations

import numpy as np

from nnunet_stochastic.collapse import COLLAPSED_BELOW
from nnunet_stochastic.evaluation.case_sets import ID, OOD
from nnunet_stochastic.evaluation.set_results import SetResults
from nnunet_stochastic.evaluation.tasks.resampling import Resampled
from nnunet_stochastic.evaluation.tasks.task import Task, TaskInputs, has_number, mean_of
from nnunet_stochastic.metrics import weighted_mean

__all__ = ["RATIO"]


def _of_set(inputs: TaskInputs, results: SetResults) -> float:
    aleatoric, epistemic = mean_of(results.image("AU")), mean_of(results.image("EU"))
    return epistemic / aleatoric if aleatoric > 0 else float("nan")


def _replicates(drawn: Resampled, name: str) -> np.ndarray:
    images, weights = drawn.sets[name], drawn.weights[name]
    aleatoric, epistemic = (weighted_mean(images.image(measure), weights) for measure in ("AU", "EU"))
    return np.divide(epistemic, aleatoric, out=np.full(len(weights), np.nan), where=aleatoric > 0)


RATIO = Task(
    name="RATIO",
    title="EU/AU",
    metric="EU/AU",
    direction=0,
    describe=lambda convention: "mean EU over mean AU, both means over images of image means",
    of_set=_of_set,
    has_number=lambda results: has_number(results.image("AU")) and has_number(results.image("EU")),
    lacking=lambda results: "it needs aleatoric and epistemic maps",
    compared=(ID, OOD),
    of_epistemic=True,
    warn=lambda value: "epistemic uncertainty has collapsed: TU is AU" if value < COLLAPSED_BELOW else "",
    decimals=4,
    replicates=_replicates,
)
