"""Training that ends with snapshots of the weights, to which SWAG fits a Gaussian (see ``posteriors.swag``).

T snapshots, one after every s-th of the last T s epochs, while the learning rate is constant. At the end the moments
are written in front of the final checkpoint.

A training too short for T s epochs of its own and T s of snapshots takes fewer snapshots: those of its last half (see
``training.phases``), because weights on the way from their initial values are no draws around a minimum. At least 2
are needed, hence 3 epochs with s = 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnunet_stochastic.posteriors.snapshots import SWAG_SNAPSHOTS
from nnunet_stochastic.posteriors.swag_moments import SWAG_FILE, fit_swag
from nnunet_stochastic.training.collection import CollectingTrainer
from nnunet_stochastic.training.fine_tuning import FineTuningTrainer
from nnunet_stochastic.training.optimizers import GroupedPolyLRScheduler
from nnunet_stochastic.training.phases import TrainingPhase, closing_phase

__all__ = ["EntSwagTrainer", "SnapshotTrainer", "SwagTrainer"]


class SnapshotTrainer(CollectingTrainer):
    """Snapshots for a trainer with a constant learning rate: ``class X(SnapshotTrainer, TrainerOfX)``.

    They are taken on the way and change nothing: the run is that of the trainer behind it.
    """

    #: Number T of snapshots of the last epochs; fewer where training is short.
    num_snapshots = 30
    #: Epochs s from one snapshot to the next.
    snapshot_spacing = 1
    #: Names of the epistemic methods whose files this training leaves beside its checkpoints.
    LEAVES_FILES_FOR = ("swag", "swag_diag")
    SNAPSHOTS = SWAG_SNAPSHOTS
    FILE_AT_END = SWAG_FILE

    @property
    def planned_snapshot_epochs(self) -> int:
        """Number of epochs in which snapshots are taken, where training is long enough."""
        if self.snapshot_spacing < 1:
            raise ValueError(f"snapshot_spacing must be at least 1 epoch, got {self.snapshot_spacing}")
        return self.num_snapshots * self.snapshot_spacing

    @property
    def snapshot_epochs(self) -> int:
        """Number of epochs, the last ones, in which snapshots are taken."""
        return closing_phase(self.planned_snapshot_epochs, self.num_epochs)

    @property
    def first_snapshot_epoch(self) -> int:
        """The first of these epochs, counted from 0."""
        return self.num_epochs - self.snapshot_epochs

    @property
    def epochs_with_snapshot(self) -> range:
        first = self.first_snapshot_epoch + (self.snapshot_epochs - 1) % self.snapshot_spacing
        return range(first, self.num_epochs, self.snapshot_spacing)

    def phases(self) -> list[TrainingPhase]:
        phase = TrainingPhase("SWAG's collection of snapshots", self.planned_snapshot_epochs, self.snapshot_epochs)
        return [*super().phases(), phase]

    def require_enough_epochs(self) -> None:
        if (taken := len(self.epochs_with_snapshot)) < 2:
            raise ValueError(
                f"{type(self).__name__} trains for {self.num_epochs} epochs with num_snapshots = {self.num_snapshots}, "
                f"which leaves {taken} for SWAG: it needs at least 2 snapshots, so train for at least "
                f"{2 * self.snapshot_spacing + 1} epochs and set num_snapshots to 2 or more"
            )

    def snapshot_settings(self) -> dict[str, Any]:
        taken = {"num_snapshots": self.num_snapshots, "snapshots": len(self.epochs_with_snapshot)}
        return super().snapshot_settings() | taken | {"snapshot_spacing": self.snapshot_spacing}

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.current_epoch == self.first_snapshot_epoch:
            which = "each" if self.snapshot_spacing == 1 else f"one in {self.snapshot_spacing}"
            self.print_to_log_file(
                f"SWAG: from here on a snapshot of the weights is taken after {which} of the last "
                f"{self.snapshot_epochs} epochs, at a constant learning rate of "
                f"{self.optimizer.param_groups[0]['lr']:g}"
            )

    def write_file_at_end(self) -> None:
        path = fit_swag(Path(self.output_folder), self.epochs_with_snapshot)
        self.print_to_log_file(f"SWAG: mean and variance of {len(self.epochs_with_snapshot)} snapshots are in {path}")


class SwagTrainer(SnapshotTrainer, FineTuningTrainer):
    """Snapshots for a trainer with the two recipes: ``class X(SwagTrainer, TrainerOfX)``.

    Fine-tuning takes ``num_snapshots`` times ``snapshot_spacing`` epochs more, with the same optimizer. From scratch
    they are the last of nnU-Net's epochs. Until then the learning rate follows nnU-Net's polynomial decay.
    """

    #: Learning rate while snapshots are taken, in fine-tuning: high, so that the weights move. Maddox et al. keep it at
    #: 0.1 to 0.5 of what a network is trained with; nnU-Net's is 1e-2.
    snapshot_learning_rate = 1e-3
    #: Learning rate while snapshots are taken, from scratch, in units of nnU-Net's initial learning rate.
    scratch_snapshot_learning_rate_factor = 0.1

    @property
    def snapshot_epochs(self) -> int:
        if self.recipe == "scratch":
            return super().snapshot_epochs
        # What fine-tuning adds for them is theirs, however little fine-tuning there is.
        added = min(self.planned_snapshot_epochs, self.num_epochs - self.fine_tuning_epochs)
        return max(super().snapshot_epochs, added)

    def snapshot_settings(self) -> dict[str, Any]:
        rate = "snapshot_learning_rate" if self.recipe == "fine_tuning" else "scratch_snapshot_learning_rate_factor"
        return super().snapshot_settings() | {rate: getattr(self, rate)}

    def settings_of_recipe(self) -> dict[str, Any]:
        settings = super().settings_of_recipe()
        added = self.planned_snapshot_epochs if self.recipe == "fine_tuning" else 0
        return settings | {"num_epochs": settings["num_epochs"] + added}

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        optimizer, _ = super().configure_optimizers()
        constant = (
            self.snapshot_learning_rate
            if self.recipe == "fine_tuning"
            else self.initial_lr * self.scratch_snapshot_learning_rate_factor
        )
        return optimizer, GroupedPolyLRScheduler(
            optimizer, self.initial_lr, self.first_snapshot_epoch, learning_rate_afterwards=constant
        )


class EntSwagTrainer(SwagTrainer):
    """The same at the learning rate that ENT (see ``nnunet_stochastic.epistemic``) trains with throughout.

    Snapshots hardly differ at this rate, and with them the members.
    """

    #: Learning rate while snapshots are taken, in fine-tuning.
    snapshot_learning_rate = 1e-4
