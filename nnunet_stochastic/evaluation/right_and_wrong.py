"""How well the measure that theory names does a task, and how well the others do it: U_c and U_w of Δ.

The catalogue of tasks says which measures these are. Over several sets of cases, such as shifts, both are means over
the sets. Of two wrong measures the better one counts, in each set by itself: the mean of the minima of errors, as in
the authors' code, and not the smaller of two means.
Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation, Eq. 2 and 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_stochastic.evaluation.maps import Measure
from nnunet_stochastic.evaluation.tasks.task import Task

__all__ = ["right_and_wrong"]


def right_and_wrong(task: Task, sets: Sequence[Mapping[Measure, float | np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """U_c and U_w of a task.

    Parameters
    ----------
    task
        A task that is ranked.
    sets
        Performance of each measure in each set of cases: a number, or (B,) for the replicates of a bootstrap.

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        U_c and U_w, scalars or (B,). A set in which one of the measures is NaN is left out; NaN without any.
    """
    if task.right is None:
        raise ValueError(
            f"theory names no measure for the task {task.name}; right_and_wrong takes tasks that are ranked"
        )
    if not sets:
        return np.array(np.nan), np.array(np.nan)
    best = np.max if task.direction > 0 else np.min
    right = np.stack([np.asarray(values[task.right]) for values in sets])
    # NaN stays NaN.
    wrong = np.stack([best([np.asarray(values[measure]) for measure in task.wrong], axis=0) for values in sets])
    known = np.isfinite(right) & np.isfinite(wrong)
    count = np.where(known.any(axis=0), known.sum(axis=0), np.nan)
    of_right, of_wrong = (np.where(known, values, 0).sum(axis=0) / count for values in (right, wrong))
    return of_right, of_wrong
