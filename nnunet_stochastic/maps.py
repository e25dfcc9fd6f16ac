"""Moments to maps: total, aleatoric and epistemic uncertainty in nats, and predictive variance.

At the network's resolution, with p̄ the predictive mean and E over members (or the samples that stand in for them),

    total = H(p̄)      epistemic = H(p̄) - E[H(p)]      aleatoric = total - epistemic = E[H(p)]
    variance = E[Σ_c p_c²] - Σ_c p̄_c²                 (for two classes: of the foreground)

The maps of an image are wanted in its original geometry, through a linear resampling R with convex weights. There

    total = H(R p̄)      epistemic = R(epistemic)      aleatoric = total - epistemic      variance = R(variance)

so ``total`` is the entropy of the probabilities that are written. H(R p̄) - R(E[H(p)]) would report the interpolation of
a sharp edge as epistemic, even for identical members. The mutual information and the variance are jointly convex in
the members' probabilities, so R(epistemic) and R(variance) bound from above what members resampled one by one would
have, and are 0 for identical members. The entropy is concave: H(R p̄) >= R H(p̄) >= R(epistemic). Hence
0 <= aleatoric <= total and total = aleatoric + epistemic at every voxel.
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
    """Epistemic uncertainty H(p̄) - E[H(p)] at the moments' resolution, (*S), in nats, >= 0."""
    if moments.expected_entropy is None:
        raise ValueError("epistemic uncertainty needs expected_entropy, which was not kept in these moments")
    return (moments.space.entropy(moments.mean) - moments.expected_entropy).clamp_(min=0)


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

    ``epistemic <= total`` holds in exact arithmetic; where rounding breaks it, ``epistemic`` becomes ``total``.
    """
    epistemic = torch.minimum(epistemic, total)
    return total - epistemic, epistemic
