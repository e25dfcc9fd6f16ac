"""Training that keeps the weights after certain epochs, of which an epistemic method makes its members.

What is on disk at any moment can be resumed from, because an epoch with a snapshot writes in this order: its snapshot,
nnU-Net's best checkpoint if it is one, the latest checkpoint. Resuming deletes the snapshots of the epochs that it
trains again. At the end what the members need besides is written in front of the final checkpoint.

Resuming refuses what would make the snapshots those of other epochs, and, once there is one, draws of another training.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from nnunet_stochastic.epistemic import EPISTEMIC_METHODS
from nnunet_stochastic.io.written import check_checksums
from nnunet_stochastic.posteriors.snapshots import (
    delete_snapshots,
    refuse_batch_norm,
    save_snapshot,
    saved_epochs,
    snapshot_path,
)
from nnunet_stochastic.training.base import BaseTrainer

__all__ = ["CollectingTrainer"]


class CollectingTrainer(BaseTrainer):
    """Snapshots of the weights, taken on the way: the run is that of the trainer behind it."""

    #: Names of the epistemic methods whose files this training leaves beside its checkpoints, the first in messages.
    LEAVES_FILES_FOR: ClassVar[tuple[str, ...]]
    #: Folder of the snapshots, and file that is written when training has ended, in the fold's folder.
    SNAPSHOTS: ClassVar[str]
    FILE_AT_END: ClassVar[str]

    @property
    @abstractmethod
    def epochs_with_snapshot(self) -> Sequence[int]:
        """Epochs after which a snapshot is taken, counted from 0, ascending."""

    @abstractmethod
    def require_enough_epochs(self) -> None:
        """Raise ``ValueError`` if training is too short."""

    @abstractmethod
    def write_file_at_end(self) -> None:
        """Write ``FILE_AT_END`` from the snapshots."""

    def snapshot_settings(self) -> dict[str, Any]:
        """What decides of which epochs the snapshots are, and at which learning rate they are taken."""
        return {"num_epochs": self.num_epochs}

    @property
    def _collects_for(self) -> str:
        return EPISTEMIC_METHODS[self.LEAVES_FILES_FOR[0]].title

    def settings_on_record(self) -> dict[str, Any]:
        return super().settings_on_record() | self.snapshot_settings()

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        refuse_batch_norm(self.unwrap(self.network))
        self._refuse_other_options()
        self.require_enough_epochs()
        writes = self.local_rank == 0 and not self.disable_checkpointing
        if self._resumed and writes:
            self._require_earlier_snapshots()
        super().on_train_start()
        if writes:
            folder = Path(self.output_folder)
            if self.current_epoch < self.num_epochs:
                (folder / self.FILE_AT_END).unlink(missing_ok=True)
            first = self.current_epoch if self._resumed else 0
            delete_snapshots(folder, from_epoch=first, snapshots=self.SNAPSHOTS)

    def _refuse_other_options(self) -> None:
        changed = self.changes_since_checkpoint()
        earlier_snapshots = any(epoch < self.current_epoch for epoch in self.epochs_with_snapshot)
        refused = changed if earlier_snapshots else {k: v for k, v in changed.items() if k in self.snapshot_settings()}
        if refused:
            differences = ", ".join(f"{name} = {was} and now has {now}" for name, (was, now) in refused.items())
            raise ValueError(
                f"the training that is to be resumed had {differences}: the snapshots of {self._collects_for} would be "
                f"of other epochs or of two trainings; set it back in {type(self).__name__}, or train anew without --c"
            )

    def _require_earlier_snapshots(self) -> None:
        folder = Path(self.output_folder)
        earlier = [epoch for epoch in self.epochs_with_snapshot if epoch < self.current_epoch]
        missing = sorted(set(earlier) - set(saved_epochs(folder, snapshots=self.SNAPSHOTS)))
        if missing:
            snapshots = folder / self.SNAPSHOTS
            raise FileNotFoundError(
                f"training is to be resumed behind epoch {self.current_epoch - 1}, and {snapshots} lacks the snapshots "
                f"of {len(missing)} earlier epochs ({', '.join(map(str, missing))}); were they deleted, or is the "
                "checkpoint of an earlier training? put them back, or train anew without --c"
            )
        for epoch in earlier:
            try:
                check_checksums(snapshot_path(folder, epoch, snapshots=self.SNAPSHOTS))
            except OSError as error:
                raise OSError(
                    f"{error}; {self._collects_for} needs all snapshots. Put a copy back, or train anew without --c; "
                    f"if checkpoint_best.pth is of an earlier epoch than {epoch}, --c goes on from it once "
                    "checkpoint_latest.pth and checkpoint_final.pth are removed"
                ) from error

    def on_epoch_end(self) -> None:
        if self.current_epoch not in self.epochs_with_snapshot:
            super().on_epoch_end()
            return
        if self.local_rank == 0 and not self.disable_checkpointing:
            folder = Path(self.output_folder)
            save_snapshot(self.unwrap(self.network), folder, self.current_epoch, snapshots=self.SNAPSHOTS)
        save_every, self.save_every = self.save_every, 1
        super().on_epoch_end()
        self.save_every = save_every

    def on_train_end(self) -> None:
        if self.local_rank == 0 and not self.disable_checkpointing:
            self.write_file_at_end()
        super().on_train_end()
