"""Training that ends with snapshots of the weights, to which SWAG fits a Gaussian (see ``posteriors.swag``).

T snapshots, one after each of the last T epochs, while the learning rate is constant. What is on disk at any moment
can be resumed from, because each epoch writes in this order: its snapshot, nnU-Net's best checkpoint if it is one,
the latest checkpoint. Resuming deletes the snapshots of the epochs that it trains again. At the end the moments are
written in front of the final checkpoint.

A training too short for T epochs of its own and T of snapshots takes fewer snapshots: those of its last half (see
``training.phases``), because weights on the way from their initial values are no draws around a minimum. At least 2
are needed, hence 3 epochs.

Resuming refuses what would make the snapshots those of other epochs, and, once there is one, draws of another training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnunet_stochastic.io.written import check_checksums
from nnunet_stochastic.posteriors.snapshots import (
    delete_snapshots,
    refuse_batch_norm,
    save_snapshot,
    saved_epochs,
    snapshot_path,
)
from nnunet_stochastic.posteriors.swag_moments import SWAG_FILE, fit_swag
from nnunet_stochastic.training.base import BaseTrainer
from nnunet_stochastic.training.fine_tuning import FineTuningTrainer
from nnunet_stochastic.training.optimizers import GroupedPolyLRScheduler
from nnunet_stochastic.training.phases import TrainingPhase, closing_phase

__all__ = ["SnapshotTrainer", "SwagTrainer"]


class SnapshotTrainer(BaseTrainer):
    """Snapshots for a trainer with a constant learning rate: ``class X(SnapshotTrainer, TrainerOfX)``.

    They are taken on the way and change nothing: the run is that of the trainer behind it.
    """

    #: T; fewer where training is short.
    num_snapshots = 30
    #: Names of the epistemic methods whose files this training leaves beside its checkpoints.
    LEAVES_FILES_FOR = ("swag", "swag_diag")

    @property
    def snapshot_epochs(self) -> int:
        """Epochs after which a snapshot is taken, the last ones."""
        return closing_phase(self.num_snapshots, self.num_epochs)

    @property
    def first_snapshot_epoch(self) -> int:
        """The epoch, counted from 0, after which the first snapshot is taken."""
        return self.num_epochs - self.snapshot_epochs

    def phases(self) -> list[TrainingPhase]:
        return [
            *super().phases(),
            TrainingPhase("SWAG's collection of snapshots", self.num_snapshots, self.snapshot_epochs),
        ]

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        refuse_batch_norm(self.unwrap(self.network))
        self._refuse_other_options()
        if self.snapshot_epochs < 2:
            raise ValueError(
                f"{type(self).__name__} trains for {self.num_epochs} epochs with num_snapshots = {self.num_snapshots}, "
                f"which leaves {self.snapshot_epochs} for SWAG: it needs at least 2 snapshots, so train for at least 3 "
                "epochs and set num_snapshots to 2 or more"
            )
        writes = self.local_rank == 0 and not self.disable_checkpointing
        if self._resumed and writes:
            self._require_earlier_snapshots()
        super().on_train_start()
        if writes:
            folder = Path(self.output_folder)
            if self.current_epoch < self.num_epochs:
                (folder / SWAG_FILE).unlink(missing_ok=True)
            delete_snapshots(folder, from_epoch=self.current_epoch if self._resumed else 0)

    def snapshot_settings(self) -> dict[str, Any]:
        """What decides of which epochs the snapshots are, and at which learning rate they are taken."""
        return {"num_epochs": self.num_epochs, "num_snapshots": self.num_snapshots, "snapshots": self.snapshot_epochs}

    def settings_on_record(self) -> dict[str, Any]:
        return super().settings_on_record() | self.snapshot_settings()

    def _refuse_other_options(self) -> None:
        changed = self.changes_since_checkpoint()
        earlier_snapshots = self.current_epoch > self.first_snapshot_epoch
        refused = changed if earlier_snapshots else {k: v for k, v in changed.items() if k in self.snapshot_settings()}
        if refused:
            differences = ", ".join(f"{name} = {was} and now has {now}" for name, (was, now) in refused.items())
            raise ValueError(
                f"the training that is to be resumed had {differences}: SWAG's snapshots would be of other epochs or "
                f"of two trainings; set it back in {type(self).__name__}, or train anew without --c"
            )

    def _require_earlier_snapshots(self) -> None:
        folder = Path(self.output_folder)
        missing = sorted(set(range(self.first_snapshot_epoch, self.current_epoch)) - set(saved_epochs(folder)))
        if missing:
            snapshots = snapshot_path(folder, missing[0]).parent
            raise FileNotFoundError(
                f"training is to be resumed behind epoch {self.current_epoch - 1}, and {snapshots} lacks the snapshots "
                f"of {len(missing)} earlier epochs ({', '.join(map(str, missing))}); were they deleted, or is the "
                "checkpoint of an earlier training? put them back, or train anew without --c"
            )
        for epoch in range(self.first_snapshot_epoch, self.current_epoch):
            try:
                check_checksums(snapshot_path(folder, epoch))
            except OSError as error:
                raise OSError(
                    f"{error}; SWAG needs all snapshots. Put a copy back, or train anew without --c; if "
                    f"checkpoint_best.pth is of an earlier epoch than {epoch}, --c goes on from it once "
                    "checkpoint_latest.pth and checkpoint_final.pth are removed"
                ) from error

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.current_epoch == self.first_snapshot_epoch:
            self.print_to_log_file(
                f"SWAG: from here on a snapshot of the weights is taken after each of the last {self.snapshot_epochs} "
                f"epochs, at a constant learning rate of {self.optimizer.param_groups[0]['lr']:g}"
            )

    def on_epoch_end(self) -> None:
        if self.current_epoch >= self.first_snapshot_epoch:
            if self.local_rank == 0 and not self.disable_checkpointing:
                save_snapshot(self.unwrap(self.network), Path(self.output_folder), self.current_epoch)
            self.save_every = 1
        super().on_epoch_end()

    def on_train_end(self) -> None:
        if self.local_rank == 0 and not self.disable_checkpointing:
            path = fit_swag(Path(self.output_folder), range(self.first_snapshot_epoch, self.num_epochs))
            self.print_to_log_file(f"SWAG: mean and variance of {self.snapshot_epochs} snapshots are in {path}")
        super().on_train_end()


class SwagTrainer(SnapshotTrainer, FineTuningTrainer):
    """Snapshots for a trainer with the two recipes: ``class X(SwagTrainer, TrainerOfX)``.

    Fine-tuning takes ``num_snapshots`` epochs more, with the same optimizer. From scratch they are the last of
    nnU-Net's epochs. Until the first snapshot the learning rate follows nnU-Net's polynomial decay.
    """

    #: Learning rate while snapshots are taken, in fine-tuning: that of ENT (see ``nnunet_stochastic.epistemic``).
    snapshot_learning_rate = 1e-4
    #: The same from scratch, in units of nnU-Net's initial learning rate.
    scratch_snapshot_learning_rate_factor = 0.1

    @property
    def snapshot_epochs(self) -> int:
        if self.recipe == "scratch":
            return super().snapshot_epochs
        # What fine-tuning adds for them is theirs, however little fine-tuning there is.
        return max(super().snapshot_epochs, min(self.num_snapshots, self.num_epochs - self.fine_tuning_epochs))

    def snapshot_settings(self) -> dict[str, Any]:
        rate = "snapshot_learning_rate" if self.recipe == "fine_tuning" else "scratch_snapshot_learning_rate_factor"
        return super().snapshot_settings() | {rate: getattr(self, rate)}

    def settings_of_recipe(self) -> dict[str, Any]:
        settings = super().settings_of_recipe()
        added = self.num_snapshots if self.recipe == "fine_tuning" else 0
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
