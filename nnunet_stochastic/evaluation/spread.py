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
    if not inputs.case.annotations:
        return {}
    overlaps, number = inputs.overlaps, len(inputs.samples)
    voxels = np.diagonal(overlaps, axis1=1, axis2=2)
    samples, raters = voxels[:, :number], voxels[:, number:]
    found = {
        "rater_volume_spread": _mean([metrics.volume_spread(of_class) for of_class in raters]),
        "sample_volume_spread": _mean([metrics.volume_spread(of_class) for of_class in samples]),
        "volume_coverage": _mean(
            [
                metrics.interval_coverage(of_samples, of_raters, level=COVERAGE_LEVEL)
                for of_samples, of_raters in zip(samples, raters, strict=True)
            ]
        ),
    }
    if len(inputs.case.raters) > 1:
        own = overlaps[:, number:, number:]
        found["rater_dice"] = metrics.pairwise_dice(own)
        geds = [metrics.energy_distance_of_counts(own, slice(i, i + 1), slice(None)) for i in range(own.shape[1])]
        found |= {f"rater_ged_{name}": float(np.mean([ged[name] for ged in geds])) for name in geds[0]}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _mean(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
