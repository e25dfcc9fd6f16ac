"""The trainer of every generative model: a network of its own, from scratch, with the recipe of the entanglement study.

AdamW, learning rate 1e-4 throughout, no weight decay, 32 images per batch, gradients clipped at a norm of 0.5, 1000
epochs, and a moving average of the weights with decay 0.999 that is evaluated in place of the weights themselves
(Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation, sections 3.3, 3.5).
Patch size, preprocessing, normalisation and augmentation are nnU-Net's, and so are the 250 iterations of an epoch: the
paper's LIDC, some 9000 training slices, makes about 280 batches of 32.

A checkpoint's ``network_weights`` are the averaged ones, so that everything that predicts uses them. The weights that
training goes on from with --c are stored beside them, in ``init_args["stochastic_raw_weights"]``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnunet_stochastic.distributions import logits_of_mean_probability
from nnunet_stochastic.networks import GenerativeNetwork
from nnunet_stochastic.targets import Target
from nnunet_stochastic.training.base import BaseTrainer
from nnunet_stochastic.training.ema import ExponentialMovingAverage, copy_weights
from nnunet_stochastic.training.optimizers import GroupedPolyLRScheduler
from nnunet_stochastic.training.options import adopt_options, chosen_options

__all__ = ["GenerativeTrainer"]


class GenerativeTrainer(BaseTrainer):
    """Base of the trainers on the attention U-Net.

    A subclass says which network in ``network_class``, whose options it takes over, and its loss in ``training_loss``.

    Validation during training, and with it the best checkpoint, judges the averaged weights: the training loss, and
    the Dice of the mean of the probabilities over ``num_validation_samples`` samples.
    """

    #: Called with the channels in and out, the ``dimension``, and the options, class attributes of the trainer.
    network_class: Callable[..., GenerativeNetwork]
    #: Length of training in epochs.
    training_epochs = 1000
    #: Learning rate, constant.
    learning_rate = 1e-4
    #: Images per batch in 2D configurations, all GPUs together; None: as planned. In 3D, where 32 patches fit on no
    #: GPU, it is always the planned one.
    batch_size_2d: int | None = 32
    #: Largest norm of the gradient that an optimizer step follows.
    gradient_norm_limit = 0.5
    #: Decay d of the moving average of the weights.
    average_decay = 0.999
    #: Samples of an image in validation.
    num_validation_samples = 5
    #: Batches that an epoch is validated on.
    validation_iterations = 50

    _remedy_for_pretrained_weights = (
        "this trainer has a network of its own, which starts from a checkpoint of the same trainer alone and not from "
        "nnU-Net's: train without -pretrained_weights"
    )

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "network_class" in vars(cls):
            adopt_options(cls, cls.network_class)

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.initial_lr, self.weight_decay = self.training_epochs, self.learning_rate, 0.0
        self.num_val_iterations_per_epoch = self.validation_iterations
        self.enable_deep_supervision = False
        if len(self.configuration_manager.patch_size) == 2 and self.batch_size_2d is not None:
            # A copy of the plan's entry, where nnU-Net looks for it; plans.json keeps what was planned.
            self.configuration_manager.configuration["batch_size"] = self.batch_size_2d

    @classmethod
    def build_network_architecture(
        cls, plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision=True
    ) -> nn.Module:
        return cls.network_class(
            num_input_channels,
            num_output_channels,
            dimension=len(configuration_manager.patch_size),
            **chosen_options(cls, cls.network_class),
        )

    @abstractmethod
    def training_loss(self, outputs: dict[str, Tensor], target: Target) -> Tensor:
        """The model's loss, scalar, of what its network returns in training."""

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """There is none: these networks have one output."""

    def _build_loss(self) -> None:
        """Nothing: nnU-Net's loss takes logits alone; see ``training_loss``."""

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, GroupedPolyLRScheduler]:
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, GroupedPolyLRScheduler(
            optimizer, self.initial_lr, 0, learning_rate_afterwards=self.initial_lr
        )

    def initialize(self) -> None:
        if self.enable_deep_supervision:
            raise ValueError(
                f"{type(self).__name__} sets enable_deep_supervision, and its network has one output: leave it False"
            )
        super().initialize()
        self.average = ExponentialMovingAverage(self.unwrap(self.network), self.average_decay)

    def on_train_start(self) -> None:
        super().on_train_start()
        self.print_to_log_file(
            f"{type(self).__name__} trains its own network for {self.num_epochs} epochs, with "
            f"{self.configuration_manager.batch_size} images per batch; predictions use the moving average of its "
            f"weights (decay {self.average_decay:g})"
        )

    def train_step(self, batch: dict) -> dict[str, np.ndarray]:
        data = batch["data"].to(self.device, non_blocking=True)
        target = self.encode(batch["target"].to(self.device, non_blocking=True))
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            loss = self.training_loss(self.network(data, target), target)
        self.take_optimizer_step(loss)
        self.average.update(self.unwrap(self.network))
        return {"loss": loss.detach().cpu().numpy()}

    def validation_step(self, batch: dict) -> dict[str, np.ndarray]:
        data = batch["data"].to(self.device, non_blocking=True)
        labels = batch["target"].to(self.device, non_blocking=True)
        target = self.encode(labels)
        network = self.unwrap(self.network)
        with self.average.in_place_of(network):
            with self.autocast():
                loss = self.training_loss(self.network(data, target), target)
            # nnU-Net's validation step takes the loss of the logits from self.loss.
            self.loss = lambda *_: loss
            try:
                with self.predicting_with(partial(self.predict_mean, network)):
                    return super().validation_step({"data": data, "target": labels})
            finally:
                self.loss = None

    def predict_mean(self, network: GenerativeNetwork, data: Tensor) -> Tensor:
        """Logits of the mean probability over samples, shape (B, C, *S), of images (B, channels, *S)."""
        distribution = network.logit_distribution(data)
        num_samples = self.num_validation_samples if network.has_samples else 1
        samples = (distribution.rsample(1)[0] for _ in range(num_samples))
        return logits_of_mean_probability(samples, regions=self.label_manager.has_regions)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        with self.average.in_place_of(self.unwrap(self.network)):
            super().perform_actual_validation(save_probabilities)

    def check_samples(self, batches: list[dict]) -> None:
        with self.average.in_place_of(self.unwrap(self.network)):
            super().check_samples(batches)

    def save_checkpoint(self, filename: str) -> None:
        """Save with the averaged weights as the network's, and beside them what training goes on from."""
        init_args = self.my_init_kwargs
        with self.average.in_place_of(self.unwrap(self.network)) as raw_weights:
            self.my_init_kwargs = init_args | {
                "stochastic_raw_weights": raw_weights,
                "stochastic_num_averaged": self.average.num_updates,
            }
            try:
                super().save_checkpoint(filename)
            finally:
                self.my_init_kwargs = init_args

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Resume as nnU-Net does, with the moving average and the weights it is taken of as they were."""
        super().load_checkpoint(filename_or_checkpoint)
        network = self.unwrap(self.network)
        num_updates = self.my_init_kwargs.pop("stochastic_num_averaged")
        self.average = ExponentialMovingAverage(network, self.average_decay, num_updates=num_updates)
        copy_weights(self.my_init_kwargs.pop("stochastic_raw_weights"), network)
