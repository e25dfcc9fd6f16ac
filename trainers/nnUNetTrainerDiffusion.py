"""Diffusion of the segmentation itself on the attention U-Net."""

from nnunet_stochastic.training import CycleTrainer, DiffusionTrainer, DropoutTrainer, SnapshotTrainer


class nnUNetTrainerDiffusion(DiffusionTrainer):
    """Predicts the mask behind a noisy one; sampled in 10 DDIM steps."""


class nnUNetTrainerDiffusionDropout(DropoutTrainer, nnUNetTrainerDiffusion):
    """nnUNetTrainerDiffusion with channel dropout: a set of dropout masks is a member."""


class nnUNetTrainerDiffusionSWAG(SnapshotTrainer, nnUNetTrainerDiffusion):
    """The run of nnUNetTrainerDiffusion with snapshots of its last epochs: a draw from their Gaussian is a member."""


class nnUNetTrainerDiffusionCyclic(CycleTrainer, nnUNetTrainerDiffusion):
    """nnUNetTrainerDiffusion that ends with cycles of the learning rate: weights at the minima are members."""
