"""Stochastic Segmentation Network on the attention U-Net: p(η) = N(μ, diag d + P Pᵀ), rank 10.

Monteiro et al. 2020, https://arxiv.org/abs/2006.06015, with the settings of Christensen et al., Rethinking Uncertainty
Quantification and Entanglement in Image Segmentation, 3.2: d = exp(log-variance) + ε, ε = 1e-5. μ, log-variance and P
are 3x3 convolutions of the last features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nnunet_stochastic.distributions import GaussianLogits, LowRankGaussian, full_precision
from nnunet_stochastic.networks.attention_blocks import Dimension, convolution
from nnunet_stochastic.networks.attention_unet import (
    BASE_CHANNELS,
    CHANNEL_MULTIPLIERS,
    AttentionUNet,
    zero_convolution,
)
from nnunet_stochastic.networks.base import GenerativeNetwork, LastLayerNetwork
from nnunet_stochastic.networks.heads.base import INITIAL_LOG_VARIANCE, LOG_VARIANCE_RANGE
from nnunet_stochastic.networks.heads.low_rank import FACTOR_SCALE
from nnunet_stochastic.targets import Target

__all__ = ["StochasticSegmentationNetwork"]

_EPSILON = 1e-5


class StochasticSegmentationNetwork(GenerativeNetwork, LastLayerNetwork):
    """Attention U-Net with the heads of a low-rank Gaussian. Its deterministic prediction is μ.

    Parameters
    ----------
    in_channels
        Channels of the image.
    num_channels
        Channels C of the logits.
    dimension
        Number of spatial axes, 2 or 3.
    rank
        Columns R of P, at least 1.
    base_channels
        Channels of the first level of the network.
    channel_multipliers
        Channels of its levels in units of these.
    """

    is_gaussian = True

    def __init__(
        self,
        in_channels: int,
        num_channels: int,
        *,
        dimension: Dimension,
        rank: int = 10,
        base_channels: int = BASE_CHANNELS,
        channel_multipliers: Sequence[int] = CHANNEL_MULTIPLIERS,
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        self.rank = rank
        self.unet = AttentionUNet(
            in_channels, dimension=dimension, base_channels=base_channels, channel_multipliers=channel_multipliers
        )
        self.output = zero_convolution(self.unet, num_channels)
        self.log_variance = zero_convolution(self.unet, num_channels)
        nn.init.constant_(self.log_variance.get_parameter("bias"), INITIAL_LOG_VARIANCE)
        self.factor = convolution(dimension, self.unet.out_channels, num_channels * rank, kernel_size=3)
        # Small, but not 0, where the gradient of P would be 0.
        nn.init.normal_(self.factor.weight, std=FACTOR_SCALE / math.sqrt(self.factor.weight[0].numel()))
        nn.init.normal_(self.factor.get_parameter("bias"), std=FACTOR_SCALE)

    @property
    def last_layer(self) -> nn.Module:
        return self.output

    def deterministic_logits(self, x: Tensor) -> Tensor:
        return self.output(self.unet(x))

    def training_outputs(self, x: Tensor, target: Target) -> dict[str, Tensor]:
        """``mean_logits`` and ``diag_var``, shape (B, C, *S), and ``cov_factor``, shape (B, C, R, *S)."""
        return self._distribution_parameters(self.unet(x))

    def distribution(self, parameters: dict[str, Tensor]) -> LowRankGaussian:
        """p(η) with the parameters that ``training_outputs`` returned."""
        return LowRankGaussian(parameters["mean_logits"], parameters["diag_var"], parameters["cov_factor"])

    def logit_distribution(self, x: Tensor) -> LowRankGaussian:
        return self.distribution(self._distribution_parameters(self.unet(x)))

    def distributions_of_features(self, features: Tensor) -> Callable[[], GaussianLogits]:
        distribution = self.distribution(self._distribution_parameters(features))
        return lambda: distribution.with_mean(full_precision(self.output(features)))

    def _distribution_parameters(self, features: Tensor) -> dict[str, Tensor]:
        log_variance = full_precision(self.log_variance(features))
        return {
            "mean_logits": full_precision(self.output(features)),
            # ε alone bounds the variance from below.
            "diag_var": torch.exp(log_variance.clamp(max=LOG_VARIANCE_RANGE[1])) + _EPSILON,
            "cov_factor": self.factor(features).unflatten(1, (-1, self.rank)),
        }
