"""How well the measure that theory names does a task, and how well the others do it: U_c and U_w of Δ.

    OODD   EU against AU, AUROC        AMB   AU against EU, NCC        CAL   TU against AU and EU, ACE (lower is better)

Over several sets of cases, such as shifts, both are means over the sets. Of two wrong measures the better one counts,
in each set by itself: the mean of the minima, as in the authors' code, and not the smaller of two means.
Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation, Eq. 2 and 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_stochastic.evaluation.maps import Measure

__all__ = ["LOWER_IS_BETTER", "RIGHT", "WRONG", "right_and_wrong"]

RIGHT: Mapping[str, Measure] = {"OODD": "EU", "AMB": "AU", "CAL": "TU"}
WRONG: Mapping[str, tuple[Measure, ...]] = {"OODD": ("AU",), "AMB": ("EU",), "CAL": ("AU", "EU")}
LOWER_IS_BETTER = frozenset({"CAL"})


def right_and_wrong(task: str, sets: Sequence[Mapping[Measure, float | np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """U_c and U_w of a task.

    Parameters
    ----------
    task
        OODD, AMB or CAL.
    sets
        Performance of each measure in each set of cases: a number, or (B,) for the replicates of a bootstrap.

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        U_c and U_w, scalars or (B,). A set in which one of the measures is NaN is left out; NaN without any.
    """
    if not sets:
        return np.array(np.nan), np.array(np.nan)
    right = np.stack([values[RIGHT[task]] for values in sets])
    # The minimum is the better one where there are two: of errors. NaN stays NaN.
    wrong = np.stack([np.min([values[measure] for measure in WRONG[task]], axis=0) for values in sets])
    known = np.isfinite(right) & np.isfinite(wrong)
    count = known.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return tuple(
            np.where(known, values, 0).sum(axis=0) / np.where(count, count, np.nan) for values in (right, wrong)
        )
