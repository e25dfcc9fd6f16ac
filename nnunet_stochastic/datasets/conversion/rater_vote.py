"""One label of several raters: y_1 … y_A ∈ {0 … L} at each voxel become y, by a `Rule`.

majority       the class with the most votes, ties by `Ties`
union          background where all say so, else the foreground class with the most votes, ties by `Ties`
intersection   background where any rater says so, else as union
first          the first rater's
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from nnunet_stochastic.datasets.conversion.common import Ties, majority_vote
from nnunet_stochastic.io.names import shown

__all__ = ["Rule", "Vote", "vote"]

Rule = Literal["majority", "union", "intersection", "first"]
_TIES = {
    "lowest": "the lowest foreground label",
    "highest": "the highest foreground label",
    "background": "background, then to the lowest label",
}


@dataclass(frozen=True)
class Vote:
    """How a label is made of the raters."""

    rule: Rule = "majority"
    ties: Ties = "lowest"

    def __post_init__(self) -> None:
        for value, kind in ((self.rule, Rule), (self.ties, Ties)):
            if value not in get_args(kind):
                raise ValueError(f"{shown(value)} must be one of {', '.join(get_args(kind))}")

    def __str__(self) -> str:
        if self.rule == "first":
            return "the first rater's mask"
        what = {
            "majority": "the class with most votes at a voxel",
            "union": "foreground where at least one rater says so, of several classes the one with most votes",
            "intersection": "foreground where all raters say so, of several classes the one with most votes",
        }[self.rule]
        return f"{what}; ties to {_TIES[self.ties]}"


def vote(raters: np.ndarray, num_classes: int, how: Vote) -> np.ndarray:
    """The label at each voxel, as the module says.

    Parameters
    ----------
    raters
        Labels, integers (A, *S).
    num_classes
        Number C of classes; labels are 0 to C - 1.
    how
        Rule and ties.

    Returns
    -------
    ndarray
        uint8, (*S).
    """
    if how.rule == "first":
        return raters[0].astype(np.uint8)
    if how.rule == "majority":
        return majority_vote(raters, num_classes, ties=how.ties)
    # Class -1 has no votes, so background wins only where nobody saw anything.
    foreground = majority_vote(np.where(raters == 0, -1, raters.astype(np.int16)), num_classes, ties=how.ties)
    if how.rule == "intersection":
        foreground[(raters == 0).any(axis=0)] = 0
    return foreground
