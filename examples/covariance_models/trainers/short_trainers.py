"""The trainers of this comparison: the package's, at a length that two CPU cores carry."""

from __future__ import annotations

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_stochastic.training import BasisTrainer, DiagonalTrainer, FineTuningTrainer, LowRankTrainer

ITERATIONS_PER_EPOCH = 50


class nnUNetTrainerShort(nnUNetTrainer):
    """The deterministic model that all others start from: 30 epochs of 50 iterations."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 30
        self.num_iterations_per_epoch = ITERATIONS_PER_EPOCH
        self.num_val_iterations_per_epoch = 5


class Short:
    """5 epochs of fine-tuning of nnUNetTrainerShort."""

    deterministic_trainer = "nnUNetTrainerShort"
    fine_tuning_epochs = 5
    train_on_raters = False  # the README's numbers are of models trained on the majority vote

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = ITERATIONS_PER_EPOCH
        self.num_val_iterations_per_epoch = 5


class nnUNetTrainerDeterministicShort(Short, FineTuningTrainer):
    pass


class nnUNetTrainerDiagonalShort(Short, DiagonalTrainer):
    pass


class nnUNetTrainerLowRankShort(Short, LowRankTrainer):
    pass


class nnUNetTrainerSingleBasisShort(Short, BasisTrainer):
    num_bases, partitions = 1, 1


class nnUNetTrainerSingleBasisVolumeShort(nnUNetTrainerSingleBasisShort):
    noise_scope = "volume"


class nnUNetTrainerMoBShort(Short, BasisTrainer):
    pass


class nnUNetTrainerMoBVolumeShort(nnUNetTrainerMoBShort):
    noise_scope = "volume"


# What was tried on validation data, one option at a time.


class nnUNetTrainerMoBVolumeHeads1(nnUNetTrainerMoBVolumeShort):
    head_learning_rate_factor = 1.0


class nnUNetTrainerMoBVolumeScale02(nnUNetTrainerMoBVolumeShort):
    initial_scale = 0.2


class nnUNetTrainerMoBVolumeVariance0(nnUNetTrainerMoBVolumeShort):
    log_variance_bias = 0.0


class nnUNetTrainerMoBVolumeSoft(nnUNetTrainerMoBVolumeShort):
    basis_selection = "soft"


class nnUNetTrainerMoBVolumeArgmax(nnUNetTrainerMoBVolumeShort):
    basis_selection = "argmax"


class nnUNetTrainerMoBVolumeKL10(nnUNetTrainerMoBVolumeShort):
    weight_kl = 5e-3


class nnUNetTrainerLowRankFactor005(nnUNetTrainerLowRankShort):
    factor_scale = 0.05


# The same once more: training is not seeded, so these tell how much chance there is in a comparison.


class nnUNetTrainerMoBVolumeAgain(nnUNetTrainerMoBVolumeShort):
    pass


class nnUNetTrainerMoBVolumeHeads1Again(nnUNetTrainerMoBVolumeHeads1):
    pass
