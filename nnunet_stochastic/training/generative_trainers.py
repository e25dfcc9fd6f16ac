"""One trainer base per generative model: its network, whose options are its class attributes, and its loss.

Values are those of Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation,
section 3.2, where no other source is named.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nnunet_stochastic.losses import cross_entropy_loss, denoising_loss, log_mean_exp_loss, prob_unet_loss
from nnunet_stochastic.networks import (
    DiffusionNetwork,
    GenerativeNetwork,
    ProbabilisticUNet,
    SoftmaxNetwork,
    StochasticSegmentationNetwork,
)
from nnunet_stochastic.targets import Target
from nnunet_stochastic.training.generative import GenerativeTrainer
from nnunet_stochastic.training.phases import TrainingPhase, opening_phase

__all__ = ["DiffusionTrainer", "ProbUNetTrainer", "SSNTrainer", "SoftmaxTrainer"]

#: β times the voxels of a patch, 5e-4 · 128²: the weight of the KL divergence where the cross-entropy is a sum.
_PAPER_KL_WEIGHT_OF_SUM = 5e-4 * 128**2
#: Within this factor of it nothing needs saying: our choice, wider than the 5 between the paper's two values of β.
_BALANCE_MARGIN = 8.0


class SoftmaxTrainer(GenerativeTrainer):
    """The deterministic attention U-Net: cross-entropy."""

    network_class = SoftmaxNetwork

    def training_loss(self, outputs: dict[str, Tensor], target: Target) -> Tensor:
        return cross_entropy_loss(outputs["logits"], target, regions=self.label_manager.has_regions)


class SSNTrainer(GenerativeTrainer):
    """Stochastic Segmentation Network, N(μ, diag d + P Pᵀ): cross-entropy of μ, then the log-mean-exp loss."""

    network_class = StochasticSegmentationNetwork
    #: Epochs on μ alone before samples are drawn; fewer where training is short, see ``phases``.
    mean_epochs = 10
    #: Samples K of the loss, as in Monteiro et al. 2020, https://arxiv.org/abs/2006.06015.
    num_training_samples = 20

    @property
    def in_mean_phase(self) -> bool:
        """Whether the current epoch trains μ alone."""
        return self.current_epoch < self._mean_phase.epochs

    @property
    def _mean_phase(self) -> TrainingPhase:
        epochs = opening_phase(self.mean_epochs, self.num_epochs)
        return TrainingPhase("training on the mean logits alone", self.mean_epochs, epochs)

    def phases(self) -> list[TrainingPhase]:
        return [*super().phases(), self._mean_phase]

    def training_loss(self, outputs: dict[str, Tensor], target: Target) -> Tensor:
        regions = self.label_manager.has_regions
        if self.in_mean_phase:
            # A zero keeps every head in the graph: DistributedDataParallel waits for the gradient of each.
            unused = 0.0 * (outputs["diag_var"].mean() + outputs["cov_factor"].mean())
            return cross_entropy_loss(outputs["mean_logits"], target, regions=regions) + unused
        distribution = self.unwrap(self.network).distribution(outputs)
        return log_mean_exp_loss(distribution, target, self.num_training_samples, regions=regions)

    def predict_mean(self, network: GenerativeNetwork, data: Tensor) -> Tensor:
        return network(data) if self.in_mean_phase else super().predict_mean(network, data)


class ProbUNetTrainer(GenerativeTrainer):
    """Probabilistic U-Net: cross-entropy of a sample of the posterior + β KL(posterior || prior)."""

    network_class = ProbabilisticUNet
    #: Length of training in epochs: it overfits sooner than the others.
    training_epochs = 500
    #: Weight β of the KL divergence, the paper's for LIDC; its value for Chaksu, 2.5e-3, is another subclass. The
    #: cross-entropy is a mean over voxels, so that the same balance wants β in inverse proportion to the voxels of a
    #: patch: 5e-4 is for the paper's 128 x 128.
    kl_weight = 5e-4
    #: Epochs in which that weight rises linearly from 0 to β; fewer where training is short, see ``phases``.
    kl_warm_up_epochs = 32

    @property
    def current_kl_weight(self) -> float:
        """The weight of the KL divergence in the current epoch."""
        warm_up = self._kl_warm_up.epochs
        return self.kl_weight if self.current_epoch >= warm_up else self.kl_weight * self.current_epoch / warm_up

    @property
    def _kl_warm_up(self) -> TrainingPhase:
        epochs = opening_phase(self.kl_warm_up_epochs, self.num_epochs)
        return TrainingPhase("the rise of the weight of the KL divergence", self.kl_warm_up_epochs, epochs)

    def phases(self) -> list[TrainingPhase]:
        return [*super().phases(), self._kl_warm_up]

    def on_train_start(self) -> None:
        super().on_train_start()
        voxels = math.prod(self.configuration_manager.patch_size)
        weight = self.kl_weight * voxels
        message = (
            f"the KL divergence has the weight {self.kl_weight:g} against a mean over the {voxels} voxels of a patch, "
            f"as {weight:.3g} has against their sum"
        )
        if not 1 / _BALANCE_MARGIN < weight / _PAPER_KL_WEIGHT_OF_SUM < _BALANCE_MARGIN:
            wrong = "the prior may not learn" if weight < _PAPER_KL_WEIGHT_OF_SUM else "the latent may not be told"
            message = (
                f"warning: {message}; with the paper's {_PAPER_KL_WEIGHT_OF_SUM:.3g} kl_weight would be "
                f"{_PAPER_KL_WEIGHT_OF_SUM / voxels:.2g} here, a class attribute that a subclass of the trainer sets: "
                f"otherwise {wrong} what tells one annotation from another"
            )
        self.print_to_log_file(message)

    def training_loss(self, outputs: dict[str, Tensor], target: Target) -> Tensor:
        return prob_unet_loss(outputs, target, beta=self.current_kl_weight, regions=self.label_manager.has_regions)


class DiffusionTrainer(GenerativeTrainer):
    """Diffusion of the one-hot mask: mean squared error of the predicted mask.

    A sample costs ``num_steps`` passes of the network, so an epoch is validated on fewer batches.
    """

    network_class = DiffusionNetwork
    #: Samples of an image in validation: each takes ``num_steps`` evaluations of the network.
    num_validation_samples = 4
    #: Batches that an epoch is validated on.
    validation_iterations = 5

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.label_manager.has_regions:
            raise ValueError(
                f"{self.plans_manager.dataset_name} is trained on regions, and the diffusion model predicts classes "
                "that exclude each other (a softmax): give each label one number in dataset.json, or use "
                "nnUNetTrainerProbUNet or nnUNetTrainerSSN"
            )

    def training_loss(self, outputs: dict[str, Tensor], target: Target) -> Tensor:
        return denoising_loss(outputs["logits"], target)
