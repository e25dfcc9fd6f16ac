"""Scores of a structure that need the place of its voxels: distances of the surfaces in mm, and lesion-wise Dice.

    hd95_mm, assd_mm    95 % Hausdorff distance and average symmetric surface distance
    nsd                 normalised surface Dice at a tolerance in mm
    lesion_dice         mean over lesions, connected components of any size

A structure that is empty in both segmentations has none (NaN). One that is empty in one of them is as far off as can
be: the distances are the diagonal of the image, so that a missed structure is no better than a bad one, as in Metrics
reloaded, https://arxiv.org/abs/2206.01653; both kinds of Dice are 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_stochastic import metrics
from nnunet_stochastic.decisions.components import components, match_components

__all__ = ["STRUCTURE_METRICS", "SURFACE_TOLERANCE_MM", "structure_scores"]

#: Scores by name, and the direction in which each is better.
STRUCTURE_METRICS = {"hd95_mm": -1, "assd_mm": -1, "nsd": 1, "lesion_dice": 1}
#: Tolerance of the normalised surface Dice, mm.
SURFACE_TOLERANCE_MM = 2.0


def structure_scores(
    predicted: np.ndarray,
    reference: np.ndarray,
    *,
    spacing_mm: Sequence[float] | None,
    tolerance_mm: float = SURFACE_TOLERANCE_MM,
) -> dict[str, float]:
    """Scores of a structure, by the names of ``STRUCTURE_METRICS``.

    Parameters
    ----------
    predicted, reference
        Its voxels, (z, y, x), bool.
    spacing_mm
        Distance of neighbouring voxels along each axis, (3,), mm; without it there are no distances (NaN).
    tolerance_mm
        Tolerance of the normalised surface Dice, >= 0, mm.
    """
    hausdorff = average = nsd = float("nan")
    if spacing_mm is not None:
        distances = metrics.surface_distances(predicted, reference, spacing_mm=spacing_mm)
        hausdorff, average = distances.hausdorff_mm(), distances.average_mm()
        nsd = distances.normalised_dice(tolerance_mm)
        if distances.are_infinite:
            hausdorff = average = _diagonal_mm(predicted.shape, spacing_mm)
    box = metrics.bounding_box(predicted, reference)
    found, of_reference = (components(mask[box], voxel_ml=None) for mask in (predicted, reference))
    lesion_dice = metrics.lesion_dice(
        match_components(found, of_reference)[1],
        num_found=int(found.max(initial=0)),
        num_reference=int(of_reference.max(initial=0)),
    )
    return {"hd95_mm": hausdorff, "assd_mm": average, "nsd": nsd, "lesion_dice": lesion_dice}


def _diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Distance of the two voxels of an image that are the farthest apart, mm."""
    return float(np.linalg.norm((np.array(shape) - 1) * spacing_mm))
