"""How often something held, and how sure that is: the patient is the unit, of several cases their mean counts.

Intervals are Clopper-Pearson's at 95 % with the patients as trials, of a number of hits that need not be whole: a
patient of whom half is covered counts as half a hit. Such a mean varies less than one of hits and misses, so that the
interval is no shorter than it must be. Clopper and Pearson, The use of confidence or fiducial limits, Biometrika 1934.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import beta

from nnunet_stochastic.decisions.risk_control import mean_by_patient

__all__ = ["binomial_interval", "coverage_by_patient"]


def binomial_interval(share: float, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a share of the trials, which need be no whole number of them."""
    hits, tail = share * trials, (1 - level) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


def coverage_by_patient(shares: Sequence[float], patients: Sequence[str]) -> dict[str, Any]:
    """Mean over patients of the mean of their cases' shares, its interval and what it rests on.

    Parameters
    ----------
    shares
        Of each case, the share of its annotations that were covered, in [0, 1]; at least one case.
    patients
        Patient of each case.
    """
    by_patient = mean_by_patient(np.asarray(shares, dtype=np.float64), patients)
    coverage = float(by_patient.mean())
    return {
        "coverage": coverage,
        "interval": list(binomial_interval(coverage, len(by_patient))),
        "num_cases": len(shares),
        "num_patients": len(by_patient),
    }
