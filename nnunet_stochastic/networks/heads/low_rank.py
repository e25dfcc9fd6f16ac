"""Heads of the LowRank model: p(η) = N(μ, diag d + P Pᵀ) (Stochastic Segmentation Networks; MoB, Fig. 2b)."""

from __future__ import annotations

from torch import Tensor, nn

from nnunet_stochastic.distributions import LowRankGaussian
from nnunet_stochastic.networks.heads.base import GaussianHeads

__all__ = ["LowRankHeads"]


class LowRankHeads(GaussianHeads):
    """μ, d and P: C + C + C·R channels.

    Parameters
    ----------
    segmentation_layer
        The layer that the heads replace.
    rank
        R.
    factor_scale
        Standard deviation of the weights and biases with which P starts. At 0 the gradient of P would be zero.
    """

    def __init__(
        self,
        segmentation_layer: nn.Module,
        *,
        rank: int = 16,
        factor_scale: float = 0.2,
        log_variance_bias: float = -3.0,
    ) -> None:
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        super().__init__(segmentation_layer, log_variance_bias=log_variance_bias)
        self.rank = rank
        self.factor = type(segmentation_layer)(
            segmentation_layer.in_channels, segmentation_layer.out_channels * rank, kernel_size=1
        )
        nn.init.normal_(self.factor.weight, std=factor_scale)
        nn.init.normal_(self.factor.bias, std=factor_scale)

    def distribution_parameters(self, features: Tensor) -> dict[str, Tensor]:
        parameters = super().distribution_parameters(features)
        factor = self.factor(features)
        return parameters | {"cov_factor": factor.unflatten(1, (factor.shape[1] // self.rank, self.rank))}

    def distribution(self, parameters: dict[str, Tensor]) -> LowRankGaussian:
        return LowRankGaussian(parameters["mean_logits"], parameters["diag_var"], parameters["cov_factor"])
