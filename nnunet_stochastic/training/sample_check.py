"""The check with which the training of a model that has samples ends: do its samples show what validation patches show?

A few samples are drawn on a few batches of validation patches, and their foreground shares are compared with the
annotation's by ``degenerate_samples``. The annotation stands in for the predictive mean, which is made of the samples
and as empty as they are. Patches that are all background or all foreground tell nothing. A patch whose structure every
sample misses is nothing unusual; half of all patches are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from nnunet_stochastic.degenerate_samples import degenerate_samples
from nnunet_stochastic.distributions import LogitDistribution
from nnunet_stochastic.targets import Target

__all__ = ["CHECKED_BATCHES", "foreground_shares", "warning_about_samples"]

#: Batches of validation patches that are looked at.
CHECKED_BATCHES = 4
_SAMPLES = 5


@torch.no_grad()
def foreground_shares(
    distribution: LogitDistribution, target: Target, *, regions: bool
) -> list[tuple[list[float], float]]:
    """Foreground shares of samples and annotation, for each image with annotated voxels.

    Parameters
    ----------
    distribution
        p(η) of B images.
    target
        Their annotation.
    regions
        Whether the logits are of regions rather than exclusive classes, the first of which is the background.

    Returns
    -------
    list
        For each image the shares of 5 samples and that of the annotation, among the voxels that count, in [0, 1].
    """

    def share(foreground: Tensor) -> list[float]:
        return ((foreground * target.counted[:, 0]).flatten(1).sum(1) / voxels.clamp_min(1)).tolist()

    def of_sample(logits: Tensor) -> Tensor:
        return (logits > 0).any(1) if regions else logits.argmax(1) > 0

    voxels = target.counted.flatten(1).sum(1)
    samples = [share(of_sample(distribution.rsample(1)[0])) for _ in range(_SAMPLES)]
    reference = share(target.mask[:, 0 if regions else 1 :].any(1))
    images = zip(zip(*samples, strict=True), reference, voxels.tolist(), strict=True)
    return [(list(of_image), of_reference) for of_image, of_reference, count in images if count]


def warning_about_samples(shares: Sequence[tuple[Sequence[float], float]]) -> str | None:
    """What to tell of the samples, or None.

    Parameters
    ----------
    shares
        Pairs that ``foreground_shares`` returns, of any number of images.
    """
    judged = [(samples, reference) for samples, reference in shares if 0 < reference < 1]
    reasons = Counter(degenerate_samples(samples, reference) for samples, reference in judged)
    sound = reasons.pop(None, 0)
    if not judged or 2 * sound > len(judged):
        return None
    found = ", ".join(f"{reason} on {count}" for reason, count in reasons.most_common())
    return (
        f"on {len(judged) - sound} of {len(judged)} validation patches with a structure all samples are empty or fill "
        f"the patch ({found}): they do not show how the annotation may vary, and maps made of them are of no use; "
        "train for more epochs, a Probabilistic U-Net perhaps with a larger kl_weight, and look at samples first"
    )
