"""One trainer base per covariance model: which heads it has, whose options are its class attributes.

The models are those of *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D
Segmentation* (MoB).
"""

from __future__ import annotations

from nnunet_stochastic.networks.heads.basis import BasisHeads
from nnunet_stochastic.networks.heads.diagonal import DiagonalHeads
from nnunet_stochastic.networks.heads.low_rank import LowRankHeads
from nnunet_stochastic.training.stochastic import StochasticTrainer

__all__ = ["BasisTrainer", "DiagonalTrainer", "LowRankTrainer"]


class DiagonalTrainer(StochasticTrainer):
    """N(μ, diag d). Options: see ``DiagonalHeads``."""

    heads_class = DiagonalHeads


class LowRankTrainer(StochasticTrainer):
    """N(μ, diag d + P Pᵀ). Options: see ``LowRankHeads``."""

    heads_class = LowRankHeads


class BasisTrainer(StochasticTrainer):
    """Σ_n = B̂ diag(a_n)² B̂ᵀ + diag(d_n); SingleBasis with ``num_bases = 1``, else Mixture-of-Bases.

    Options: see ``BasisHeads``.
    """

    heads_class = BasisHeads
    #: Weight λ_orth of Eq. 9, where there are several bases.
    weight_orthogonality = 1.0
    #: Weight λ_w of Eq. 10, where there are several bases.
    weight_basis_entropy = 0.1
