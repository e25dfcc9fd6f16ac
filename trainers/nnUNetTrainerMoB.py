"""A mixture of learned bases, one chosen per partition of the volume (MoB Eq. 6-7, Fig. 2d).

MoB: *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation*.
"""

import torch

from nnunet_stochastic.training import (
    BasisTrainer,
    CyclicTrainer,
    DropoutTrainer,
    EnergyScoreTrainer,
    EntSwagTrainer,
    SwagTrainer,
)


class nnUNetTrainerMoB(BasisTrainer):
    """Σ_n = B̂ diag(a_n)² B̂ᵀ + diag(d_n), z2 drawn anew at every voxel: the paper's form."""


class nnUNetTrainerMoBVolume(nnUNetTrainerMoB):
    """The same covariance at each voxel, with one z2 for the whole volume: noise is correlated between voxels."""

    noise_scope = "volume"


class nnUNetTrainerMoBEnergy(EnergyScoreTrainer, nnUNetTrainerMoBVolume):
    """nnUNetTrainerMoBVolume trained by the energy score: whole samples differ as the annotations do."""

    initial_scale = 2.0


class nnUNetTrainerMoBDropout(DropoutTrainer, nnUNetTrainerMoB):
    """nnUNetTrainerMoB with channel dropout: a set of dropout masks is a member."""


class nnUNetTrainerMoBSWAG(SwagTrainer, nnUNetTrainerMoB):
    """nnUNetTrainerMoB with snapshots of its last epochs: a draw from their Gaussian is a member."""


class nnUNetTrainerMoBEntSWAG(EntSwagTrainer, nnUNetTrainerMoB):
    """nnUNetTrainerMoBSWAG at the low learning rate of ENT: its members hardly differ."""


class nnUNetTrainerMoBCyclic(CyclicTrainer, nnUNetTrainerMoB):
    """nnUNetTrainerMoB that ends with cycles of the learning rate: weights at the minima are members."""


class nnUNetTrainerMoBVolumeDropout(DropoutTrainer, nnUNetTrainerMoBVolume):
    """nnUNetTrainerMoBVolume with channel dropout: a set of dropout masks is a member."""


class nnUNetTrainerMoBVolumeSWAG(SwagTrainer, nnUNetTrainerMoBVolume):
    """nnUNetTrainerMoBVolume with snapshots of its last epochs: a draw from their Gaussian is a member."""


class nnUNetTrainerMoBVolumeEntSWAG(EntSwagTrainer, nnUNetTrainerMoBVolume):
    """nnUNetTrainerMoBVolumeSWAG at the low learning rate of ENT: its members hardly differ."""


class nnUNetTrainerMoBVolumeCyclic(CyclicTrainer, nnUNetTrainerMoBVolume):
    """nnUNetTrainerMoBVolume that ends with cycles of the learning rate: weights at the minima are members."""


class nnUNetTrainerMoBEnergyDropout(DropoutTrainer, nnUNetTrainerMoBEnergy):
    """nnUNetTrainerMoBEnergy with channel dropout: a set of dropout masks is a member."""


class nnUNetTrainerMoBEnergySWAG(SwagTrainer, nnUNetTrainerMoBEnergy):
    """nnUNetTrainerMoBEnergy with snapshots of its last epochs: a draw from their Gaussian is a member."""


class nnUNetTrainerMoBEnergyEntSWAG(EntSwagTrainer, nnUNetTrainerMoBEnergy):
    """nnUNetTrainerMoBEnergySWAG at the low learning rate of ENT: its members hardly differ."""


class nnUNetTrainerMoBEnergyCyclic(CyclicTrainer, nnUNetTrainerMoBEnergy):
    """nnUNetTrainerMoBEnergy that ends with cycles of the learning rate: weights at the minima are members."""


class nnUNetTrainerMoBDemo(nnUNetTrainerMoBVolume):
    """nnUNetTrainerMoBVolume at the length of `nnunet_stochastic_demo`, continued from nnUNetTrainerDemo."""

    deterministic_trainer = "nnUNetTrainerDemo"
    fine_tuning_epochs = 4

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = 20
        self.num_val_iterations_per_epoch = 4
