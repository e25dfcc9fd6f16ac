"""Heads that turn the last features of a segmentation network into the parameters of p(η)."""

from nnunet_stochastic.networks.heads.base import LOG_VARIANCE_RANGE, GaussianHeads
from nnunet_stochastic.networks.heads.basis import BasisHeads
from nnunet_stochastic.networks.heads.diagonal import DiagonalHeads
from nnunet_stochastic.networks.heads.low_rank import LowRankHeads

__all__ = ["LOG_VARIANCE_RANGE", "BasisHeads", "DiagonalHeads", "GaussianHeads", "LowRankHeads"]
