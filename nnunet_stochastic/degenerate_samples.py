"""Whether the samples of an image have come apart from its law: all of them empty, or filling the image.

A latent variable that was never kept close to its prior gives segmentations that say nothing: every sample is all
background, all foreground, or one of the two, though the image shows a structure of some size. With s_k the foreground
share of sample k and s the share of the predictive mean (or of a reference, where there is one),

    sample k is empty where  s_k <= 0.01 s,      fills the image where  1 - s_k <= 0.01 (1 - s).

Both are relative, so that the smallest lesion of a large volume is told from nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

__all__ = ["MINIMUM_SAMPLES", "Degeneration", "degenerate_samples"]

Degeneration = Literal["empty", "full", "empty or full"]

MINIMUM_SAMPLES = 3  # one or two samples without a structure that is there with probability 0.6 are nothing unusual
NEGLIGIBLE_SHARE = 0.01


def degenerate_samples(
    foreground_fraction_of_samples: Sequence[float], foreground_fraction_of_mean: float
) -> Degeneration | None:
    """What is wrong with the samples of one image, if anything.

    Parameters
    ----------
    foreground_fraction_of_samples
        Shares s_1 … s_K of the voxels of each sample that are not background, in [0, 1].
    foreground_fraction_of_mean
        Share s of the voxels of the arg max of the predictive mean, or of the reference, that are not background; in
        [0, 1].

    Returns
    -------
    Degeneration | None
        ``"empty"`` where all samples are empty and the mean is not, ``"full"`` where all fill the image and the mean
        does not, ``"empty or full"`` where each is one of the two and both occur, whatever the mean is. None where a
        single sample is neither, and for fewer than ``MINIMUM_SAMPLES`` samples.
    """
    for share in (*foreground_fraction_of_samples, foreground_fraction_of_mean):
        if not 0 <= share <= 1:
            raise ValueError(f"a share of the voxels must be in [0, 1], got {share}")
    if len(foreground_fraction_of_samples) < MINIMUM_SAMPLES:
        return None
    mean = foreground_fraction_of_mean
    empty = [share <= NEGLIGIBLE_SHARE * mean for share in foreground_fraction_of_samples]
    full = [1 - share <= NEGLIGIBLE_SHARE * (1 - mean) for share in foreground_fraction_of_samples]
    if all(empty):
        return "empty" if mean > 0 else None
    if all(full):
        return "full" if mean < 1 else None
    return "empty or full" if all(e or f for e, f in zip(empty, full, strict=True)) else None
