"""What every trainer of this package does beside nnU-Net: raters, files that are whole, and a step on a given loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunet_stochastic.io.staging import remove_leftovers, staged_file
from nnunet_stochastic.io.written import check_checksums
from nnunet_stochastic.targets import Target, encode_target
from nnunet_stochastic.training.fold_lock import lock_fold
from nnunet_stochastic.training.options import options_of
from nnunet_stochastic.training.phases import TrainingPhase
from nnunet_stochastic.training.pretrained_weights import check_pretrained_weights
from nnunet_stochastic.training.raters import RaterFolder, choose_training_labels, count_raters
from nnunet_stochastic.training.sample_check import CHECKED_BATCHES, foreground_shares, warning_about_samples
from nnunet_stochastic.training.seeding import SeededTrainer

__all__ = ["BaseTrainer"]

# GradScaler halves its scale at each step whose gradient is not finite. Below float16's least normal number a loss in
# mixed precision has no gradient left: 30 steps in a row failed, from the 2^16 that it starts with.
_LEAST_GRADIENT_SCALE = 2.0**-14
#: Options that a training which goes on does not depend on, or by its number of epochs and the like alone.
_NOT_ON_RECORD = {
    *("deterministic_trainer", "fine_tuning_epochs", "fine_tuning_learning_rate", "fine_tuning_weight_decay"),
    *("scratch_epochs", "training_epochs", "learning_rate", "recompute_samples"),
    *("num_snapshots", "snapshot_spacing", "snapshot_learning_rate", "scratch_snapshot_learning_rate_factor"),
    *("num_cycles", "cycle_learning_rate_factor", "fine_tuning_cycle_learning_rate"),
}
_HOW_TO_GO_ON = (
    "checkpoints are as they were: look for images whose preprocessed values are not finite or far beyond those of the "
    "others, or continue from the last checkpoint with --c and a smaller learning rate"
)


class BaseTrainer(SeededTrainer):
    """nnU-Net's trainer, on a random rater per load where there are raters, with checkpoints that are always whole."""

    #: Draw one rater's mask each time a case is loaded, where dataset.json has num_raters; False: labelsTr alone.
    train_on_raters = True
    #: Largest norm of the gradient that an optimizer step follows: nnU-Net's.
    gradient_norm_limit = 12.0

    _remedy_for_pretrained_weights = (
        "name a checkpoint of the same plans and configuration whose network is the one that nnU-Net plans"
    )

    # Attributes of nnU-Net's, which gives them no types.
    network: nn.Module
    loss: Any
    num_epochs: int
    initial_lr: float
    weight_decay: float
    save_every: int
    my_init_kwargs: dict[str, Any]

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        if not self.label_manager.has_regions and self.label_manager.num_segmentation_heads < 2:
            raise ValueError(
                f"{self.plans_manager.dataset_name} has one class only ({', '.join(dataset_json['labels'])}): there is "
                "nothing to be uncertain about; its dataset.json needs the background and at least one foreground label"
            )
        self._resumed = False

    def initialize(self) -> None:
        super().initialize()
        check_pretrained_weights(self.unwrap(self.network), type(self).__name__, self._remedy_for_pretrained_weights)

    @staticmethod
    def unwrap(network: nn.Module) -> Any:
        """The network under DistributedDataParallel and torch.compile, of whichever class the trainer builds."""
        if isinstance(network, DistributedDataParallel):
            network = network.module
        return network._orig_mod if isinstance(network, OptimizedModule) else network

    def get_tr_and_val_datasets(self) -> tuple:
        training, validation = super().get_tr_and_val_datasets()
        if count_raters(self.dataset_json):
            plans = self.plans_manager
            training = choose_training_labels(
                training,
                RaterFolder.of_configuration(
                    Path(self.preprocessed_dataset_folder_base), plans, self.configuration_manager, self.dataset_json
                ),
                train_on_raters=self.train_on_raters,
                command=f"nnunet_stochastic_preprocess_raters -d {plans.dataset_name} -p {plans.plans_name} "
                f"-c {self.configuration_name}",
                log=self.print_to_log_file,
            )
        return training, validation

    def phases(self) -> list[TrainingPhase]:
        """Phases of the training that are planned for a number of epochs; a subclass adds its own."""
        return []

    def settings_on_record(self) -> dict[str, Any]:
        """What decides about a training and is in its checkpoints, for --c to tell what was changed since."""
        options = {name: value for name, value in options_of(self).items() if name not in _NOT_ON_RECORD}
        return options | {name: getattr(self, name) for name in ("num_epochs", "initial_lr", "weight_decay")}

    def changes_since_checkpoint(self) -> dict[str, tuple[Any, Any]]:
        """Settings that a training which is resumed had otherwise, with both values; earlier versions recorded none."""
        recorded = self.my_init_kwargs.get("stochastic_settings", {}) if self._resumed else {}
        current = self.settings_on_record()
        return {
            name: (was, current[name]) for name, was in recorded.items() if name in current and current[name] != was
        }

    def on_train_start(self) -> None:
        if self.local_rank == 0 and not self.disable_checkpointing:
            lock_fold(Path(self.output_folder))
        changed = self.changes_since_checkpoint()
        super().on_train_start()
        for name, (was, now) in changed.items() if self.current_epoch < self.num_epochs else ():
            self.print_to_log_file(
                f"warning: the training that is resumed had {name} = {was} and goes on with {now}; it ends otherwise "
                "than one with either throughout"
            )
        self.my_init_kwargs["stochastic_settings"] = self.settings_on_record()
        for phase in self.phases():
            if phase.epochs < phase.planned:
                self.print_to_log_file(
                    f"{type(self).__name__} trains for {self.num_epochs} epochs: {phase.what} takes {phase.epochs} of "
                    f"them instead of {phase.planned}"
                )
        if self.local_rank == 0:
            remove_leftovers(Path(self.output_folder))
        if self.grad_scaler is None:
            self.optimizer.register_step_pre_hook(self._refuse_infinite_gradient)

    def autocast(self) -> AbstractContextManager:
        """Mixed precision where nnU-Net uses it: on CUDA."""
        return torch.autocast(self.device.type) if self.device.type == "cuda" else nullcontext()

    @contextmanager
    def predicting_with(self, predict: Callable[[Tensor], Tensor | list[Tensor]]) -> Iterator[None]:
        """Within the block nnU-Net's validation step takes its logits from ``predict``, not from the network."""
        network = self.network
        self.network = predict  # type: ignore[assignment]  # a function is all that nnU-Net's validation step calls
        try:
            yield
        finally:
            self.network = network

    def take_optimizer_step(self, loss: Tensor) -> None:
        """One step of the optimizer along the gradient of a scalar loss, its norm limited."""
        if self.grad_scaler is None:
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_norm_limit)
            self.optimizer.step()
        else:
            self.grad_scaler.scale(loss).backward()
            self.grad_scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_norm_limit)
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()

    def _refuse_infinite_gradient(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        """Stop in front of an optimizer step that would leave no finite weight; on CUDA GradScaler skips such steps."""
        gradients = (parameter.grad for group in optimizer.param_groups for parameter in group["params"])
        if all(gradient is None or gradient.isfinite().all() for gradient in gradients):
            return
        raise FloatingPointError(
            f"{type(self).__name__} stops in epoch {self.current_epoch}: the gradient of the loss is not finite, and "
            f"the next optimizer step would make all weights so; {_HOW_TO_GO_ON}"
        )

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        failed = sum(not np.isfinite(output["loss"]).all() for output in train_outputs)
        scale = None if self.grad_scaler is None else self.grad_scaler.get_scale()
        if failed == len(train_outputs) > 0 or (scale is not None and scale < _LEAST_GRADIENT_SCALE):
            found = f"the loss of {failed} of {len(train_outputs)} batches is not finite"
            if scale is not None:
                found += f", and the scale of the gradients has come down to {scale:g}"
            raise FloatingPointError(
                f"{type(self).__name__} stops after epoch {self.current_epoch}: {found}; {_HOW_TO_GO_ON}"
            )
        if failed:
            self.print_to_log_file(
                f"warning: the loss of {failed} of {len(train_outputs)} batches is not finite, and their steps were "
                "skipped; if that goes on, look for images whose preprocessed values are not finite or far beyond "
                "those of the others"
            )
        super().on_train_epoch_end(train_outputs)

    def on_epoch_end(self) -> None:
        # nnU-Net writes the latest checkpoint in front of the best one, and without knowing that it is the best: an
        # interruption in between would lose it, and after a resume a worse one could take its place. Keep nnU-Net from
        # writing it, and write it last.
        save_every, self.save_every = self.save_every, self.num_epochs + 1
        super().on_epoch_end()
        self.save_every = save_every
        if self.current_epoch % save_every == 0:
            self.current_epoch -= 1  # save_checkpoint takes the epoch that has just ended
            self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_latest.pth"))
            self.current_epoch += 1

    def on_train_end(self) -> None:
        batches = []
        if self.local_rank == 0 and getattr(self.unwrap(self.network), "has_samples", False):
            self._seed("validation", self.current_epoch)
            batches = [next(self.dataloader_val) for _ in range(CHECKED_BATCHES)]
        super().on_train_end()  # the final checkpoint comes first, and the loaders are shut down
        if batches:
            self.check_samples(batches)

    @torch.no_grad()
    def check_samples(self, batches: list[dict]) -> None:
        """Warn where samples of a network that has samples on validation data are all empty or fill their patches."""
        network = self.unwrap(self.network).eval()
        shares = []
        for batch in batches:
            labels = batch["target"][0] if isinstance(batch["target"], list) else batch["target"]
            with self.autocast():
                distribution = network.logit_distribution(batch["data"].to(self.device))
            shares += foreground_shares(
                distribution, self.encode(labels.to(self.device)), regions=self.label_manager.has_regions
            )
        warning = warning_about_samples(shares)
        if warning is not None:
            self.print_to_log_file(f"warning: {warning}")

    def encode(self, labels: Tensor) -> Target:
        """The annotation that nnU-Net's loaders return, at full resolution."""
        return encode_target(
            labels,
            self.label_manager.num_segmentation_heads,
            regions=self.label_manager.has_regions,
            ignore_label=self.label_manager.ignore_label,
        )

    def save_checkpoint(self, filename: str) -> None:
        """Save as nnU-Net does, but whole or not at all: an interruption leaves the file that was there before."""
        if self.local_rank != 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        with staged_file(Path(filename)) as staged:
            super().save_checkpoint(str(staged))

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        if isinstance(filename_or_checkpoint, str):
            self.require_whole(filename_or_checkpoint)
        super().load_checkpoint(filename_or_checkpoint)
        self._resumed = True

    @staticmethod
    def require_whole(checkpoint: str) -> None:
        """Raise ``OSError`` for a checkpoint that a power cut has damaged."""
        try:
            check_checksums(Path(checkpoint))
        except OSError as error:
            raise OSError(f"{error}; remove it, and --c goes on from another one, or train anew") from error
