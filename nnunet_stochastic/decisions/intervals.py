"""Intervals of the numbers of a judgement, 95 % percentile intervals of a bootstrap over patients.

Who judges hands in how often each replicate draws each case, since cases of several sets are drawn together. A
replicate in which a number does not exist is left out; there is no interval, None, where none has it or all have the
same (``metrics.resampling``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from nnunet_stochastic.metrics import percentile_interval

__all__ = ["CaseWeights", "intervals_of", "weights_of"]

#: How often each replicate of a bootstrap draws a case, (B,), integers, by name of the case.
CaseWeights = Mapping[str, np.ndarray]


def weights_of(weights: CaseWeights, cases: Iterable[str]) -> np.ndarray:
    """Weights of N cases, (B, N); one case at least."""
    return np.stack([weights[case] for case in cases], axis=1)


def intervals_of(replicates: Mapping[str, np.ndarray]) -> dict[str, list[float] | None]:
    """Interval of each number from its replicates (B,), None where there is none."""
    found = {name: percentile_interval(values) for name, values in replicates.items()}
    return {name: None if np.isnan(ends).any() else list(ends) for name, ends in found.items()}
