"""The trainers of this comparison: the package's, at a size and length that two CPU cores carry.

Each model is trained twice over: ``…SmallSWAG`` at a constant learning rate, whose last 300 iterations give SWAG its
snapshots, and ``…Small`` from there at a tenth of the rate, which is the model itself, and takes the snapshots that ENT
takes on its way. ``…SmallDropout`` is both in one.
"""

from __future__ import annotations

from pathlib import Path

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
from nnunet_stochastic.training.ema import ExponentialMovingAverage, copy_weights


class Small:
    """A quarter of the paper's channels and of its batch, epochs of 10 iterations."""

    base_channels = 8
    batch_size_2d = 8
    learning_rate = 1e-3
    average_decay = 0.99  # of a training that is a hundred times as short as the paper's
    validation_iterations = 1
    num_validation_samples = 1
    #: Epochs at the full rate, and at a tenth of it.
    full_epochs, last_epochs = 80, 30
    #: Of a training that this one goes on from.
    epochs_before = 0

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = 10
        self.num_epochs = self.full_epochs + self.last_epochs

    def rate_factor(self, epoch: int) -> float:
        """Of the learning rate in that epoch, counted over both trainings."""
        return 1.0 if epoch < self.full_epochs else 0.1

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=0.0, fused=True)
        return optimizer, LambdaLR(optimizer, lambda epoch: self.rate_factor(self.epochs_before + epoch))

    def perform_actual_validation(self, save_probabilities=False):
        """Nothing: the tables are of test cases."""


class FullRate(SnapshotTrainer):
    """The first of two trainings."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.full_epochs


class LowRate(SnapshotTrainer):
    """The second, which goes on from the weights of the first, with an optimizer and an average of its own."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.epochs_before = self.last_epochs, self.full_epochs

    def initialize(self):
        super().initialize()
        name = type(self).__name__
        folder = Path(self.output_folder.replace(name, f"{name}SWAG"))
        checkpoint = torch.load(folder / "checkpoint_final.pth", map_location=self.device, weights_only=False)
        network = self.unwrap(self.network)
        copy_weights(checkpoint["init_args"]["stochastic_raw_weights"], network)
        self.average = ExponentialMovingAverage(network, self.average_decay)


class SmallSoftmax(Small, SoftmaxTrainer):
    pass


class nnUNetTrainerSoftmaxSmallSWAG(FullRate, SmallSoftmax):
    pass


class nnUNetTrainerSoftmaxSmall(LowRate, SmallSoftmax):
    pass


class nnUNetTrainerSoftmaxSmallDropout(DropoutTrainer, SmallSoftmax):
    pass


class SmallSSN(Small, SSNTrainer):
    """500 iterations on μ alone (the paper's 10 epochs are 2500), then 600 at 3e-4, at which samples stay whole."""

    full_epochs = 110
    mean_epochs = 50

    def rate_factor(self, epoch):
        return min(super().rate_factor(epoch), 1.0 if epoch < self.mean_epochs else 0.3)


class nnUNetTrainerSSNSmallSWAG(FullRate, SmallSSN):
    pass


class nnUNetTrainerSSNSmall(LowRate, SmallSSN):
    mean_epochs = 0


class nnUNetTrainerSSNSmallDropout(DropoutTrainer, SmallSSN):
    pass


class SmallProbUNet(Small, ProbUNetTrainer):
    """A quarter of the paper's 24 channels, too; the weight of the KL divergence has risen after 200 iterations.

    The cross-entropy is a mean over voxels, and a patch has a sixteenth of the paper's.
    """

    base_channels = 6
    full_epochs = 120
    kl_weight = 5e-4 * 128**2 / 32**2
    kl_warm_up_epochs = 20


class nnUNetTrainerProbUNetSmallSWAG(FullRate, SmallProbUNet):
    pass


class nnUNetTrainerProbUNetSmall(LowRate, SmallProbUNet):
    kl_warm_up_epochs = 0


class nnUNetTrainerProbUNetSmallDropout(DropoutTrainer, SmallProbUNet):
    pass


class SmallDiffusion(Small, DiffusionTrainer):
    """It learns to denoise at every noise level and needs more iterations."""

    full_epochs = 120


class nnUNetTrainerDiffusionSmallSWAG(FullRate, SmallDiffusion):
    pass


class nnUNetTrainerDiffusionSmall(LowRate, SmallDiffusion):
    pass


class nnUNetTrainerDiffusionSmallDropout(DropoutTrainer, SmallDiffusion):
    pass
