"""Diagonal plus low-rank covariance over the whole patch (Stochastic Segmentation Networks; MoB, Fig. 2b).

MoB: *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation*.
"""

from nnunet_stochastic.training import CyclicTrainer, DropoutTrainer, EntSwagTrainer, LowRankTrainer, SwagTrainer


class nnUNetTrainerLowRank(LowRankTrainer):
    """p(η) = N(μ, diag d + P Pᵀ), P of rank 16 over all voxels and classes of a patch."""


class nnUNetTrainerLowRankDropout(DropoutTrainer, nnUNetTrainerLowRank):
    """nnUNetTrainerLowRank with channel dropout: a set of dropout masks is a member."""


class nnUNetTrainerLowRankSWAG(SwagTrainer, nnUNetTrainerLowRank):
    """nnUNetTrainerLowRank with snapshots of its last epochs: a draw from their Gaussian is a member."""


class nnUNetTrainerLowRankEntSWAG(EntSwagTrainer, nnUNetTrainerLowRank):
    """nnUNetTrainerLowRankSWAG at the low learning rate of ENT: its members hardly differ."""


class nnUNetTrainerLowRankCyclic(CyclicTrainer, nnUNetTrainerLowRank):
    """nnUNetTrainerLowRank that ends with cycles of the learning rate: weights at the minima are members."""
