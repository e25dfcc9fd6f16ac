"""Risk-coverage curve of a failure detector: R(k/n) = mean risk of the k cases with the highest confidence.

    AURC = 1/n sum_k R(k/n)        E-AURC = AURC - AURC of the order by increasing risk
    AUGRC = integral of G(c) = c R(c) over the coverage c from 0 to 1, G linear between the k/n

AURC weighs the first cases that are kept most; G, the risk of a case and that it is kept, counts every failure that is
kept the same. With risks of 0 and 1, a share a of them 0, AUGRC = (1 - AUROC of failures) a (1 - a) + (1 - a)^2 / 2.
Cases of equal confidence are kept in random order, and R is the expectation over that order: the curve does not depend
on how cases are sorted, and a constant confidence has R equal to the mean risk everywhere.
Policy: cases whose risk is NaN are left out; no cases -> NaN (an empty curve).
References: Geifman et al., Bias-reduced uncertainty estimation for deep neural classifiers, ICLR 2019,
https://arxiv.org/abs/1805.08206; Traub et al., Overcoming common flaws in the evaluation of selective classification
systems, NeurIPS 2024, https://arxiv.org/abs/2407.01032.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["RiskAreas", "augrc", "aurc", "excess_aurc", "risk_coverage_bootstrap", "risk_coverage_curve"]


def risk_coverage_curve(risk: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and selective risk.

    Parameters
    ----------
    risk
        Risk of each case, (n,), such as 1 - Dice; NaN where there is none.
    confidence
        Confidence in each case, (n,), such as the negative uncertainty; larger is kept longer.

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        Coverages 1/n, 2/n, ... 1 of the cases that have a risk and the mean risk of what is kept at each.
    """
    risk, confidence, _ = _known(risk, confidence)
    # Unique values ascend, so those of the negative confidence run from the most to the least confident.
    _, group, count = np.unique(-confidence, return_inverse=True, return_counts=True)
    expected = np.repeat(np.bincount(group, weights=risk) / count, count)
    kept = np.arange(1, len(risk) + 1)
    return kept / len(risk) if len(risk) else kept.astype(np.float64), np.cumsum(expected) / kept


def aurc(risk: np.ndarray, confidence: np.ndarray) -> float:
    """Area under the risk-coverage curve of (n,) risks and confidences, in the risk's unit; 0 is best."""
    _, selective_risk = risk_coverage_curve(risk, confidence)
    return float(selective_risk.mean()) if selective_risk.size else float("nan")


def excess_aurc(risk: np.ndarray, confidence: np.ndarray) -> float:
    """AURC of (n,) risks and confidences less that of the ideal order, >= 0 up to rounding; 0 is a perfect order."""
    return aurc(risk, confidence) - aurc(risk, -np.asarray(risk, dtype=np.float64))


def augrc(risk: np.ndarray, confidence: np.ndarray) -> float:
    """Area under the generalized risk-coverage curve of (n,) risks and confidences, in the risk's unit; 0 is best.

    The mean risk halved for a constant confidence, whatever the risks.
    """
    coverage, selective_risk = risk_coverage_curve(risk, confidence)
    if not coverage.size:
        return float("nan")
    generalized = np.concatenate([[0.0], coverage * selective_risk])
    return float(np.mean(generalized[1:] + generalized[:-1]) / 2)


class RiskAreas(NamedTuple):
    """AURC, E-AURC and AUGRC of each replicate, (B,), in the risk's unit; NaN of a replicate without cases."""

    aurc: np.ndarray
    excess_aurc: np.ndarray
    augrc: np.ndarray


def risk_coverage_bootstrap(risk: np.ndarray, confidence: np.ndarray, weights: np.ndarray) -> RiskAreas:
    """Areas of the replicates of a bootstrap over n cases, exact with ties, from one sort of the confidences.

    The c copies of cases of equal confidence behind k others, whose risks have the sum A, with mean risk e, add
    sum_j (A + j e) / (k + j) = c e + (A - k e) (H(k + c) - H(k)) for j = 1 ... c to n AURC, H the harmonic numbers.

    Parameters
    ----------
    risk, confidence
        Those of ``risk_coverage_curve``, (n,).
    weights
        How often each replicate holds each case, (B, n), integers >= 0.
    """
    risk, confidence, known = _known(risk, confidence)
    area, generalized = _weighted_areas(risk, confidence, weights[:, known])
    ideal, _ = _weighted_areas(risk, -risk, weights[:, known])
    return RiskAreas(area, area - ideal, generalized)


def _known(risk: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Risk and confidence of the cases that have a risk, and which these are, (n,), bool."""
    risk, confidence = np.asarray(risk, dtype=np.float64), np.asarray(confidence, dtype=np.float64)
    if risk.ndim != 1 or risk.shape != confidence.shape:
        raise ValueError(f"risk and confidence must be (n,) of the same length, got {risk.shape}, {confidence.shape}")
    known = ~np.isnan(risk)
    risk, confidence = risk[known], confidence[known]
    if np.isnan(confidence).any():
        raise ValueError(
            f"confidence is NaN for {np.isnan(confidence).sum()} of {len(risk)} cases that have a risk; "
            "without it they have no place in the order; leave them out, or give their risk as NaN"
        )
    return risk, confidence, known


def _weighted_areas(risk: np.ndarray, confidence: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AURC and AUGRC of each replicate, (B,)."""
    if not risk.size:
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    order = np.argsort(-confidence, kind="stable")
    starts = np.flatnonzero(np.diff(confidence[order], prepend=np.nan) != 0)  # of each group of equal confidence
    count, risks = (np.add.reduceat(each[:, order], starts, axis=1) for each in (weights, weights * risk))
    kept, kept_risk = np.cumsum(count, axis=1), np.cumsum(risks, axis=1)
    before, risk_before = kept - count, kept_risk - risks
    number = kept[:, -1].astype(np.float64)
    number[number == 0] = np.nan
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, kept[:, -1].max() + 1))])
    mean = np.divide(risks, count, out=np.zeros(count.shape), where=count > 0)
    area = (risks + (risk_before - before * mean) * (harmonic[kept] - harmonic[before])).sum(axis=1) / number
    generalized = (count * (risk_before + kept_risk)).sum(axis=1) / (2 * number**2)
    return area, generalized
