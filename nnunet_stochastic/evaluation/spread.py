"""How much raters and samples spread: what a model is measured against, and whether its volumes cover the raters'.

Numbers of a case, means over classes; of a set their means over cases. They rank nothing: the raters' are the row of
reference in tables, and a coverage is good where it is near ``COVERAGE_LEVEL``.

    rater_dice              mean Dice of the pairs of raters
    rater_ged_DISTANCE      GED of a single rater's mask from all raters, mean over the raters
    rater_volume_spread     sd over mean of the raters' volumes
    sample_volume_spread    the same of the samples
    volume_coverage         share of the annotations' volumes in the samples' interval of ``COVERAGE_LEVEL``
"""

from __future__ import annotations

import numpy as np

from nnunet_stochastic import metrics
from nnunet_stochastic.evaluation.case_inputs import CaseInputs

__all__ = ["COVERAGE_LEVEL", "case_spread"]

COVERAGE_LEVEL = 0.9


def case_spread(inputs: CaseInputs) -> dict[str, float]:
    """Numbers of a case by name; those that do not exist are left out."""
    labels, annotations, samples = inputs.labels, inputs.case.annotations, inputs.samples
    if not annotations:
        return {}
    valid = labels.annotated(annotations)
    masks, sampled = np.stack(annotations)[:, valid], samples[:, valid]
    volumes = {
        name: [[np.count_nonzero(labels.target(one, index)) for one in group] for index in range(len(labels.names))]
        for name, group in (("rater", masks), ("sample", sampled))
    }
    found = {
        f"{name}_volume_spread": _mean([metrics.volume_spread(np.array(of_class)) for of_class in of_classes])
        for name, of_classes in volumes.items()
    }
    found["volume_coverage"] = _mean(
        [
            metrics.interval_coverage(np.array(of_samples), np.array(of_raters), level=COVERAGE_LEVEL)
            for of_raters, of_samples in zip(volumes["rater"], volumes["sample"], strict=True)
        ]
    )
    if len(inputs.case.raters) > 1:
        found["rater_dice"] = metrics.pairwise_dice(masks, labels.classes, num_labels=labels.num_labels)
        geds = [metrics.generalized_energy_distance(mask[None], masks, classes=labels.classes) for mask in masks]
        found |= {f"rater_ged_{name}": float(np.mean([ged[name] for ged in geds])) for name in geds[0]}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _mean(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
