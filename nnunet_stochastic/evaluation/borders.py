"""Images without a predicted border: their score is a sum over the image, divided by 1 and not by a border's length.

Such a score can be thousands of times that of other images and decide an AUROC by itself, so the evaluation counts
these images and gives the numbers of the others as well. Evaluations of older versions do neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_stochastic.conventions import NORMALISED
from nnunet_stochastic.evaluation.evaluated_run import EvaluatedRun
from nnunet_stochastic.evaluation.tasks import OUT_OF_DISTRIBUTION

__all__ = ["WITH_BORDER", "describe_images_without_border", "images_without_border"]

#: Entry of the task in summary.json that has the AUROC of the images with a predicted border alone.
WITH_BORDER = "auroc_with_border"


def images_without_border(entry: Mapping[str, Any]) -> dict[str, int]:
    """Number of images by set whose score in a task is a plain sum, without zeros; given its entry in summary.json."""
    if entry.get("aggregation") not in NORMALISED:
        return {}
    return {name: number for name, number in entry.get("num_without_border", {}).items() if number}


def describe_images_without_border(run: EvaluatedRun) -> str:
    """The numbers in words; empty where there are none."""
    found = images_without_border(run.entry(OUT_OF_DISTRIBUTION.name))
    listed = ", ".join(f"{number} of {len(run.cases.get(name, ()))} of {name}" for name, number in found.items())
    return f"{listed} without a predicted border, whose score is a sum divided by 1" if found else ""
