"""nnU-Net's own trainer at the length of `nnunet_stochastic_demo`: minutes on two CPU cores, not a day on a GPU."""

from __future__ import annotations

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class nnUNetTrainerDemo(nnUNetTrainer):
    """nnU-Net's recipe with 12 epochs of 20 iterations, for the demo only; a model for use needs the full length."""

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int | str,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 12
        self.num_iterations_per_epoch = 20
        self.num_val_iterations_per_epoch = 4
