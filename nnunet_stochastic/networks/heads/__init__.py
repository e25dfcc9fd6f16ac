"""Heads that turn the last features of a segmentation network into the parameters of p(η), one model per module.

A trainer imports those of its model from their module; what all have in common is exported here.
"""

from nnunet_stochastic.networks.heads.base import GaussianHeads

__all__ = ["GaussianHeads"]
