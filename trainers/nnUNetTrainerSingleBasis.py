"""One learned basis for the whole volume (MoB Eq. 4-5, Fig. 2c)."""

from nnunet_stochastic.training import BasisTrainer


class nnUNetTrainerSingleBasis(BasisTrainer):
    """Σ_n = B diag(a_n)² Bᵀ + diag(d_n), z2 drawn anew at every voxel: the paper's form."""

    rank = 16
    num_bases = 1
    partitions = 1


class nnUNetTrainerSingleBasisVolume(nnUNetTrainerSingleBasis):
    """The same covariance at each voxel, with one z2 for the whole volume: noise is correlated between voxels."""

    noise_scope = "volume"
