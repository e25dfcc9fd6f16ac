"""What N whole samples of a case can tell, as uncertainty.json says it.

    an outcome of probability q is in none of them with     (1 - q)^N
    so that fewer than a share r miss it, take              N > ln r / ln(1 - q)
    and what is missed with r at least is rarer than        q = 1 - r^(1/N)
    smallest to largest hold a further sample with          (N - 1) / (N + 1), so level L takes N >= (1 + L) / (1 - L)
    from the p-th to the (100 - p)-th percentile, with      1 - 2 (1 + p (N - 1) / 100) / (N + 1)

The last is that of percentiles with linear interpolation between samples whose quantiles are uniform; both of
intervals hold for outcomes without ties, such as volumes. (Wilks, Annals of Mathematical Statistics 1941.)
"""

from __future__ import annotations

import math
from typing import Any

__all__ = ["MISSED_WITH", "least_number_for_interval", "least_number_for_mode", "sample_intervals"]

#: Probability with which an outcome may be missed.
MISSED_WITH = 0.05
_LEVEL = 0.9
_MODES = (0.01, 0.05, 0.1, 0.2)


def sample_intervals(num_samples: int) -> dict[str, Any]:
    """The entry of uncertainty.json for a number of whole samples, at least 1.

    Returns
    -------
    dict
        ``num_samples``; ``level`` of the interval from p5_ml to p95_ml, what of further samples it ``covers`` and the
        ``least_num_samples`` with which any interval can have that level; ``missed_mode``, the probability below which
        an outcome is missed with more than ``missed_with``, and by probability of an outcome the
        ``num_samples_of_mode`` that miss it with less.
    """
    below = (1 + (1 - _LEVEL) / 2 * (num_samples - 1)) / (num_samples + 1)
    return {
        "num_samples": num_samples,
        "level": _LEVEL,
        "covers": round(1 - 2 * below, 4),
        "least_num_samples": least_number_for_interval(_LEVEL),
        "missed_with": MISSED_WITH,
        "missed_mode": round(1 - MISSED_WITH ** (1 / num_samples), 4),
        "num_samples_of_mode": {f"{mode:g}": least_number_for_mode(mode) for mode in _MODES},
    }


def least_number_for_mode(mode: float, missed_with: float = MISSED_WITH) -> int:
    """Number of samples that are all without an outcome of a probability in (0, 1) with less than ``missed_with``."""
    return math.floor(math.log(missed_with) / math.log1p(-mode)) + 1


def least_number_for_interval(level: float) -> int:
    """Number of samples whose smallest and largest hold a further sample with a probability ``level`` in (0, 1)."""
    return math.ceil(round((1 + level) / (1 - level), 9))
