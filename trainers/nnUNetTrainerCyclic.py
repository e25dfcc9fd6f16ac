"""Plain nnU-Net, from scratch, as an ensemble of one run."""

from nnunet_stochastic.training import BaseTrainer, CycleTrainer


class nnUNetTrainerCyclic(CycleTrainer, BaseTrainer):
    """nnU-Net that ends with cycles of the learning rate: weights at the minima are members."""
