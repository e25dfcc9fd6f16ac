"""The trainers of this comparison: the package's, at a size and length that two CPU cores carry.

The ``…SWAG`` trainers are the plain models and SWAG at once: their snapshots change nothing about the run.
"""

from __future__ import annotations

import torch
from torch.optim.lr_scheduler import LambdaLR

from nnunet_stochastic.training import (
    DiffusionTrainer,
    DropoutTrainer,
    ProbUNetTrainer,
    SnapshotTrainer,
    SoftmaxTrainer,
    SSNTrainer,
)


class Small:
    """600 iterations of 8 slices, a quarter of the paper's channels; SWAG's 30 snapshots are 10 iterations apart."""

    base_channels = 8
    batch_size_2d = 8
    training_epochs = 60
    learning_rate = 1e-3
    validation_iterations = 1
    num_validation_samples = 1

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = 10


class nnUNetTrainerSoftmaxSmallSWAG(Small, SnapshotTrainer, SoftmaxTrainer):
    pass


class nnUNetTrainerSoftmaxSmallDropout(Small, DropoutTrainer, SoftmaxTrainer):
    pass


class SmallSSN(Small, SSNTrainer):
    """600 iterations on μ alone (the paper's 10 epochs are 2500), then 600 at a fifth of the learning rate."""

    training_epochs = 120
    mean_epochs = 60

    def configure_optimizers(self):
        optimizer, _ = super().configure_optimizers()
        return optimizer, LambdaLR(optimizer, lambda epoch: 1.0 if epoch < self.mean_epochs else 0.2)


class nnUNetTrainerSSNSmallSWAG(SnapshotTrainer, SmallSSN):
    pass


class nnUNetTrainerSSNSmallDropout(DropoutTrainer, SmallSSN):
    pass


class SmallProbUNet(Small, ProbUNetTrainer):
    """A quarter of the paper's 24 channels, too; the weight of the KL divergence has risen after 80 iterations."""

    base_channels = 6
    kl_warm_up_epochs = 8


class nnUNetTrainerProbUNetSmallSWAG(SnapshotTrainer, SmallProbUNet):
    pass


class nnUNetTrainerProbUNetSmallDropout(DropoutTrainer, SmallProbUNet):
    pass


class SmallDiffusion(Small, DiffusionTrainer):
    """900 iterations: it learns to denoise at every noise level and needs more of them."""

    training_epochs = 90


class nnUNetTrainerDiffusionSmallSWAG(SnapshotTrainer, SmallDiffusion):
    pass


class nnUNetTrainerDiffusionSmallDropout(DropoutTrainer, SmallDiffusion):
    pass
