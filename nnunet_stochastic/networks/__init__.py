"""Networks: image -> parameters of p(η). Knows torch alone."""

from nnunet_stochastic.networks.heads import BasisHeads, DiagonalHeads, GaussianHeads, LowRankHeads
from nnunet_stochastic.networks.stochastic import StochasticNetwork

__all__ = ["BasisHeads", "DiagonalHeads", "GaussianHeads", "LowRankHeads", "StochasticNetwork"]
