"""Entanglement of two uncertainty measures in a task: Delta = s (arctan(U_c / U_w) - π/4) / (π/4).

U_c and U_w are the performance of the measure that theory says is right for the task and of the wrong one; s = -1
where lower is better. Delta is in [-1, 1]; larger is less entangled, 0 is equal performance.
Policy: performance below 0 counts as 0; both 0 -> 0; NaN -> NaN.
Reference: Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation, Eq. 2.
"""

from __future__ import annotations

import numpy as np

__all__ = ["entanglement"]


def entanglement(
    correct: float | np.ndarray, wrong: float | np.ndarray, *, lower_is_better: bool = False
) -> float | np.ndarray:
    """Delta of the performance of the right and the wrong measure.

    Parameters
    ----------
    correct, wrong
        Performance of the right and of the wrong measure, numbers or arrays that broadcast (bootstrap replicates).
    lower_is_better
        Whether lower performance is better, as for errors such as ACE.

    Returns
    -------
    float | np.ndarray
        Delta in [-1, 1]: a float for two numbers, else an array.
    """
    correct, wrong = np.maximum(correct, 0.0), np.maximum(wrong, 0.0)
    delta = np.arctan2(correct, wrong) / (np.pi / 4) - 1.0
    # arctan2(0, 0) is 0, as if the right measure had lost.
    delta = np.where((correct == 0) & (wrong == 0), 0.0, -delta if lower_is_better else delta)
    return float(delta) if delta.ndim == 0 else delta
