"""What the trainers share: where they start, the recipes, the heads and the losses, dropout and snapshots."""

from nnunet_stochastic.training.dropout import DropoutTrainer
from nnunet_stochastic.training.fine_tuning import FineTuningTrainer
from nnunet_stochastic.training.models import BasisTrainer, DiagonalTrainer, LowRankTrainer
from nnunet_stochastic.training.stochastic import StochasticTrainer
from nnunet_stochastic.training.swag import SwagTrainer

__all__ = [
    "BasisTrainer",
    "DiagonalTrainer",
    "DropoutTrainer",
    "FineTuningTrainer",
    "LowRankTrainer",
    "StochasticTrainer",
    "SwagTrainer",
]
