"""What the trainers share: where they start, the recipes, the heads and the losses."""

from nnunet_stochastic.training.fine_tuning import FineTuningTrainer
from nnunet_stochastic.training.models import BasisTrainer, DiagonalTrainer, LowRankTrainer
from nnunet_stochastic.training.stochastic import StochasticTrainer

__all__ = ["BasisTrainer", "DiagonalTrainer", "FineTuningTrainer", "LowRankTrainer", "StochasticTrainer"]
