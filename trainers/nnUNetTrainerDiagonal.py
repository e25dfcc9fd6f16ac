"""Independent Gaussian noise on every logit (MoB, Fig. 2a).

MoB: *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation*.
"""

from nnunet_stochastic.training import CyclicTrainer, DiagonalTrainer, DropoutTrainer, EntSwagTrainer, SwagTrainer


class nnUNetTrainerDiagonal(DiagonalTrainer):
    """p(η) = N(μ, diag d)."""


class nnUNetTrainerDiagonalDropout(DropoutTrainer, nnUNetTrainerDiagonal):
    """nnUNetTrainerDiagonal with channel dropout: a set of dropout masks is a member."""


class nnUNetTrainerDiagonalSWAG(SwagTrainer, nnUNetTrainerDiagonal):
    """nnUNetTrainerDiagonal with snapshots of its last epochs: a draw from their Gaussian is a member."""


class nnUNetTrainerDiagonalEntSWAG(EntSwagTrainer, nnUNetTrainerDiagonal):
    """nnUNetTrainerDiagonalSWAG at the low learning rate of ENT: its members hardly differ."""


class nnUNetTrainerDiagonalCyclic(CyclicTrainer, nnUNetTrainerDiagonal):
    """nnUNetTrainerDiagonal that ends with cycles of the learning rate: weights at the minima are members."""
