"""Which classes matter to the samples of a voxel: the others have too little probability to be seen in any map.

With x ~ N(μ, Σ) and a class k, let d_j = x_j - x_k, with mean m_j and variance v_j. Let A be a set of classes with k in
it, p the softmax of x, p' that of its entries in A, 0 elsewhere, and q = Σ_(j not in A) p_j. Since the sum of all
e^(x_j) is at least e^(x_k),

    E[q] <= Σ_(j not in A) E[e^(d_j)] = Σ_(j not in A) e_j <= ε         e_j = exp(m_j + v_j / 2)

On A, p_c = (1 - q) p'_c. Samples are taken of p' alone, and of a class that is left out

    E[p_j] ≈ P_j = e_j E[p'_k]          E[H(p)] ≈ E[H(p')] + Σ_j P_j (1 - ln P_j - E[H(p')])

to first order, with Q = Σ P_j taken from class k: no map would see a 0 there, but logarithms would, of a mean that is
resampled or calibrated. Both E[p_j] and P_j are between 0 and e_j, so that the means differ by at most T = 3 ε / 2 in
total variation. Expectations are of the law, as is the limit of many samples; of them

* each E[p_c] is off by at most T, and Σ_c E[p_c]² by at most 2 T;
* |Σ_c p_c² - Σ_c p'_c²| <= 2 q, so its mean is off by at most 2 ε;
* the entropy of the mean is off by at most T ln(C - 1) + h(T) <= T (1 + ln(C / T)), with h the entropy of T and 1 - T
  (Audenaert 2007, https://doi.org/10.1088/1751-8113/40/28/S18);
* so is |H(p) - H(p')| with q for T, which is at most ε (1 + ln(C / ε)) in the mean since h is concave; where it is
  negative it is at most ε ln C, as what is added for it is. Both are at most ε (1 + ln(C / ε)) upwards, so that E[H(p)]
  is off by at most ε (1 + ln(C / ε)) + ε ln C.

For ε = 1.5e-6 and C <= 1000 these are 2.3e-6, 4.5e-6, 3e-6, 4.8e-5 and 4.3e-5: total and aleatoric are within 5e-5 of
the limit of many samples, epistemic and variance within 1e-4, for every mean over members, too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_stochastic.certain_voxels import MOST_V

__all__ = ["MOST_LEFT_OUT", "relevant_classes"]

#: ε: what the classes that are left out may have of the probability.
MOST_LEFT_OUT = 1.5e-6

_STEP = 4.0


def relevant_classes(mean: Tensor, variance: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Classes of which samples are needed.

    Classes are left out whose v_j is at most ``MOST_V`` and whose e_j is below a limit, which is ε / 4^i of the
    smallest i that keeps their sum below ε.

    Parameters
    ----------
    mean, variance
        m and v of the differences to the class k, as ``certain_voxels.differences`` has them, each (C, n).
    classes
        k, (n), int64: always relevant.

    Returns
    -------
    tuple of Tensor
        Which are relevant, (C, n), bool, and e_j of the others, 0 of these, (C, n).
    """
    terms = torch.exp(mean + variance / 2).masked_fill_(variance > MOST_V, torch.inf)
    limit = torch.full_like(terms[0], MOST_LEFT_OUT)
    while True:
        sums = torch.where(terms <= limit, terms, 0).sum(0)
        too_much = sums > MOST_LEFT_OUT
        if not bool(too_much.any()):
            break
        limit[too_much] /= _STEP
    # What is no number is not left out.
    relevant = (terms <= limit).logical_not_().scatter_(0, classes[None], True)
    return relevant, terms.masked_fill_(relevant, 0)
