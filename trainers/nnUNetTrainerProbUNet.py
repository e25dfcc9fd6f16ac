"""Probabilistic U-Net (Kohl et al. 2018) on the attention U-Net."""

from nnunet_stochastic.training import CycleTrainer, DropoutTrainer, ProbUNetTrainer, SnapshotTrainer


class nnUNetTrainerProbUNet(ProbUNetTrainer):
    """Six latent numbers per image; the weight of the KL divergence is that of LIDC.

    For Chaksu the paper takes ``kl_weight = 2.5e-3``: a subclass of another name that sets it.
    """


class nnUNetTrainerProbUNetDropout(DropoutTrainer, nnUNetTrainerProbUNet):
    """nnUNetTrainerProbUNet with channel dropout: a set of dropout masks is a member."""


class nnUNetTrainerProbUNetSWAG(SnapshotTrainer, nnUNetTrainerProbUNet):
    """The run of nnUNetTrainerProbUNet with snapshots of its last epochs: a draw from their Gaussian is a member."""


class nnUNetTrainerProbUNetCyclic(CycleTrainer, nnUNetTrainerProbUNet):
    """nnUNetTrainerProbUNet that ends with cycles of the learning rate: weights at the minima are members."""
