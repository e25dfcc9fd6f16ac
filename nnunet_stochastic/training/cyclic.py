"""Training whose last third are cycles of the learning rate; the weights at the minima are members.

Cosine annealing with warm restarts (see ``optimizers``), whose minima are an ensemble (Huang et al. 2017,
https://arxiv.org/abs/1704.00109; of nnU-Net: Zhao et al. 2022, https://arxiv.org/abs/2212.06278, whose cycles are
polynomials over the whole training). M cycles take M ⌊⌊E / 3⌋ / M⌋ of E epochs, and the last ends with training. Until
the first one training is that of the trainer behind, whose learning rate, if it decays to 0, does so by then. A
training of fewer than 3 M epochs has ⌊E / 3⌋ cycles; at least 2 are needed, hence 6 epochs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnunet_stochastic.posteriors.checkpoints import CYCLIC_FILE, CYCLIC_SNAPSHOTS, write_cyclic_file
from nnunet_stochastic.training.collection import CollectingTrainer
from nnunet_stochastic.training.fine_tuning import FineTuningTrainer
from nnunet_stochastic.training.optimizers import CosineRestartScheduler, GroupedPolyLRScheduler

__all__ = ["CycleTrainer", "CyclicTrainer"]


class CycleTrainer(CollectingTrainer):
    """Cycles for a trainer with one recipe: ``class X(CycleTrainer, TrainerOfX)``."""

    #: Number M of cycles, and of members; fewer where training is short.
    num_cycles = 5
    #: Learning rate at the start of a cycle, in units of the one that training starts with.
    cycle_learning_rate_factor = 1.0
    LEAVES_FILES_FOR = ("checkpoints",)
    SNAPSHOTS = CYCLIC_SNAPSHOTS
    FILE_AT_END = CYCLIC_FILE
    _steps_in_epoch = 0

    @property
    def cycles(self) -> int:
        """Number of cycles of this training."""
        return min(self.num_cycles, self.num_epochs // 3)

    @property
    def epochs_per_cycle(self) -> int:
        """Length L of a cycle."""
        return self.num_epochs // 3 // max(self.cycles, 1)

    @property
    def first_cyclic_epoch(self) -> int:
        """The epoch, counted from 0, that begins the first cycle."""
        return self.num_epochs - self.cycles * self.epochs_per_cycle

    @property
    def epochs_with_snapshot(self) -> range:
        length = max(self.epochs_per_cycle, 1)
        return range(self.first_cyclic_epoch + length - 1, self.num_epochs, length)

    @property
    def cycle_learning_rate(self) -> float:
        """Learning rate α_r at the start of a cycle."""
        return self.initial_lr * self.cycle_learning_rate_factor

    def require_enough_epochs(self) -> None:
        if self.cycles < 2:
            raise ValueError(
                f"{type(self).__name__} trains for {self.num_epochs} epochs with num_cycles = {self.num_cycles}, which "
                f"leaves {self.cycles} cycles in the last third: it needs at least 2, so train for at least 6 epochs "
                "and set num_cycles to 2 or more"
            )

    def snapshot_settings(self) -> dict[str, Any]:
        return super().snapshot_settings() | {"cycles": self.cycles, "cycle_learning_rate": self.cycle_learning_rate}

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        optimizer, before = super().configure_optimizers()
        first, rate = self.first_cyclic_epoch, self.cycle_learning_rate
        if before.max_steps == self.num_epochs:  # at 0 when training ends; now where the cycles begin
            before = GroupedPolyLRScheduler(optimizer, self.initial_lr, first)
        length = max(self.epochs_per_cycle, 1)
        return optimizer, CosineRestartScheduler(optimizer, before, rate, first_step=first, steps_per_cycle=length)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._steps_in_epoch = 0
        if self.current_epoch == self.first_cyclic_epoch:
            megabytes = 4e-6 * self.cycles * sum(weight.numel() for weight in self.network.parameters())
            self.print_to_log_file(
                f"{self.cycles} cycles of {self.epochs_per_cycle} epochs: the learning rate falls from "
                f"{self.cycle_learning_rate:g} to 0 in each, and the weights at its end are kept in "
                f"{Path(self.output_folder) / CYCLIC_SNAPSHOTS}, {megabytes:.3g} MB in all"
            )

    def train_step(self, batch: dict) -> dict[str, np.ndarray]:
        if self.current_epoch >= self.first_cyclic_epoch:
            # An epoch is long: within it, too, the rate falls.
            self.lr_scheduler.step(self.current_epoch + self._steps_in_epoch / self.num_iterations_per_epoch)
        self._steps_in_epoch += 1
        return super().train_step(batch)

    def write_file_at_end(self) -> None:
        path = write_cyclic_file(Path(self.output_folder), self.epochs_with_snapshot)
        self.print_to_log_file(f"the weights of {self.cycles} cycles are on record in {path}")


class CyclicTrainer(CycleTrainer, FineTuningTrainer):
    """Cycles for a trainer with the two recipes: ``class X(CyclicTrainer, TrainerOfX)``.

    Fine-tuning takes half as many epochs more, so that the cycles are its last third.
    """

    #: Learning rate at the start of a cycle, in fine-tuning.
    fine_tuning_cycle_learning_rate = 1e-3

    @property
    def cycle_learning_rate(self) -> float:
        return self.fine_tuning_cycle_learning_rate if self.recipe == "fine_tuning" else super().cycle_learning_rate

    def settings_of_recipe(self) -> dict[str, Any]:
        settings = super().settings_of_recipe()
        added = settings["num_epochs"] // 2 if self.recipe == "fine_tuning" else 0
        return settings | {"num_epochs": settings["num_epochs"] + added}
