"""Heads of the Diagonal model: p(η) = N(μ, diag d).

Fig. 2a of *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation*
(MoB).
"""

from __future__ import annotations

from torch import Tensor

from nnunet_stochastic.distributions import DiagonalGaussian
from nnunet_stochastic.networks.heads.base import GaussianHeads

__all__ = ["DiagonalHeads"]


class DiagonalHeads(GaussianHeads):
    """μ and d, C channels each."""

    def distribution(self, parameters: dict[str, Tensor]) -> DiagonalGaussian:
        return DiagonalGaussian(parameters["mean_logits"], parameters["diag_var"])
