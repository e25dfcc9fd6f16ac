"""Area under the receiver operating characteristic: AUROC = P(s+ > s-) + ½ P(s+ = s-).

s+ is the score of a case that should be found (out of distribution), s- that of one that should not.
Policy: no scores on a side, or a NaN among the scores -> NaN.
Reference: Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 2006.
"""

from __future__ import annotations

import numpy as np

__all__ = ["auroc", "auroc_bootstrap"]


def auroc(negative_scores: np.ndarray, positive_scores: np.ndarray) -> float:
    """AUROC of image scores.

    Parameters
    ----------
    negative_scores
        Scores of the cases that should be low, (N,).
    positive_scores
        Scores of the cases that should be high, (M,).

    Returns
    -------
    float
        AUROC in [0, 1]; ½ is chance.
    """
    scores = np.concatenate([negative_scores, positive_scores])
    if len(negative_scores) == 0 or len(positive_scores) == 0 or np.isnan(scores).any():
        return float("nan")
    # Here: it takes seconds, and every worker imports this module.
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(np.arange(len(scores)) >= len(negative_scores), scores))


def auroc_bootstrap(
    negative_scores: np.ndarray,
    positive_scores: np.ndarray,
    *,
    negative_weights: np.ndarray,
    positive_weights: np.ndarray,
) -> np.ndarray:
    """AUROC of many replicates of a bootstrap over cases, exact with ties, from one sort of the scores.

    Parameters
    ----------
    negative_scores, positive_scores
        Scores, (N,) and (M,), as for ``auroc``.
    negative_weights, positive_weights
        How often each replicate holds each case, (B, N) and (B, M), integers >= 0.

    Returns
    -------
    np.ndarray
        AUROC of each replicate, (B,); NaN where a side has no weight.
    """
    for name, scores, weights in (
        ("negative", negative_scores, negative_weights),
        ("positive", positive_scores, positive_weights),
    ):
        if weights.ndim != 2 or weights.shape[1] != len(scores):
            raise ValueError(f"{name}_weights must be (B, {len(scores)}), one per case, got {weights.shape}")
        if not np.issubdtype(weights.dtype, np.integer) or (weights.size and weights.min() < 0):
            raise ValueError(f"{name}_weights must be integers >= 0, how often a case was drawn")
    if len(negative_weights) != len(positive_weights):
        raise ValueError(
            f"both sides must have the same number of replicates, got {len(negative_weights)} and "
            f"{len(positive_weights)}"
        )
    if np.isnan(negative_scores).any() or np.isnan(positive_scores).any():
        return np.full(len(negative_weights), np.nan)
    order = np.argsort(negative_scores)
    ascending = np.asarray(negative_scores)[order]
    below = np.zeros((len(negative_weights), len(order) + 1), dtype=np.int64)
    np.cumsum(negative_weights[:, order], axis=1, out=below[:, 1:])
    # Twice the number of pairs in the right order, ties counted half: whole numbers, so exact.
    won = below[:, np.searchsorted(ascending, positive_scores, "left")]
    won += below[:, np.searchsorted(ascending, positive_scores, "right")]
    won = np.sum(won * positive_weights, axis=1)
    pairs = below[:, -1] * positive_weights.sum(axis=1)
    return np.divide(won, 2 * pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
