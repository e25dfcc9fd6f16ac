"""What a bootstrap is computed from: results of the case sets, and how often each replicate draws each case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nnunet_stochastic.conventions import Aggregation, Convention
from nnunet_stochastic.evaluation.set_results import SetResults

__all__ = ["Resampled", "of_aggregation", "of_border"]


@dataclass(frozen=True)
class Resampled:
    """Case sets and the replicates of a bootstrap.

    Attributes
    ----------
    sets
        Results by name of the set.
    weights
        How often each of B replicates draws each of N cases, (B, N), integers, by name of the set.
    convention
        The preset.
    """

    sets: Mapping[str, SetResults]
    weights: Mapping[str, np.ndarray]
    convention: Convention


def of_border(drawn: Resampled) -> Resampled:
    """The same replicates without the images in which no border is predicted."""
    weights = {name: weights * drawn.sets[name].has_border for name, weights in drawn.weights.items()}
    return replace(drawn, weights=weights)


def of_aggregation(drawn: Resampled, aggregation: Aggregation) -> Resampled:
    """The same replicates with the image scores of another aggregation."""
    return replace(drawn, convention=replace(drawn.convention, aggregation=aggregation))
