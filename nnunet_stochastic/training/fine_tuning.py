"""The two recipes, and the base of every trainer that starts from a deterministic nnU-Net.

With a deterministic checkpoint (see ``starting_point``): AdamW, learning rate 1e-4, weight decay 1e-4, 20 epochs, the
fine-tuning of *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation*
(MoB, section 4.1). Without one: nnU-Net's own recipe from scratch.

nnU-Net's users change a trainer by setting ``self.num_epochs`` and the like in ``__init__``, behind ``super()``. What
is set so stands before the recipe, also where another recipe turns out to be the right one later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnunet_stochastic.checkpoints import read_checkpoint
from nnunet_stochastic.training.base import BaseTrainer
from nnunet_stochastic.training.optimizers import GroupedPolyLRScheduler
from nnunet_stochastic.training.starting_point import find_deterministic_checkpoint, load_deterministic_weights

__all__ = ["FineTuningTrainer", "Recipe"]

Recipe = Literal["fine_tuning", "scratch"]

#: Checkpoints that --c looks for, in nnU-Net's order.
_RESUMED = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")


class _SettingOfRecipe:
    """An attribute that is the recipe's until somebody sets it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, trainer: FineTuningTrainer | None, owner: type | None = None) -> Any:
        if trainer is None:
            return self
        own = trainer.__dict__
        return own[self.name] if self.name in own else trainer.settings_of_recipe()[self.name]

    def __set__(self, trainer: FineTuningTrainer, value: Any) -> None:
        trainer.__dict__[self.name] = value


class FineTuningTrainer(BaseTrainer):
    """nnU-Net's trainer, continued from the deterministic model of the same dataset, plans, configuration and fold.

    Everything that is not about where training starts, for how long and with which optimizer is nnU-Net's.
    """

    #: Trainer whose checkpoint is the starting point.
    deterministic_trainer = "nnUNetTrainer"
    #: Length of fine-tuning in epochs.
    fine_tuning_epochs = 20
    #: Learning rate at the start of fine-tuning.
    fine_tuning_learning_rate = 1e-4
    #: Weight decay of fine-tuning.
    fine_tuning_weight_decay = 1e-4
    #: Length of a training from scratch in epochs; None: nnU-Net's, 1000.
    scratch_epochs: int | None = None

    num_epochs = _SettingOfRecipe()
    initial_lr = _SettingOfRecipe()
    weight_decay = _SettingOfRecipe()

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ) -> None:
        resumes = plans.get("continue_training", False)  # nnU-Net takes it out
        super().__init__(plans, configuration, fold, dataset_json, device)
        own_name = Path(self.output_folder_base).name
        folder = Path(self.output_folder_base).with_name(
            own_name.replace(type(self).__name__, self.deterministic_trainer, 1)
        )
        checkpoint = find_deterministic_checkpoint(folder / f"fold_{fold}")
        self._nnunet_settings = {name: self.__dict__.pop(name) for name in ("num_epochs", "initial_lr", "weight_decay")}
        self._weights_come_from_elsewhere = False
        self._set_recipe("scratch" if checkpoint is None else "fine_tuning", checkpoint)
        if resumes:  # a subclass may ask for the recipe as soon as this returns
            found = (Path(self.output_folder) / name for name in _RESUMED)
            if resumed := next((path for path in found if path.is_file()), None):
                self._take_recipe_of(resumed)

    def _set_recipe(self, recipe: Recipe, checkpoint: Path | None) -> None:
        self.recipe: Recipe = recipe
        self.starting_checkpoint = checkpoint
        # nnU-Net stores the arguments of __init__ in a checkpoint and gives them back on --c: the one place in its
        # files where a trainer can leave what it must know again.
        self.my_init_kwargs["stochastic_recipe"] = recipe
        self.my_init_kwargs["stochastic_starting_checkpoint"] = None if checkpoint is None else str(checkpoint)

    def settings_of_recipe(self) -> dict[str, Any]:
        """Length in epochs, learning rate at the start and weight decay, by the name of nnU-Net's attribute."""
        if self.recipe == "scratch":
            own_length = {} if self.scratch_epochs is None else {"num_epochs": self.scratch_epochs}
            return self._nnunet_settings | own_length
        return {
            "num_epochs": self.fine_tuning_epochs,
            "initial_lr": self.fine_tuning_learning_rate,
            "weight_decay": self.fine_tuning_weight_decay,
        }

    def _take_recipe_of(self, checkpoint: Path) -> None:
        self.require_whole(str(checkpoint))
        init_args = read_checkpoint(checkpoint).get("init_args", {})
        if "stochastic_recipe" not in init_args:
            raise ValueError(
                f"{checkpoint} was written by another trainer than {type(self).__name__} is now: it has no recipe to "
                "resume; train anew without --c, or give the trainer another name"
            )
        start = init_args["stochastic_starting_checkpoint"]
        self._set_recipe(init_args["stochastic_recipe"], None if start is None else Path(start))

    def initialize(self) -> None:
        super().initialize()
        # -pretrained_weights loads into the initialized network from outside of the trainer.
        self.unwrap(self.network).register_load_state_dict_post_hook(self._note_loaded_weights)

    def _note_loaded_weights(self, *_: object) -> None:
        self._weights_come_from_elsewhere = True

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        if self.recipe == "scratch":
            return super().configure_optimizers()
        optimizer = torch.optim.AdamW(self.parameter_groups(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, GroupedPolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What fine-tuning optimizes, each group with its ``learning_rate_factor``."""
        return [{"params": list(self.network.parameters()), "learning_rate_factor": 1.0}]

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        if not self._resumed:
            self._take_starting_weights()
        super().on_train_start()

    def _take_starting_weights(self) -> None:
        if self._weights_come_from_elsewhere:
            if self.recipe == "fine_tuning":
                self._set_recipe("scratch", None)
                self.optimizer, self.lr_scheduler = self.configure_optimizers()
            self.print_to_log_file(
                f"{type(self).__name__} starts from the weights given with -pretrained_weights and follows nnU-Net's "
                f"recipe for {self.num_epochs} epochs"
            )
        elif self.starting_checkpoint is not None:
            load_deterministic_weights(self.unwrap(self.network), self.starting_checkpoint)
            self.print_to_log_file(
                f"{type(self).__name__} fine-tunes the deterministic model {self.starting_checkpoint} for "
                f"{self.num_epochs} epochs"
            )
        else:
            self.print_to_log_file(
                f"{type(self).__name__} trains from scratch with nnU-Net's recipe for {self.num_epochs} epochs: there "
                f"is no deterministic model ({self.deterministic_trainer}) of this dataset, plans, configuration and "
                "fold, or nnUNet_stochastic_init says so"
            )

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Resume as nnU-Net does, with the recipe that the checkpoint was trained with."""
        if not self.was_initialized:
            self._take_recipe_of(Path(filename_or_checkpoint))
        super().load_checkpoint(filename_or_checkpoint)
