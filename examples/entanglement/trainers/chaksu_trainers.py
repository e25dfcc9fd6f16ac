"""The four models with the settings of the entanglement study for Chákṣu: 500 epochs, and β = 2.5e-3.

An epoch of the paper is a pass over the 648 training images, 20 batches of 32; nnU-Net's has 250 batches whatever the
data ("Rethinking Uncertainty Quantification and Entanglement in Image Segmentation", sections 3.1, 3.2 and 3.5).
"""

from __future__ import annotations

import torch

from nnunet_stochastic.training import (
    DiffusionTrainer,
    DropoutTrainer,
    ProbUNetTrainer,
    SnapshotTrainer,
    SoftmaxTrainer,
    SSNTrainer,
)


class Chaksu:
    """500 epochs of 20 batches; the 162 validation images are 5."""

    training_epochs = 500
    validation_iterations = 5

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = 20


class nnUNetTrainerSoftmaxChaksu(Chaksu, SoftmaxTrainer):
    pass


class nnUNetTrainerSoftmaxChaksuDropout(DropoutTrainer, nnUNetTrainerSoftmaxChaksu):
    pass


class nnUNetTrainerSoftmaxChaksuSWAG(SnapshotTrainer, nnUNetTrainerSoftmaxChaksu):
    pass


class nnUNetTrainerSSNChaksu(Chaksu, SSNTrainer):
    pass


class nnUNetTrainerSSNChaksuDropout(DropoutTrainer, nnUNetTrainerSSNChaksu):
    pass


class nnUNetTrainerSSNChaksuSWAG(SnapshotTrainer, nnUNetTrainerSSNChaksu):
    pass


class nnUNetTrainerProbUNetChaksu(Chaksu, ProbUNetTrainer):
    kl_weight = 2.5e-3


class nnUNetTrainerProbUNetChaksuDropout(DropoutTrainer, nnUNetTrainerProbUNetChaksu):
    pass


class nnUNetTrainerProbUNetChaksuSWAG(SnapshotTrainer, nnUNetTrainerProbUNetChaksu):
    pass


class nnUNetTrainerDiffusionChaksu(Chaksu, DiffusionTrainer):
    pass


class nnUNetTrainerDiffusionChaksuDropout(DropoutTrainer, nnUNetTrainerDiffusionChaksu):
    pass


class nnUNetTrainerDiffusionChaksuSWAG(SnapshotTrainer, nnUNetTrainerDiffusionChaksu):
    pass
