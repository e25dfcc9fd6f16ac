"""Moments to maps: total, aleatoric and epistemic uncertainty in nats, and predictive variance.

At the network's resolution, with p̄ the predictive mean, E over members (or the samples that stand in for them), and δ
what H(p̄) lacks where p̄ is a mean of a few samples (an estimate; 0 for deterministic members and blended laws),

    epistemic = H(p̄) - E[H(p)]                        for several members, whose δ are nearly the same
              = H(p̄) + δ - E[H(p)]                    for the samples of one
    variance = E[Σ_c p_c²] - Σ_c p̄_c²                 (for two classes: of the foreground)

The maps of an image are wanted in its original geometry, through a resampling R with convex weights. The mean is
resampled as nnU-Net resamples logits, as log-ratios, m = softmax(R x̄). There

    total = H(m) + R(δ)      epistemic = R(epistemic)      aleatoric = total - epistemic      variance = R(variance)

so but for δ ``total`` is the entropy of the probabilities that are written. H(m) - R(E[H(p)]) would report the
interpolation of a sharp edge as epistemic, even for identical members; R(epistemic) is 0 for these. It is bounded by
the total, so 0 <= aleatoric <= total and total = aleatoric + epistemic at every voxel.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from nnunet_stochastic.moments import Moments

__all__ = ["MAP_NAMES", "MapName", "decompose_total", "epistemic_map", "variance_map"]

MapName = Literal["total", "aleatoric", "epistemic", "variance"]
MAP_NAMES: tuple[MapName, ...] = get_args(MapName)


def epistemic_map(moments: Moments) -> Tensor:
    """Epistemic uncertainty at the moments' resolution, (*S), in nats, >= 0."""
    if moments.expected_entropy is None:
        raise ValueError("epistemic uncertainty needs expected_entropy, which was not kept in these moments")
    epistemic = moments.space.entropy(moments.mean) - moments.expected_entropy
    if moments.samples_stand_in and moments.lost_entropy is not None:
        epistemic += moments.lost_entropy
    return epistemic.clamp_(min=0)


def variance_map(moments: Moments) -> Tensor:
    """Predictive variance E[Σ p²] - Σ p̄² over the P channels, (*S), >= 0."""
    if moments.second_moment is None:
        raise ValueError("the variance needs second_moment, which was not kept in these moments")
    variance = moments.second_moment.clone()
    for channel in moments.mean:
        variance.addcmul_(channel, channel, value=-1)
    return variance.clamp_(min=0)


def decompose_total(total: Tensor, epistemic: Tensor) -> tuple[Tensor, Tensor]:
    """Split the total into (aleatoric, epistemic), both >= 0, their sum the total. Shapes (*S), nats.

    Where ``epistemic`` is larger than the total, it becomes the total.
    """
    epistemic = torch.minimum(epistemic, total)
    return total - epistemic, epistemic
