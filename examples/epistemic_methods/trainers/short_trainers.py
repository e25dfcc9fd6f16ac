"""The trainers of this comparison: the package's, at a length that two CPU cores carry."""

from __future__ import annotations

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_stochastic.training import BasisTrainer, DropoutTrainer, EntSwagTrainer, FineTuningTrainer, LowRankTrainer


class nnUNetTrainerShort(nnUNetTrainer):
    """The deterministic model that all others of its fold start from: 400 iterations of AdamW.

    nnU-Net's SGD leaves some of the folds on background alone at this length.
    """

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 8
        self.num_iterations_per_epoch = 50
        self.num_val_iterations_per_epoch = 2
        self.initial_lr = 5e-3

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)


class Short:
    """10 epochs of 10 iterations of fine-tuning of nnUNetTrainerShort; SWAG's 30 snapshots are 10 iterations apart."""

    deterministic_trainer = "nnUNetTrainerShort"
    fine_tuning_epochs = 10

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = 10
        self.num_val_iterations_per_epoch = 1


class nnUNetTrainerSoftmaxShort(Short, FineTuningTrainer):
    """No heads: the softmax of the deterministic network."""


class nnUNetTrainerLowRankShort(Short, LowRankTrainer):
    pass


class nnUNetTrainerMoBShort(Short, BasisTrainer):
    pass


class nnUNetTrainerMoBVolumeShort(nnUNetTrainerMoBShort):
    noise_scope = "volume"


class nnUNetTrainerSoftmaxDropoutShort(Short, DropoutTrainer, FineTuningTrainer):
    pass


class nnUNetTrainerLowRankDropoutShort(Short, DropoutTrainer, LowRankTrainer):
    pass


class nnUNetTrainerMoBDropoutShort(Short, DropoutTrainer, BasisTrainer):
    pass


class nnUNetTrainerMoBVolumeDropoutShort(nnUNetTrainerMoBDropoutShort):
    noise_scope = "volume"


class nnUNetTrainerSoftmaxSWAGShort(Short, EntSwagTrainer):
    pass


class nnUNetTrainerLowRankSWAGShort(Short, EntSwagTrainer, LowRankTrainer):
    pass


class nnUNetTrainerMoBSWAGShort(Short, EntSwagTrainer, BasisTrainer):
    pass


class nnUNetTrainerMoBVolumeSWAGShort(nnUNetTrainerMoBSWAGShort):
    noise_scope = "volume"
