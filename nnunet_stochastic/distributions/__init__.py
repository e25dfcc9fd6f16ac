"""Distributions over logits: parameters in, samples and covariances out. Knows torch alone."""

from nnunet_stochastic.distributions.base import LogitDistribution, PointMass, full_precision
from nnunet_stochastic.distributions.basis import BasisGaussian, BasisSelection, NoiseScope, select_bases
from nnunet_stochastic.distributions.diagonal import DiagonalGaussian
from nnunet_stochastic.distributions.logistic_normal import logistic_normal_moments
from nnunet_stochastic.distributions.low_rank import LowRankGaussian
from nnunet_stochastic.distributions.partitions import apply_per_partition, partition_grid, partition_index

__all__ = [
    "BasisGaussian",
    "BasisSelection",
    "DiagonalGaussian",
    "LogitDistribution",
    "LowRankGaussian",
    "NoiseScope",
    "PointMass",
    "apply_per_partition",
    "full_precision",
    "logistic_normal_moments",
    "partition_grid",
    "partition_index",
    "select_bases",
]
