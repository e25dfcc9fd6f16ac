"""A deterministic nnU-Net at the length of `nnunet_stochastic_demo`: minutes on two CPU cores, not a day on a GPU."""

from __future__ import annotations

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnunet_stochastic.training import SeededTrainer


class nnUNetTrainerDemo(SeededTrainer):
    """20 epochs of 20 iterations with AdamW, for the demo only; a model for use needs nnU-Net's recipe and full length.

    nnU-Net's SGD can spend its first hundreds of iterations on predicting background alone, which 1000 epochs forgive.
    """

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int | str,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 20
        self.num_iterations_per_epoch = 20
        self.num_val_iterations_per_epoch = 4
        self.initial_lr = 5e-3

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)
