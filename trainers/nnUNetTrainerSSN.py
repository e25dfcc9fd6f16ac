"""Stochastic Segmentation Network (Monteiro et al. 2020) on the attention U-Net, trained from scratch."""

from nnunet_stochastic.training import CycleTrainer, DropoutTrainer, SnapshotTrainer, SSNTrainer


class nnUNetTrainerSSN(SSNTrainer):
    """p(η) = N(μ, diag d + P Pᵀ), P of rank 10 over all voxels and classes of a patch."""


class nnUNetTrainerSSNDropout(DropoutTrainer, nnUNetTrainerSSN):
    """nnUNetTrainerSSN with channel dropout: a set of dropout masks is a member."""


class nnUNetTrainerSSNSWAG(SnapshotTrainer, nnUNetTrainerSSN):
    """The run of nnUNetTrainerSSN with snapshots of its last epochs: a draw from their Gaussian is a member."""


class nnUNetTrainerSSNCyclic(CycleTrainer, nnUNetTrainerSSN):
    """nnUNetTrainerSSN that ends with cycles of the learning rate: weights at the minima are members."""
