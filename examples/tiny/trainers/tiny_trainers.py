"""Two models of the entanglement study at a size that two CPU cores train in seconds: it shows that a study runs."""

from __future__ import annotations

import torch

from nnunet_stochastic.training import DropoutTrainer, SnapshotTrainer, SoftmaxTrainer, SSNTrainer


class Tiny:
    """Four narrow levels, 5 epochs of 10 batches of 8 images, no closing validation."""

    base_channels = 8
    channel_multipliers = (1, 1, 2, 2)
    batch_size_2d = 8
    training_epochs = 5
    validation_iterations = 1
    learning_rate = 4e-3

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = 10

    def perform_actual_validation(self, save_probabilities=False):
        """Nothing: its worker processes take longer to start than all epochs take, and the study predicts anyway."""


class nnUNetTrainerSoftmaxTiny(Tiny, SoftmaxTrainer):
    pass


class nnUNetTrainerSoftmaxTinyDropout(DropoutTrainer, nnUNetTrainerSoftmaxTiny):
    pass


class nnUNetTrainerSoftmaxTinySWAG(SnapshotTrainer, nnUNetTrainerSoftmaxTiny):
    num_snapshots = 3


class nnUNetTrainerSSNTiny(Tiny, SSNTrainer):
    mean_epochs = 2
    num_training_samples = 5


class nnUNetTrainerSSNTinyDropout(DropoutTrainer, nnUNetTrainerSSNTiny):
    pass


class nnUNetTrainerSSNTinySWAG(SnapshotTrainer, nnUNetTrainerSSNTiny):
    num_snapshots = 3
