"""Map to image scores: the five ways of ``conventions.AGGREGATIONS``."""

from __future__ import annotations

import numpy as np

from nnunet_stochastic import metrics
from nnunet_stochastic.conventions import Aggregation

__all__ = ["image_scores"]


def image_scores(
    uncertainty: np.ndarray, prediction: np.ndarray, *, threshold: float | None = None
) -> dict[Aggregation, float]:
    """Scores of an image, in nats (area and border: nats per voxel or pair of voxels).

    Parameters
    ----------
    uncertainty
        Map, (z, y, x).
    prediction
        Label map, (z, y, x), integer.
    threshold
        Threshold in nats; without one there is no threshold score (NaN).
    """
    return {
        "mean": metrics.image_mean(uncertainty),
        "patch": metrics.patch_maximum(uncertainty),
        "threshold": float("nan") if threshold is None else metrics.mean_above(uncertainty, threshold),
        "area": metrics.per_area(uncertainty, prediction),
        "border": metrics.per_border(uncertainty, prediction),
    }
