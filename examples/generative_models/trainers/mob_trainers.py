"""The mixture of bases in this comparison, fine-tuned from a small deterministic nnU-Net."""

from __future__ import annotations

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_stochastic.training import BasisTrainer, DropoutTrainer, EntSwagTrainer


class nnUNetTrainerSmall(nnUNetTrainer):
    """The deterministic model that the mixture of bases starts from: 400 iterations of AdamW."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 8
        self.num_iterations_per_epoch = 50
        self.num_val_iterations_per_epoch = 2
        self.initial_lr = 5e-3

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)


class SmallMoB(BasisTrainer):
    """Epochs of 10 iterations."""

    deterministic_trainer = "nnUNetTrainerSmall"

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = 10
        self.num_val_iterations_per_epoch = 1


class nnUNetTrainerMoBSmallSWAG(EntSwagTrainer, SmallMoB):
    pass


class nnUNetTrainerMoBSmallDropout(DropoutTrainer, SmallMoB):
    pass
