"""Independent Gaussian noise on every logit (MoB, Fig. 2a)."""

from nnunet_stochastic.training import DiagonalTrainer


class nnUNetTrainerDiagonal(DiagonalTrainer):
    """p(η) = N(μ, diag d)."""
