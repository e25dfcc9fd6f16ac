"""Which classes matter to the samples of a voxel: the others have too little probability to be seen in any map.

With x ~ N(μ, Σ) and a class k, let d_j = x_j - x_k, with mean m_j and variance v_j. Let A be a set of classes with k in
it, p the softmax of x, p' that of its entries in A, 0 elsewhere, and q = Σ_(j not in A) p_j. Since the sum of all
e^(x_j) is at least e^(x_k),

    E[q] <= Σ_(j not in A) E[e^(d_j)] = Σ_(j not in A) e_j <= ε         e_j = exp(m_j + v_j / 2)

On A, p_c = (1 - q) p'_c. So the distance of p and p' in total variation is q, of their means at most ε, and

* |E[p_c] - E[p'_c]| <= ε;
* |Σ_c p_c² - Σ_c p'_c²| <= 2 q, and the same of the squares of the means: at most 2 ε each;
* |H(p) - H(p')| <= q ln(C - 1) + h(q) (Audenaert 2007, https://doi.org/10.1088/1751-8113/40/28/S18), with h the entropy
  of q and 1 - q, which is concave and at most q (1 + ln(1 / q)): in the mean at most ε (1 + ln(C / ε)). The bound holds
  of the entropies of the means, too.

For ε = 2.4e-6 and C <= 1000 that is 2.4e-6, 4.8e-6 and 5.0e-5: total and aleatoric are within 5e-5, epistemic and
variance within 1e-4, for every mean over samples and members. p' is a distribution itself, so that the entropy of its
mean is at least the mean of its entropies.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["MOST_LEFT_OUT", "relevant_classes"]

#: ε: what the classes that are left out may have of the probability.
MOST_LEFT_OUT = 2.4e-6

_STEP = 4.0


def relevant_classes(mean: Tensor, variance: Tensor, classes: Tensor) -> Tensor:
    """Classes of which samples are needed.

    Classes are left out whose e_j is below a limit, which is ε / 4^i of the smallest i that keeps their sum below ε.

    Parameters
    ----------
    mean, variance
        m and v of the differences to the class k, as ``certain_voxels.differences`` has them, each (C, n).
    classes
        k, (n), int64: always relevant.

    Returns
    -------
    Tensor
        (C, n), bool.
    """
    terms = torch.exp(mean + variance / 2)
    limit = torch.full_like(terms[0], MOST_LEFT_OUT)
    while True:
        sums = torch.where(terms <= limit, terms, 0).sum(0)
        too_much = sums > MOST_LEFT_OUT
        if not bool(too_much.any()):
            break
        limit[too_much] /= _STEP
    return (terms <= limit).logical_not_().scatter_(0, classes[None], True)  # what is no number is not left out
