"""The deterministic attention U-Net: p(η) has all its mass at η = conv(features).

"Softmax" of Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation, 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from nnunet_stochastic.distributions import PointMass
from nnunet_stochastic.networks.attention_blocks import Dimension
from nnunet_stochastic.networks.attention_unet import (
    BASE_CHANNELS,
    CHANNEL_MULTIPLIERS,
    AttentionUNet,
    zero_convolution,
)
from nnunet_stochastic.networks.base import GenerativeNetwork, LastLayerNetwork
from nnunet_stochastic.targets import Target

__all__ = ["SoftmaxNetwork"]


class SoftmaxNetwork(GenerativeNetwork, LastLayerNetwork):
    """Attention U-Net with one output.

    Parameters
    ----------
    in_channels
        Channels of the image.
    num_channels
        Channels C of the logits.
    dimension
        Number of spatial axes, 2 or 3.
    base_channels
        Channels of the first level of the network.
    channel_multipliers
        Channels of its levels in units of these.
    """

    has_samples = False

    def __init__(
        self,
        in_channels: int,
        num_channels: int,
        *,
        dimension: Dimension,
        base_channels: int = BASE_CHANNELS,
        channel_multipliers: Sequence[int] = CHANNEL_MULTIPLIERS,
    ) -> None:
        super().__init__()
        self.unet = AttentionUNet(
            in_channels, dimension=dimension, base_channels=base_channels, channel_multipliers=channel_multipliers
        )
        self.output = zero_convolution(self.unet, num_channels)

    @property
    def last_layer(self) -> nn.Module:
        return self.output

    def deterministic_logits(self, x: Tensor) -> Tensor:
        return self.output(self.unet(x))

    def training_outputs(self, x: Tensor, target: Target) -> dict[str, Tensor]:
        """``logits``, shape (B, C, *S)."""
        return {"logits": self.deterministic_logits(x)}

    def logit_distribution(self, x: Tensor) -> PointMass:
        return PointMass(self.deterministic_logits(x))

    def distributions_of_features(self, features: Tensor) -> Callable[[], PointMass]:
        return lambda: PointMass(self.output(features))
