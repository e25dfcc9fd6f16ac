"""One learned basis for the whole volume (MoB Eq. 4-5, Fig. 2c).

MoB: *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation*.
"""

from nnunet_stochastic.training import (
    BasisTrainer,
    CyclicTrainer,
    DropoutTrainer,
    EnergyScoreTrainer,
    EntSwagTrainer,
    SwagTrainer,
)


class nnUNetTrainerSingleBasis(BasisTrainer):
    """Σ_n = B diag(a_n)² Bᵀ + diag(d_n), z2 drawn anew at every voxel: the paper's form."""

    num_bases = 1


class nnUNetTrainerSingleBasisVolume(nnUNetTrainerSingleBasis):
    """The same covariance at each voxel, with one z2 for the whole volume: noise is correlated between voxels."""

    noise_scope = "volume"


class nnUNetTrainerSingleBasisEnergy(EnergyScoreTrainer, nnUNetTrainerSingleBasisVolume):
    """nnUNetTrainerSingleBasisVolume trained by the energy score: whole samples differ as the annotations do."""

    initial_scale = 2.0


class nnUNetTrainerSingleBasisDropout(DropoutTrainer, nnUNetTrainerSingleBasis):
    """nnUNetTrainerSingleBasis with channel dropout: a set of dropout masks is a member."""


class nnUNetTrainerSingleBasisSWAG(SwagTrainer, nnUNetTrainerSingleBasis):
    """nnUNetTrainerSingleBasis with snapshots of its last epochs: a draw from their Gaussian is a member."""


class nnUNetTrainerSingleBasisEntSWAG(EntSwagTrainer, nnUNetTrainerSingleBasis):
    """nnUNetTrainerSingleBasisSWAG at the low learning rate of ENT: its members hardly differ."""


class nnUNetTrainerSingleBasisCyclic(CyclicTrainer, nnUNetTrainerSingleBasis):
    """nnUNetTrainerSingleBasis that ends with cycles of the learning rate: weights at the minima are members."""


class nnUNetTrainerSingleBasisVolumeDropout(DropoutTrainer, nnUNetTrainerSingleBasisVolume):
    """nnUNetTrainerSingleBasisVolume with channel dropout: a set of dropout masks is a member."""


class nnUNetTrainerSingleBasisVolumeSWAG(SwagTrainer, nnUNetTrainerSingleBasisVolume):
    """nnUNetTrainerSingleBasisVolume with snapshots of its last epochs: a draw from their Gaussian is a member."""


class nnUNetTrainerSingleBasisVolumeEntSWAG(EntSwagTrainer, nnUNetTrainerSingleBasisVolume):
    """nnUNetTrainerSingleBasisVolumeSWAG at the low learning rate of ENT: its members hardly differ."""


class nnUNetTrainerSingleBasisVolumeCyclic(CyclicTrainer, nnUNetTrainerSingleBasisVolume):
    """nnUNetTrainerSingleBasisVolume that ends with cycles of the learning rate: weights at the minima are members."""


class nnUNetTrainerSingleBasisEnergyDropout(DropoutTrainer, nnUNetTrainerSingleBasisEnergy):
    """nnUNetTrainerSingleBasisEnergy with channel dropout: a set of dropout masks is a member."""


class nnUNetTrainerSingleBasisEnergySWAG(SwagTrainer, nnUNetTrainerSingleBasisEnergy):
    """nnUNetTrainerSingleBasisEnergy with snapshots of its last epochs: a draw from their Gaussian is a member."""


class nnUNetTrainerSingleBasisEnergyEntSWAG(EntSwagTrainer, nnUNetTrainerSingleBasisEnergy):
    """nnUNetTrainerSingleBasisEnergySWAG at the low learning rate of ENT: its members hardly differ."""


class nnUNetTrainerSingleBasisEnergyCyclic(CyclicTrainer, nnUNetTrainerSingleBasisEnergy):
    """nnUNetTrainerSingleBasisEnergy that ends with cycles of the learning rate: weights at the minima are members."""
