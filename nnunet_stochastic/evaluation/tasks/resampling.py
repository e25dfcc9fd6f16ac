"""What a task's bootstrap is computed from: results of the case sets, and how often each replicate draws each case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nnunet_stochastic.conventions import Convention
from nnunet_stochastic.evaluation.set_results import SetResults

__all__ = ["Resampled", "weighted_mean"]


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


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of (N,) with each replicate's weights (B, N), (B,); NaN values are left out."""
    known = np.isfinite(values)
    total = weights[:, known].sum(axis=1)
    return np.divide(weights[:, known] @ values[known], total, out=np.full(len(weights), np.nan), where=total > 0)
