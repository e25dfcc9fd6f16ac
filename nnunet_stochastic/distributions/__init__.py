"""Distributions over logits: parameters in, samples and covariances out. Knows torch alone."""

from nnunet_stochastic.distributions.base import (
    GaussianLogits,
    LogitDistribution,
    PointMass,
    SomeLogits,
    full_precision,
)
from nnunet_stochastic.distributions.basis import BasisGaussian, BasisSelection, NoiseScope, select_bases
from nnunet_stochastic.distributions.denoising import DenoisingLogits
from nnunet_stochastic.distributions.diagonal import DiagonalGaussian
from nnunet_stochastic.distributions.latent import LatentLogits
from nnunet_stochastic.distributions.lattice import lattice_nodes, lattice_normals, lattice_points, tail_spread
from nnunet_stochastic.distributions.logistic_normal import logistic_normal_moments
from nnunet_stochastic.distributions.low_rank import LowRankGaussian
from nnunet_stochastic.distributions.mean_probability import logits_of_mean_probability
from nnunet_stochastic.distributions.noise_schedule import NoiseSchedule
from nnunet_stochastic.distributions.partitions import apply_per_partition, partition_grid, partition_index
from nnunet_stochastic.distributions.regularizers import basis_entropy_loss, kl_to_unit_variance, orthogonality_loss

__all__ = [
    "BasisGaussian",
    "BasisSelection",
    "DenoisingLogits",
    "DiagonalGaussian",
    "GaussianLogits",
    "LatentLogits",
    "LogitDistribution",
    "LowRankGaussian",
    "NoiseSchedule",
    "NoiseScope",
    "PointMass",
    "SomeLogits",
    "apply_per_partition",
    "basis_entropy_loss",
    "full_precision",
    "kl_to_unit_variance",
    "lattice_nodes",
    "lattice_normals",
    "lattice_points",
    "logistic_normal_moments",
    "logits_of_mean_probability",
    "orthogonality_loss",
    "partition_grid",
    "partition_index",
    "select_bases",
    "tail_spread",
]
