"""Heads of the LowRank model: p(η) = N(μ, diag d + P Pᵀ).

The covariance of Stochastic Segmentation Networks (Monteiro et al. 2020, https://arxiv.org/abs/2006.06015), Fig. 2b of
*Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation* (MoB).
"""

from __future__ import annotations

from torch import Tensor, nn

from nnunet_stochastic.distributions import LowRankGaussian
from nnunet_stochastic.networks.heads.base import (
    INITIAL_LOG_VARIANCE,
    Convolution,
    GaussianHeads,
    pointwise_convolution,
    weights_of,
)

__all__ = ["FACTOR_SCALE", "LowRankHeads"]

#: Standard deviation of the weights and biases with which P starts. At 0 the gradient of P would be zero.
FACTOR_SCALE = 0.2


class LowRankHeads(GaussianHeads):
    """μ, d and P: C + C + C·R channels.

    Parameters
    ----------
    segmentation_layer
        The layer that the heads replace.
    rank
        Columns R of P, at least 1.
    factor_scale
        Standard deviation of the weights and biases with which P starts.
    log_variance_bias
        Log-variance with which training starts.
    """

    def __init__(
        self,
        segmentation_layer: Convolution,
        *,
        rank: int = 16,
        factor_scale: float = FACTOR_SCALE,
        log_variance_bias: float = INITIAL_LOG_VARIANCE,
    ) -> None:
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        super().__init__(segmentation_layer, log_variance_bias=log_variance_bias)
        self.rank = rank
        self.factor = pointwise_convolution(segmentation_layer, segmentation_layer.out_channels * rank)
        for parameter in self.factor.parameters():
            nn.init.normal_(parameter, std=factor_scale)

    def layers(self) -> dict[str, tuple[Tensor, Tensor]]:
        return super().layers() | {"cov_factor": weights_of(self.factor)}

    def distribution_parameters(self, features: Tensor) -> dict[str, Tensor]:
        parameters = super().distribution_parameters(features)
        factor = parameters["cov_factor"]
        return parameters | {"cov_factor": factor.unflatten(1, (factor.shape[1] // self.rank, self.rank))}

    def distribution(self, parameters: dict[str, Tensor]) -> LowRankGaussian:
        return LowRankGaussian(parameters["mean_logits"], parameters["diag_var"], parameters["cov_factor"])
