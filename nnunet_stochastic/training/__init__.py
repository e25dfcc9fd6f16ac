"""What the trainers share: where they start, recipes, models and losses, dropout, snapshots, cycles and seeds."""

from nnunet_stochastic.training.base import BaseTrainer
from nnunet_stochastic.training.cyclic import CycleTrainer, CyclicTrainer
from nnunet_stochastic.training.dropout import DropoutTrainer
from nnunet_stochastic.training.energy_score import EnergyScoreTrainer
from nnunet_stochastic.training.fine_tuning import FineTuningTrainer
from nnunet_stochastic.training.gaussian_trainers import BasisTrainer, DiagonalTrainer, LowRankTrainer
from nnunet_stochastic.training.generative import GenerativeTrainer
from nnunet_stochastic.training.generative_trainers import DiffusionTrainer, ProbUNetTrainer, SoftmaxTrainer, SSNTrainer
from nnunet_stochastic.training.seeding import SeededTrainer
from nnunet_stochastic.training.stochastic import StochasticTrainer
from nnunet_stochastic.training.swag import EntSwagTrainer, SnapshotTrainer, SwagTrainer

__all__ = [
    "BaseTrainer",
    "BasisTrainer",
    "CycleTrainer",
    "CyclicTrainer",
    "DiagonalTrainer",
    "DiffusionTrainer",
    "DropoutTrainer",
    "EnergyScoreTrainer",
    "EntSwagTrainer",
    "FineTuningTrainer",
    "GenerativeTrainer",
    "LowRankTrainer",
    "ProbUNetTrainer",
    "SSNTrainer",
    "SeededTrainer",
    "SnapshotTrainer",
    "SoftmaxTrainer",
    "StochasticTrainer",
    "SwagTrainer",
]
