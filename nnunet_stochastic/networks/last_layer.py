"""A network cut in front of its last layer: image -> features, features -> p(η).

    η_n = W φ_n + b

The last layer of nnU-Net's U-Nets, and of those with heads, is ``decoder.seg_layers[-1]``, 1x1 convolutions of the
features φ; that of ``LastLayerNetwork`` is a larger convolution, for which φ_n are the features around a voxel. What
changes W and b alone leaves φ as it is, so one pass up to φ serves any number of such changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from nnunet_stochastic.distributions import LogitDistribution, PointMass
from nnunet_stochastic.networks.base import LastLayerNetwork

__all__ = [
    "distribution_of_features",
    "distributions_of_features",
    "features_of",
    "last_layer",
    "last_layer_weights",
    "windows",
]


def last_layer(network: nn.Module) -> nn.Module:
    """The last layer of a network; ``ValueError`` where none is known."""
    if isinstance(network, LastLayerNetwork):
        return network.last_layer
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


def windows(features: Tensor, edges: Sequence[int]) -> Tensor:
    """φ of each voxel, in the order of ``W``: the features in a box around it, 0 outside of the image.

    Parameters
    ----------
    features
        Features of one image, (F, *S).
    edges
        Odd edges *K of the box, as many as S has.

    Returns
    -------
    Tensor
        (F, *S, *K), a view of the padded features.
    """
    boxes = functional.pad(features, [edge // 2 for edge in reversed(edges) for _ in range(2)])
    for axis, edge in enumerate(edges, start=1):
        boxes = boxes.unfold(axis, edge, 1)
    return boxes


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
    """p(η) of features (B, F, *S) as a function of the W and b that the network has when it is called."""
    if isinstance(network, LastLayerNetwork):
        return network.distributions_of_features(features)
    layer = last_layer(network)
    return lambda: PointMass(layer(features))
