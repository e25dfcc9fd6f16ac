"""A network cut in front of its last layer: image -> features, features -> p(η).

    η_n = W φ_n + b

The last layer of nnU-Net's U-Nets, and of those with heads, is ``decoder.seg_layers[-1]``, 1x1 convolutions of the
features φ; that of ``LastLayerNetwork`` is a larger convolution, for which φ_n are the features around a voxel. What
changes W and b alone leaves φ as it is, so one pass up to φ serves any number of such changes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_stochastic.distributions import LogitDistribution, PointMass
from nnunet_stochastic.networks.base import LastLayerNetwork
from nnunet_stochastic.networks.stochastic import StochasticNetwork

__all__ = [
    "distribution_of_features",
    "distributions_of_features",
    "features_of",
    "inputs_of_voxels",
    "last_layer",
    "last_layer_weights",
]


def last_layer(network: nn.Module) -> nn.Module:
    """The last layer of a network; ``ValueError`` where none is known."""
    if isinstance(network, LastLayerNetwork):
        return network.output
    layers = getattr(getattr(network, "decoder", None), "seg_layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        raise ValueError(
            f"{type(network).__name__} has no decoder with seg_layers, and so no last layer that is known: plan the "
            "dataset with one of nnU-Net's U-Nets (PlainConvUNet, ResidualEncoderUNet)"
        )
    return layers[-1]


def last_layer_weights(network: nn.Module) -> tuple[Tensor, Tensor]:
    """W, shape (C, F, *K), and b, (C), of the layer that gives η, or where η is a distribution its mean.

    Raises
    ------
    ValueError
        If the network's last layer is not known, or no convolution with a bias: 1x1 in nnU-Net's U-Nets, of any odd
        edge where it keeps the size.
    """
    layer = last_layer(network)
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    if not (isinstance(weight, Tensor) and isinstance(bias, Tensor) and _keeps_the_size(layer, weight.shape[2:])):
        raise ValueError(
            f"the last layer of {type(network).__name__} must be a convolution with a bias that keeps the size, 1x1 as "
            f"in nnU-Net's U-Nets (PlainConvUNet, ResidualEncoderUNet) or of odd edges, got {layer}"
        )
    return weight, bias


def _keeps_the_size(layer: nn.Module, edges: tuple[int, ...]) -> bool:
    """Whether a layer is 1x1, or a convolution with zeros around that moves by one voxel, of odd edges."""
    if set(edges) == {1}:
        return True
    return (
        isinstance(layer, nn.Conv2d | nn.Conv3d)
        and all(edge % 2 for edge in edges)
        and layer.padding == tuple(edge // 2 for edge in edges)
        and layer.padding_mode == "zeros"
        and set(layer.stride) == set(layer.dilation) == {layer.groups} == {1}
    )


def inputs_of_voxels(features: Tensor, voxels: Tensor, edges: tuple[int, ...]) -> Tensor:
    """φ of some voxels, in the order of ``W.flatten(1)``: the features in a box around each, 0 outside of the image.

    Parameters
    ----------
    features
        Features of one image, (F, *S).
    voxels
        Indices of n voxels in the flattened S, int64.
    edges
        Odd edges *K of the box, as many as S has.

    Returns
    -------
    Tensor
        (n, F · ΠK).
    """
    padded = functional.pad(features, [edge // 2 for edge in reversed(edges) for _ in range(2)])
    strides = [math.prod(padded.shape[axis + 2 :]) for axis in range(len(edges))]
    first = torch.zeros_like(voxels)
    for axis, (length, stride) in enumerate(zip(features.shape[1:], strides, strict=True)):
        first += voxels // math.prod(features.shape[axis + 2 :]) % length * stride
    steps = [range(0, edge * stride, stride) for edge, stride in zip(edges, strides, strict=True)]
    offsets = torch.tensor([sum(step) for step in itertools.product(*steps)]).to(voxels.device)
    around = (first[:, None] + offsets).flatten()
    return padded.flatten(1).index_select(1, around).unflatten(1, (-1, len(offsets))).transpose(0, 1).flatten(1)


def features_of(network: nn.Module, x: Tensor) -> Tensor:
    """φ, shape (B, F, *S), of images (B, channels, *S), by a network without deep supervision."""
    recorded: list[Tensor] = []

    def record(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        recorded.append(inputs[0])

    hook = last_layer(network).register_forward_pre_hook(record)
    try:
        network(x)
    finally:
        hook.remove()
    return recorded[-1]


def distribution_of_features(network: nn.Module, features: Tensor) -> LogitDistribution:
    """p(η) of features (B, F, *S), as ``logit_distribution`` has it of the image."""
    return distributions_of_features(network, features)()


def distributions_of_features(network: nn.Module, features: Tensor) -> Callable[[], LogitDistribution]:
    """p(η) of features (B, F, *S) as a function of the W and b that the network has when it is called.

    What else p(η) consists of does not depend on them, and is computed once.
    """
    if isinstance(network, LastLayerNetwork):
        return network.distributions_of_features(features)
    layer = last_layer(network)
    if not isinstance(network, StochasticNetwork):
        return lambda: PointMass(layer(features))
    heads = network.heads
    distribution = network.distribution(heads.distribution_parameters(features))
    return lambda: distribution.with_mean(heads.mean_logits(features))
