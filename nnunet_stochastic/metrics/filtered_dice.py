"""Filtered Dice of QU-BraTS: whether an uncertainty filters errors out, and leaves alone what is right.

With the voxels of uncertainty u <= t kept, for thresholds t = 0, 1/N, ... 1 of an uncertainty in [0, 1],

    D(t)   = Dice of the kept voxels
    FTP(t) = (TP - TP of the kept) / TP        FTN(t) = (TN - TN of the kept) / TN
    score  = (area of D + 1 - area of FTP + 1 - area of FTN) / 3

areas over [0, 1] by the trapezoidal rule. QU-BraTS has 40 steps, and counts TN inside of the brain only.
Policy: a structure that is empty in both -> NaN; nothing of it kept in either -> D = 1; no TP or TN at all: none
is filtered, 0; a NaN among the uncertainties -> ValueError. Voxels with the ignore label are left out before the call.
Reference: Mehta et al., QU-BraTS: MICCAI BraTS 2020 challenge on quantifying uncertainty in brain tumor segmentation,
MELBA 2022, https://arxiv.org/abs/2112.10074.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["FILTERING_THRESHOLDS", "FilteredDice", "FilteringSteps", "filtered_dice"]

NUM_STEPS = 40
#: Thresholds of QU-BraTS, 0, 1/40, ... 1.
FILTERING_THRESHOLDS = np.linspace(0, 1, NUM_STEPS + 1)


@dataclass(frozen=True)
class FilteredDice:
    """Curves over the N + 1 thresholds, and their areas.

    Attributes
    ----------
    thresholds
        Thresholds 0, 1/N, ... 1, (N + 1,).
    dice, filtered_tp, filtered_tn
        D, FTP and FTN at each, (N + 1,), in [0, 1]; all NaN for a structure that is empty in both.
    """

    thresholds: np.ndarray
    dice: np.ndarray
    filtered_tp: np.ndarray
    filtered_tn: np.ndarray

    @property
    def areas(self) -> tuple[float, float, float]:
        """Areas under D, FTP and FTN, each in [0, 1]."""
        dice, tp, tn = (_area(curve) for curve in (self.dice, self.filtered_tp, self.filtered_tn))
        return dice, tp, tn

    @property
    def score(self) -> float:
        """Score of the three areas, in [0, 1]; 1 is best."""
        dice, tp, tn = self.areas
        return (dice + 1 - tp + 1 - tn) / 3


@dataclass(frozen=True)
class FilteringSteps:
    """A map by thresholds, which all structures and annotations of an image share.

    Attributes
    ----------
    steps
        The first of the thresholds 0, 1/N, ... 1 at which each voxel is kept, (*S), integers in [0, N].
    kept
        Number of voxels that are kept at each threshold, (N + 1,): of all, those that ``inside`` leaves out too.
    """

    steps: np.ndarray
    kept: np.ndarray

    @classmethod
    def of(cls, uncertainty: np.ndarray, *, largest: float = 1.0, num_steps: int = NUM_STEPS) -> FilteringSteps:
        """The steps of a map.

        Parameters
        ----------
        uncertainty
            Map, (*S), >= 0, any unit.
        largest
            Uncertainty that counts as 1, > 0, in the same unit: for an entropy ln C. So do larger ones.
        num_steps
            Number N of steps between the thresholds, 1 to 255.
        """
        if not largest > 0 or not 1 <= num_steps <= 255:
            raise ValueError(f"largest must be above 0 and num_steps 1 to 255, got {largest} and {num_steps}")
        # Written so that NaN, for which every comparison is false, fails.
        if uncertainty.size and not (uncertainty.min() >= 0 and uncertainty.max() < np.inf):
            raise ValueError(
                f"uncertainty must be finite and not negative, got values from {uncertainty.min()} to "
                f"{uncertainty.max()}"
            )
        # Maps are float32: a value that equals a threshold is kept there.
        step = uncertainty * np.float32(num_steps / largest)
        step -= np.float32(1e-6 * num_steps)
        steps = np.clip(np.ceil(step, out=step), 0, num_steps, out=step).astype(np.uint8)
        return cls(steps, _kept(steps.ravel(), num_steps))

    def inside(self, voxels: np.ndarray) -> FilteringSteps:
        """Steps of the voxels (*S), bool, outside of which no structure is: the others are true negatives of all."""
        return FilteringSteps(self.steps[voxels], self.kept)

    @property
    def num_steps(self) -> int:
        """Number N of steps between the thresholds."""
        return len(self.kept) - 1


def filtered_dice(predicted: np.ndarray, reference: np.ndarray, uncertainty: FilteringSteps) -> FilteredDice:
    """Curves of a structure.

    Parameters
    ----------
    predicted, reference
        Its voxels, (*S), bool.
    uncertainty
        The steps of the map, (*S).
    """
    steps, num_steps = uncertainty.steps, uncertainty.num_steps
    if not predicted.shape == reference.shape == steps.shape:
        raise ValueError(
            f"predicted {predicted.shape}, reference {reference.shape} and uncertainty {steps.shape} must have the "
            "same shape"
        )
    if predicted.dtype != np.bool_ or reference.dtype != np.bool_:
        raise ValueError(f"predicted and reference must be boolean, got {predicted.dtype} and {reference.dtype}")
    thresholds = np.linspace(0, 1, num_steps + 1)
    tp = _kept(steps[predicted & reference], num_steps)
    of_both = _kept(steps[predicted], num_steps) + _kept(steps[reference], num_steps)
    tn = uncertainty.kept - of_both + tp
    if not of_both[-1]:
        return FilteredDice(thresholds, *np.full((3, num_steps + 1), np.nan))
    dice = np.divide(2 * tp, of_both, out=np.ones(num_steps + 1), where=of_both > 0)
    filtered_tp, filtered_tn = (1 - kept / kept[-1] if kept[-1] else 0.0 * kept for kept in (tp, tn))
    return FilteredDice(thresholds, dice, filtered_tp, filtered_tn)


def _kept(steps: np.ndarray, num_steps: int) -> np.ndarray:
    return np.cumsum(np.bincount(steps, minlength=num_steps + 1))


def _area(curve: np.ndarray) -> float:
    return float(np.mean(curve[1:] + curve[:-1]) / 2)
