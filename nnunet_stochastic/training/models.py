"""One trainer base per covariance model of MoB: its options as class attributes, and the heads they describe."""

from __future__ import annotations

from torch import nn

from nnunet_stochastic.distributions import BasisSelection, NoiseScope
from nnunet_stochastic.networks import BasisHeads, DiagonalHeads, LowRankHeads
from nnunet_stochastic.training.stochastic import StochasticTrainer

__all__ = ["BasisTrainer", "DiagonalTrainer", "LowRankTrainer"]


class DiagonalTrainer(StochasticTrainer):
    """N(μ, diag d)."""

    #: Log-variance with which training starts.
    log_variance_bias = -3.0

    @classmethod
    def build_heads(cls, segmentation_layer: nn.Module) -> DiagonalHeads:
        return DiagonalHeads(segmentation_layer, log_variance_bias=cls.log_variance_bias)


class LowRankTrainer(DiagonalTrainer):
    """N(μ, diag d + P Pᵀ)."""

    #: R.
    rank = 16
    #: Standard deviation of the weights with which P starts.
    factor_scale = 0.2

    @classmethod
    def build_heads(cls, segmentation_layer: nn.Module) -> LowRankHeads:
        return LowRankHeads(
            segmentation_layer, rank=cls.rank, factor_scale=cls.factor_scale, log_variance_bias=cls.log_variance_bias
        )


class BasisTrainer(DiagonalTrainer):
    """Σ_n = B̂ diag(a_n)² B̂ᵀ + diag(d_n); SingleBasis with ``num_bases = 1``, else Mixture-of-Bases."""

    #: R.
    rank = 16
    #: M.
    num_bases = 3
    #: G, partitions per axis.
    partitions = 4
    #: ``"voxel"``: z2 per voxel, as MoB's Eq. 14; ``"volume"``: one z2 for the whole image.
    noise_scope: NoiseScope = "voxel"
    basis_selection: BasisSelection = "straight_through"
    #: Of the softmax over bases where ``basis_selection`` is ``"soft"``.
    temperature = 0.3
    #: a with which training starts.
    initial_scale = 0.7

    @classmethod
    def build_heads(cls, segmentation_layer: nn.Module) -> BasisHeads:
        return BasisHeads(
            segmentation_layer,
            rank=cls.rank,
            num_bases=cls.num_bases,
            partitions=cls.partitions,
            noise_scope=cls.noise_scope,
            basis_selection=cls.basis_selection,
            temperature=cls.temperature,
            initial_scale=cls.initial_scale,
            log_variance_bias=cls.log_variance_bias,
        )
