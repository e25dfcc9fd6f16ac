"""The trainer of every Gaussian model: heads on the planned network, the k-sample loss and the regularizers.

    L = 1/K Σ_k [λ_CE CE(η_k, t) + λ_dice Dice(η_k, t)] + Σ_i λ_i R_i

(Eq. 11-12 of *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation*, MoB.)
λ_CE = λ_dice = 1 are nnU-Net's own compound loss (or Dice + BCE for regions). The regularizers R_i are those of the
model's heads, L_KL of the variances for every model. Deep-supervision outputs are deterministic and keep nnU-Net's
weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from torch import Tensor, nn

from nnunet_stochastic.distributions import GaussianLogits, logits_of_mean_probability
from nnunet_stochastic.losses import k_sample_loss
from nnunet_stochastic.networks import GaussianHeads, StochasticNetwork
from nnunet_stochastic.training.fine_tuning import FineTuningTrainer
from nnunet_stochastic.training.optimizers import group_parameters
from nnunet_stochastic.training.options import adopt_options, chosen_options
from nnunet_stochastic.training.phases import TrainingPhase, opening_phase

__all__ = ["StochasticTrainer"]


class StochasticTrainer(FineTuningTrainer):
    """Base of the trainers with heads. A subclass says which heads in ``heads_class``, whose options it takes over.

    Validation, and with it the best checkpoint, judges the predictive mean E[softmax(η)] over ``num_training_samples``
    samples, not the softmax of the mean logits.
    """

    #: Called with the layer to replace and the options, which are class attributes of the trainer.
    heads_class: Callable[..., GaussianHeads]
    #: Samples K of the loss and of validation.
    num_training_samples = 5
    #: Weight λ of the KL divergence to unit variance; each further regularizer of the heads has its ``weight_NAME`` in
    #: the subclass.
    weight_kl = 5e-4
    #: Epochs on the mean logits alone before samples are drawn, when training starts from scratch; fewer where it is
    #: short, see ``phases``.
    warm_up_epochs = 10
    #: Learning rate of what the heads add, in units of the learning rate, while fine-tuning.
    head_learning_rate_factor = 10.0
    #: Recompute each sample's loss in the backward pass rather than keep its graph: memory stays flat in K.
    recompute_samples = True

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "heads_class" in vars(cls):
            adopt_options(cls, cls.heads_class)

    @classmethod
    def build_heads(cls, segmentation_layer: nn.Module) -> GaussianHeads:
        """The heads that replace the network's last segmentation layer."""
        return cls.heads_class(segmentation_layer, **chosen_options(cls, cls.heads_class))

    @classmethod
    def build_network_architecture(
        cls, plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision=True
    ) -> StochasticNetwork:
        backbone = super().build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )
        return StochasticNetwork(backbone, cls.build_heads)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return group_parameters(self.unwrap(self.network), self.head_learning_rate_factor)

    @property
    def in_warm_up(self) -> bool:
        """Whether the current epoch trains the mean logits alone."""
        return self.current_epoch < self._mean_phase.epochs

    @property
    def _mean_phase(self) -> TrainingPhase:
        planned = self.warm_up_epochs if self.recipe == "scratch" else 0
        return TrainingPhase("training on the mean logits alone", planned, opening_phase(planned, self.num_epochs))

    def phases(self) -> list[TrainingPhase]:
        return [*super().phases(), self._mean_phase]

    def train_step(self, batch: dict) -> dict[str, np.ndarray]:
        data = batch["data"].to(self.device, non_blocking=True)
        target = batch["target"]
        targets = [t.to(self.device, non_blocking=True) for t in (target if isinstance(target, list) else [target])]
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            output, parameters = self.network(data, return_parameters=True)
            loss = self.training_loss(output if isinstance(output, list) else [output], parameters, targets)
        self.take_optimizer_step(loss)
        return {"loss": loss.detach().cpu().numpy()}

    def training_loss(self, outputs: list[Tensor], parameters: dict[str, Tensor], targets: list[Tensor]) -> Tensor:
        """L of the module, scalar.

        Parameters
        ----------
        outputs
            Mean logits at every resolution of deep supervision, highest first, each (B, C, *S).
        parameters
            Parameters of p(η) at the highest resolution.
        targets
            nnU-Net's targets at the same resolutions.
        """
        if isinstance(self.loss, DeepSupervisionWrapper):
            segmentation_loss, weights = self.loss.loss, self.loss.weight_factors
        else:
            segmentation_loss, weights = self.loss, (1.0,)
        lower = sum(
            weight * segmentation_loss(output, target)
            for weight, output, target in zip(weights[1:], outputs[1:], targets[1:], strict=True)
            if weight != 0
        )
        if self.in_warm_up:
            # A sum of zero keeps every head in the graph: DistributedDataParallel waits for the gradient of each.
            unused = sum(0.0 * parameter.sum() for parameter in parameters.values())
            return weights[0] * segmentation_loss(outputs[0], targets[0]) + lower + unused
        distribution = self.unwrap(self.network).distribution(parameters)
        sampled = self.sampled_loss(distribution, segmentation_loss, targets[0])
        return weights[0] * sampled + lower + self.regularization(parameters)

    def sampled_loss(
        self, distribution: GaussianLogits, segmentation_loss: Callable[[Tensor, Tensor], Tensor], target: Tensor
    ) -> Tensor:
        """The part of L that samples are drawn for, scalar.

        Parameters
        ----------
        distribution
            p(η) at the highest resolution.
        segmentation_loss
            nnU-Net's loss, a function of logits (B, C, *S) and target.
        target
            nnU-Net's target at the same resolution.
        """
        return k_sample_loss(
            distribution, segmentation_loss, target, self.num_training_samples, recompute=self.recompute_samples
        )

    def regularization(self, parameters: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the regularizers of the heads, scalar."""
        terms = self.unwrap(self.network).heads.regularizers(parameters)
        weighted = (getattr(self, f"weight_{name}") * term for name, term in terms.items())
        return sum(weighted, start=parameters["mean_logits"].new_zeros(()))

    def validation_step(self, batch: dict) -> dict[str, np.ndarray]:
        if self.in_warm_up:
            return super().validation_step(batch)
        with self.predicting_with(partial(self._predict_mean, network=self.network)):
            return super().validation_step(batch)

    def _predict_mean(self, data: Tensor, network: nn.Module) -> Tensor | list[Tensor]:
        output, parameters = network(data, return_parameters=True)
        distribution = self.unwrap(network).distribution(parameters)
        samples = (distribution.rsample(1)[0] for _ in range(self.num_training_samples))
        mean = logits_of_mean_probability(samples, regions=self.label_manager.has_regions)
        return [mean, *output[1:]] if isinstance(output, list) else mean
