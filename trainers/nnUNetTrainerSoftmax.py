"""The attention U-Net alone: the deterministic baseline of the generative models."""

from nnunet_stochastic.training import CycleTrainer, DropoutTrainer, SnapshotTrainer, SoftmaxTrainer


class nnUNetTrainerSoftmax(SoftmaxTrainer):
    """Cross-entropy; its aleatoric uncertainty is the entropy of the softmax."""


class nnUNetTrainerSoftmaxDropout(DropoutTrainer, nnUNetTrainerSoftmax):
    """nnUNetTrainerSoftmax with channel dropout: a set of dropout masks is a member."""


class nnUNetTrainerSoftmaxSWAG(SnapshotTrainer, nnUNetTrainerSoftmax):
    """The run of nnUNetTrainerSoftmax with snapshots of its last epochs: a draw from their Gaussian is a member."""


class nnUNetTrainerSoftmaxCyclic(CycleTrainer, nnUNetTrainerSoftmax):
    """nnUNetTrainerSoftmax that ends with cycles of the learning rate: weights at the minima are members."""
