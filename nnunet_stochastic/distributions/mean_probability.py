"""The mean of sampled probabilities as logits, for what takes logits.

softmax(η̄) = 1/K Σ_k softmax(η_k),      sigmoid(η̄) = 1/K Σ_k sigmoid(η_k) for regions
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["logits_of_mean_probability"]

_LEAST_PROBABILITY = 1e-6


def logits_of_mean_probability(samples: Iterable[Tensor], *, regions: bool) -> Tensor:
    """η̄, shape (B, C, *S).

    Parameters
    ----------
    samples
        Logits η_k, shape (B, C, *S), at least one. They are taken one by one.
    regions
        Whether the channels are regions, each with a sigmoid of its own, rather than exclusive classes.

    Returns
    -------
    Tensor
        Logits. Probabilities below 1e-6, and for regions above 1 - 1e-6, are replaced by these.
    """
    count, total = 0, None
    for logits in samples:
        probabilities = torch.sigmoid(logits) if regions else torch.softmax(logits, dim=1)
        total = probabilities if total is None else total + probabilities
        count += 1
    if total is None:
        raise ValueError("the mean of no samples is not defined: give at least one")
    mean = total / count
    return torch.logit(mean, eps=_LEAST_PROBABILITY) if regions else mean.clamp_min(_LEAST_PROBABILITY).log()
