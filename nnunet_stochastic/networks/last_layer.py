"""A network cut in front of its last layer: image -> features, features -> p(η).

    η_n = W φ_n + b

The last layer of nnU-Net's U-Nets, and of those with heads, is ``decoder.seg_layers[-1]``, 1x1 convolutions of the
features φ. What changes W and b alone leaves φ as it is, so one pass up to φ serves any number of such changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from nnunet_stochastic.distributions import LogitDistribution, PointMass
from nnunet_stochastic.networks.stochastic import StochasticNetwork

__all__ = ["distribution_of_features", "distributions_of_features", "features_of", "last_layer", "last_layer_weights"]


def last_layer(network: nn.Module) -> nn.Module:
    """The last layer of a network; ``ValueError`` where it has no ``decoder.seg_layers``."""
    layers = getattr(getattr(network, "decoder", None), "seg_layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        raise ValueError(
            f"{type(network).__name__} has no decoder with seg_layers, and so no last layer that is known: plan the "
            "dataset with one of nnU-Net's U-Nets (PlainConvUNet, ResidualEncoderUNet)"
        )
    return layers[-1]


def last_layer_weights(network: nn.Module) -> tuple[Tensor, Tensor]:
    """W, shape (C, F, 1, …), and b, (C), of the layer that gives η, or where η is a distribution its mean.

    Raises
    ------
    ValueError
        If the network's last layer is not known, or no 1x1 convolution with a bias.
    """
    layer = last_layer(network)
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    if not (isinstance(weight, Tensor) and isinstance(bias, Tensor) and set(weight.shape[2:]) == {1}):
        raise ValueError(
            f"the last layer of {type(network).__name__} must be a 1x1 convolution with a bias, as in nnU-Net's U-Nets "
            f"(PlainConvUNet, ResidualEncoderUNet), got {layer}"
        )
    return weight, bias


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
    layer = last_layer(network)
    if not isinstance(network, StochasticNetwork):
        return lambda: PointMass(layer(features))
    heads = network.heads
    distribution = network.distribution(heads.distribution_parameters(features))
    return lambda: distribution.with_mean(heads.mean_logits(features))
