"""Failure-AUROC: how well an uncertainty tells the failed cases from the others.

    AUROC of the uncertainty, with the cases of Dice < threshold to be found        (``metrics.auroc``)

The default threshold, 0.7, is where Robinson et al. have poor segmentations begin. Unlike the area under the
risk-coverage curve it does not depend on how bad failures are, and hardly on how many there are.
Policy: cases whose Dice is NaN are left out; no failure, or nothing but failures -> NaN.
Reference: Robinson et al., Automated quality control in image segmentation: application to the UK Biobank
cardiovascular magnetic resonance imaging study, Journal of Cardiovascular Magnetic Resonance 2019.
"""

from __future__ import annotations

import numpy as np

from nnunet_stochastic.metrics.auroc import auroc, auroc_bootstrap

__all__ = ["FAILURE_DICE", "failure_auroc", "failure_auroc_bootstrap"]

#: Dice below which a case is a failure.
FAILURE_DICE = 0.7


def failure_auroc(dice: np.ndarray, uncertainty: np.ndarray, *, threshold: float = FAILURE_DICE) -> float:
    """AUROC of the uncertainty for failures.

    Parameters
    ----------
    dice
        Dice of each case, (n,), in [0, 1]; NaN where there is none.
    uncertainty
        Uncertainty of each case, (n,); larger where a failure is expected.
    threshold
        Dice below which a case is a failure, in (0, 1].

    Returns
    -------
    float
        AUROC in [0, 1]; 1 is best, 1/2 is chance.
    """
    failed, fine = _failed_and_fine(dice, uncertainty, threshold)
    return auroc(np.asarray(uncertainty)[fine], np.asarray(uncertainty)[failed])


def failure_auroc_bootstrap(
    dice: np.ndarray, uncertainty: np.ndarray, weights: np.ndarray, *, threshold: float = FAILURE_DICE
) -> np.ndarray:
    """The same of the replicates of a bootstrap that hold each case as often as weights (B, n) say, integers: (B,).

    NaN of a replicate without failures, or of nothing else.
    """
    failed, fine = _failed_and_fine(dice, uncertainty, threshold)
    return auroc_bootstrap(
        np.asarray(uncertainty)[fine],
        np.asarray(uncertainty)[failed],
        negative_weights=weights[:, fine],
        positive_weights=weights[:, failed],
    )


def _failed_and_fine(dice: np.ndarray, uncertainty: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Which cases have failed, and which have not, (n,), bool."""
    dice, uncertainty = np.asarray(dice, dtype=np.float64), np.asarray(uncertainty, dtype=np.float64)
    if dice.ndim != 1 or dice.shape != uncertainty.shape:
        raise ValueError(f"dice and uncertainty must be (n,) of the same length, got {dice.shape}, {uncertainty.shape}")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}")
    known = ~np.isnan(dice)
    if np.isnan(uncertainty[known]).any():
        raise ValueError(
            f"uncertainty is NaN for {np.isnan(uncertainty[known]).sum()} of {known.sum()} cases that have a Dice; "
            "leave them out, or give their Dice as NaN"
        )
    return known & (dice < threshold), known & (dice >= threshold)
