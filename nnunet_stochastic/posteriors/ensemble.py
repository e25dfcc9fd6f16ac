"""The trained weights themselves: one member per fold, whose folds together are an ensemble.

    p(θ) = 1/E Σ_e δ(θ - θ_e)

with the E trained folds given: independent initialisations of the same data make a deep ensemble (Lakshminarayanan et
al. 2017, https://arxiv.org/abs/1612.01474; section 3.2 of Christensen et al., Rethinking Uncertainty Quantification and
Entanglement in Image Segmentation, ENT), see ``datasets.ensemble_splits``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from nnunet_stochastic.epistemic import EpistemicMethod
from nnunet_stochastic.posteriors.base import Missing, WeightPosterior

__all__ = ["TrainedWeights"]


class TrainedWeights(WeightPosterior):
    """All mass at the weights of the checkpoint; every fold has it."""

    @classmethod
    def missing(cls, method: EpistemicMethod, fold_folder: Path, network: nn.Module) -> Missing | None:
        return None

    @property
    def num_members(self) -> int:
        return 1

    def member_names(self, fold: str) -> list[str]:
        return [fold]

    def activate(self, network: nn.Module, generator: torch.Generator) -> None:
        """The network is the member."""
