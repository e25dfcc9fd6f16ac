"""Inner and outer masks {p >= λ} of a structure by conformal risk control: of the λ on a grid the tightest with

    (n R̂(λ) + 1) / (n + 1) <= α,      R̂(λ) = mean of the losses L_1(λ) … L_n(λ) of n patients, each in [0, 1],

so that the mean loss of a new patient is at most α if it is exchangeable with them.
Angelopoulos et al., Conformal risk control, ICLR 2024, https://arxiv.org/abs/2208.02814.

    outer mask: share of the reference's voxels with p < λ; grows with λ, and the largest λ is taken
    inner mask: the greatest share of {p >= λ'} outside the reference over λ' >= λ; falls with λ, the smallest is taken

A case's loss is the mean over its raters, a patient's the mean over its cases: both are means of what is bounded by α
on average. The loss of the outer mask exists where the reference has the structure, that of the inner mask where the
segmentation has it; other cases and raters have none (NaN) and do not count, so that a rare structure has no small
risk for being rare. λ = 0 is the whole image and loses nothing, λ = 2 is no voxel at all and is never wrong: with
fewer than 1 / α - 1 patients these are the masks.

The grid: 0, 2, and 121 values from 1e-6 to 1 - 1e-6 at equal distances of 0.23 in their logits, which is 0.058 at
p = 1/2 and a quarter of p near 0; all of them are float32 numbers, so that p >= λ is the same in both precisions. The
bound holds for the λ that is taken, of the grid; one between it and the next could be tighter by less than a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field
from scipy.special import expit

from nnunet_stochastic.decisions.stored import Count, Stored, require

__all__ = ["ALPHAS", "GRID", "RiskMasks", "Threshold", "mask_at", "mask_losses", "mean_by_patient"]

#: Shares that may be outside, at which masks are given.
ALPHAS = (0.05, 0.10, 0.20)

#: λ, (G,), ascending; the first is at most every probability, the last above all.
GRID = np.concatenate([[0.0], expit(np.linspace(-np.log(1e6), np.log(1e6), 121)), [2.0]]).astype(np.float32)
GRID = GRID.astype(np.float64)

# Voxels looked at together, so that temporary arrays stay small whatever the image's size.
_CHUNK = 1 << 20


def mask_losses(
    probability: np.ndarray, references: Sequence[np.ndarray], *, has_structure: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Losses of the outer and of the inner mask at each λ of the grid, means over the references.

    Parameters
    ----------
    probability
        Predictive mean p of the structure, (*S), in [0, 1].
    references
        Whether a voxel is of the structure by each rater, or the reference, A arrays (*S), bool.
    has_structure
        Whether the segmentation has a voxel of the structure.

    Returns
    -------
    tuple[np.ndarray, np.ndarray]
        Outer loss (G,), never falling, NaN where no reference has the structure; inner loss (G,), never growing, NaN
        where the segmentation does not have it.
    """
    if not references:
        raise ValueError("references is empty; losses need at least one")
    for reference in references:
        if reference.shape != probability.shape or reference.dtype != np.bool_:
            raise ValueError(
                f"a reference must be boolean of the shape of the probability, {probability.shape}, got "
                f"{reference.dtype} {reference.shape}"
            )
    # Written so that NaN, for which every comparison is false, fails; 1e-5 is for rounding.
    if probability.size and not (probability.min() >= -1e-5 and probability.max() <= 1 + 1e-5):
        raise ValueError(f"p must be in [0, 1], got values from {probability.min()} to {probability.max()}")
    count, inside = _voxels_from(probability, references)
    size = inside[:, :1]
    missed = np.divide(size - inside, size, out=np.full(inside.shape, np.nan), where=size > 0)
    wrong = np.divide(count - inside, count, out=np.zeros(inside.shape), where=count > 0)
    wrong = np.maximum.accumulate(wrong[:, ::-1], axis=1)[:, ::-1]
    known = missed[size[:, 0] > 0]
    outer = known.mean(axis=0) if len(known) else np.full(len(GRID), np.nan)
    return outer, wrong.mean(axis=0) if has_structure else np.full(len(GRID), np.nan)


def mask_at(probability: np.ndarray, threshold: float) -> np.ndarray:
    """The mask {p >= λ} of a predictive mean (*S), bool; λ = 0 is the whole image, also where p is rounded below 0."""
    if threshold == 0:
        return np.ones(probability.shape, dtype=bool)
    return probability >= np.float32(threshold)  # which every λ of the grid is, so that no precision moves it


def mean_by_patient(losses: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Mean of the losses (N, …) of each patient's cases, (n, …) in order of the patients; cases with NaN left out."""
    losses = np.asarray(losses, dtype=np.float64)
    if len(losses) != len(patients):
        raise ValueError(f"there must be a patient for each of {len(losses)} cases, got {len(patients)}")
    known = ~np.isnan(losses.reshape(len(losses), -1)).any(axis=1) if len(losses) else np.zeros(0, bool)
    _, unit = np.unique(np.asarray(patients, dtype=str)[known], return_inverse=True)
    number = np.bincount(unit)
    sums = np.zeros((len(number), *losses.shape[1:]))
    np.add.at(sums, unit, losses[known])
    return sums / number.reshape(-1, *[1] * (losses.ndim - 1))


class Threshold(Stored):
    """λ of an α; 0 for the whole image and 2 for no voxel, which is what too few patients give."""

    alpha: Annotated[float, Field(gt=0, lt=1)]
    outer: Annotated[float, Field(ge=0, le=2)]
    inner: Annotated[float, Field(ge=0, le=2)]


def _of_alphas(thresholds: list[Threshold]) -> list[Threshold]:
    """With α the outer λ grows and the inner one falls."""
    for less, more in pairwise(thresholds):
        require(
            less.alpha < more.alpha and less.outer <= more.outer and less.inner >= more.inner,
            "alpha and outer must ascend, and inner fall",
        )
    return thresholds


class RiskMasks(Stored):
    """Thresholds of a structure's inner and outer masks.

    Attributes
    ----------
    thresholds
        λ of both masks at each α.
    num_patients_outer, num_patients_inner
        Number of patients that each rests on.
    """

    thresholds: Annotated[list[Threshold], Field(min_length=1), AfterValidator(_of_alphas)]
    num_patients_outer: Count
    num_patients_inner: Count

    @classmethod
    def fit(cls, outer: np.ndarray, inner: np.ndarray, *, alphas: Sequence[float] = ALPHAS) -> RiskMasks:
        """Thresholds from the losses of each patient.

        Parameters
        ----------
        outer, inner
            Losses of the outer and of the inner mask at each λ of the grid, (n, G) and (m, G), in [0, 1].
        alphas
            Mean losses that are allowed, in (0, 1).
        """
        for name, losses, sign in (("outer", outer, 1), ("inner", inner, -1)):
            if np.ndim(losses) != 2 or np.shape(losses)[1] != len(GRID):
                raise ValueError(f"{name} must be (n, {len(GRID)}), one loss per λ of the grid, got {np.shape(losses)}")
            if not ((losses >= 0).all() and (losses <= 1).all() and (sign * np.diff(losses, axis=1) >= -1e-12).all()):
                raise ValueError(f"{name} must be in [0, 1] and {'grow' if sign > 0 else 'fall'} with λ")
        thresholds = []
        for alpha in sorted(alphas):
            if not 0 < alpha < 1:
                raise ValueError(f"alpha must be in (0, 1), got {alpha}")
            allowed_outer, allowed_inner = _allowed(outer, alpha), _allowed(inner, alpha)
            thresholds.append(
                Threshold(
                    alpha=alpha,
                    outer=float(GRID[allowed_outer][-1]) if allowed_outer.any() else 0.0,
                    inner=float(GRID[allowed_inner][0]) if allowed_inner.any() else 2.0,
                )
            )
        return cls(thresholds=thresholds, num_patients_outer=len(outer), num_patients_inner=len(inner))

    def at(self, alpha: float) -> Threshold:
        """Thresholds of an α that was fitted."""
        for threshold in self.thresholds:
            if np.isclose(threshold.alpha, alpha):
                return threshold
        known = ", ".join(f"{threshold.alpha:g}" for threshold in self.thresholds)
        raise ValueError(f"alpha must be one of {known}, got {alpha:g}")


def _allowed(losses: np.ndarray, alpha: float) -> np.ndarray:
    """Which λ keep the bound, (G,)."""
    # A sum that is α (n + 1) - 1 but for rounding counts as equal to it.
    return (np.sort(losses, axis=0).sum(axis=0) + 1) / (len(losses) + 1) <= alpha + 1e-12


def _voxels_from(probability: np.ndarray, references: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Number of voxels of {p >= λ}, (G,), and of those that are of each reference, (A, G)."""
    count, inside = np.zeros(len(GRID), np.int64), np.zeros((len(references), len(GRID)), np.int64)
    flat, masks = probability.reshape(-1), [reference.reshape(-1) for reference in references]
    for start in range(0, flat.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        place = np.searchsorted(GRID, np.clip(flat[part], 0, 1).astype(np.float64), side="right") - 1
        count += np.bincount(place, minlength=len(GRID))
        for index, mask in enumerate(masks):
            inside[index] += np.bincount(place[mask[part]], minlength=len(GRID))
    return np.cumsum(count[::-1])[::-1], np.cumsum(inside[:, ::-1], axis=1)[:, ::-1]
