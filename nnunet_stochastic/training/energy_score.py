"""Train whole samples to spread as annotations do: the energy score in the place of the k-sample loss.

    L = ES(p(η), t) + λ_CE CE(1/K Σ_k softmax(η_k), t) + Σ_i λ_i R_i

See ``losses.energy_score``. With the masks of raters, one at random each time a case is loaded, the spread learned is
that of the raters; with one annotation per case it is that of the errors that the network makes on training cases.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from nnunet_stochastic.distributions import GaussianLogits
from nnunet_stochastic.losses import energy_score_loss
from nnunet_stochastic.training.stochastic import StochasticTrainer

__all__ = ["EnergyScoreTrainer"]


class EnergyScoreTrainer(StochasticTrainer):
    """Stands in front of a model's trainer: ``class X(EnergyScoreTrainer, BasisTrainer)``."""

    #: Weight λ_CE of the cross-entropy of the predictive mean; that of the energy score is 1.
    weight_cross_entropy = 10.0

    def sampled_loss(
        self, distribution: GaussianLogits, segmentation_loss: Callable[[Tensor, Tensor], Tensor], target: Tensor
    ) -> Tensor:
        return energy_score_loss(
            distribution,
            self.encode(target),
            self.num_training_samples,
            regions=self.label_manager.has_regions,
            weight_cross_entropy=self.weight_cross_entropy,
            recompute=self.recompute_samples,
        )
