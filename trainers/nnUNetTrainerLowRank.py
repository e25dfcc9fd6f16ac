"""Diagonal plus low-rank covariance over the whole patch (Stochastic Segmentation Networks; MoB, Fig. 2b)."""

from nnunet_stochastic.training import LowRankTrainer


class nnUNetTrainerLowRank(LowRankTrainer):
    """p(η) = N(μ, diag d + P Pᵀ), P of rank 16 over all voxels and classes of a patch."""

    rank = 16
