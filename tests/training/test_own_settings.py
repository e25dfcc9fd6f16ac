"""What nnU-Net's users set in a trainer's ``__init__`` behind ``super()`` stands, however its training starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.run.run_training import maybe_load_checkpoint

from nnunet_stochastic.training import BasisTrainer, FineTuningTrainer, SoftmaxTrainer, SwagTrainer

#: By attribute, values that are nobody's default.
SETTINGS: dict[str, Any] = {
    "num_epochs": 3,
    "initial_lr": 3e-3,
    "weight_decay": 2e-5,
    "save_every": 2,
    "num_iterations_per_epoch": 1,
    "num_val_iterations_per_epoch": 1,
    "oversample_foreground_percent": 0.7,
    "enable_deep_supervision": False,
    "probabilistic_oversampling": True,
}


class Own:
    """Sets everything as nnU-Net's own variants of its trainer do."""

    settings: ClassVar[dict[str, Any]] = SETTINGS

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        for name, value in self.settings.items():
            setattr(self, name, value)


class Plain(Own, FineTuningTrainer):
    pass


class Basis(Own, BasisTrainer):
    num_training_samples = 2


class Swag(Own, SwagTrainer, FineTuningTrainer):
    pass


class Attention(Own, SoftmaxTrainer):
    base_channels = 4
    channel_multipliers = (1, 1, 2)
    batch_size_2d = None


FINE_TUNED = (Plain, Basis, Swag)


def build(dataset, trainer_class: type, *, resume: bool = False):
    """As nnUNetv2_train does."""
    plans = json.loads(json.dumps(dataset.plans)) | {"continue_training": resume}
    return trainer_class(plans, dataset.configuration, 0, dict(dataset.dataset_json), torch.device("cpu"))


def settings_of(trainer, names=SETTINGS) -> dict[str, Any]:
    return {name: getattr(trainer, name) for name in names}


def deterministic_checkpoint(dataset) -> Path:
    trainer = dataset.trainer("nnUNetTrainer")
    trainer.initialize()
    path = Path(trainer.output_folder) / "checkpoint_final.pth"
    trainer.save_checkpoint(str(path))
    return path


@pytest.fixture
def dataset(make_dataset):
    return make_dataset(2)


@pytest.mark.parametrize("recipe", ["scratch", "fine_tuning"])
@pytest.mark.parametrize("trainer_class", [*FINE_TUNED, Attention])
def test_they_stand_from_the_start_and_after_resuming(dataset, trainer_class: type, recipe: str) -> None:
    if recipe == "fine_tuning":
        deterministic_checkpoint(dataset)
    trainer = build(dataset, trainer_class)
    assert getattr(trainer, "recipe", recipe) == recipe
    assert settings_of(trainer) == SETTINGS
    trainer.run_training()
    assert trainer.current_epoch == 3
    assert settings_of(trainer, set(SETTINGS) - {"save_every"}) == {
        k: v for k, v in SETTINGS.items() if k != "save_every"
    }
    rate = trainer.optimizer.param_groups[0]["initial_lr"] if recipe == "scratch" else None
    assert rate in (None, 3e-3)
    assert trainer.optimizer.param_groups[0]["weight_decay"] == 2e-5

    resumed = build(dataset, trainer_class, resume=True)
    maybe_load_checkpoint(resumed, True, False)
    assert settings_of(resumed) == SETTINGS
    resumed.run_training()
    assert resumed.current_epoch == 3
    assert len(resumed.logger.get_value("train_losses", step=None)) == 3


@pytest.mark.parametrize("trainer_class", FINE_TUNED)
def test_they_stand_where_the_recipe_turns_out_to_be_another(dataset, trainer_class: type) -> None:
    """--c of a training from scratch that has a deterministic model now, found out after the trainer was built."""
    trainer = build(dataset, trainer_class)
    trainer.initialize()
    assert trainer.recipe == "scratch"
    path = Path(trainer.output_folder) / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(path))
    deterministic_checkpoint(dataset)
    resumed = build(dataset, trainer_class)
    assert resumed.recipe == "fine_tuning"
    resumed.load_checkpoint(str(path))
    assert resumed.recipe == "scratch"
    assert settings_of(resumed) == SETTINGS


@pytest.mark.parametrize("found", ["a deterministic model is there", "none is there"])
@pytest.mark.parametrize("trainer_class", FINE_TUNED)
def test_they_stand_with_pretrained_weights(dataset, tmp_path: Path, trainer_class: type, found: str) -> None:
    path = deterministic_checkpoint(dataset)
    if found == "none is there":
        path = path.rename(tmp_path / "elsewhere.pth")
    trainer = build(dataset, trainer_class)
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(path))
    trainer.on_train_start()
    assert trainer.recipe == "scratch"
    assert settings_of(trainer) == SETTINGS
    assert type(trainer.optimizer) is torch.optim.SGD
    assert trainer.optimizer.param_groups[0]["lr"] == 3e-3
    assert trainer.optimizer.param_groups[0]["weight_decay"] == 2e-5
    assert "follows nnU-Net's recipe for 3 epochs" in Path(trainer.log_file).read_text()


def test_what_is_set_to_the_value_of_a_recipe_is_set(dataset) -> None:
    class Same(Plain):
        settings: ClassVar[dict[str, Any]] = {"num_epochs": 20, "initial_lr": 1e-4}

    path = deterministic_checkpoint(dataset)
    trainer = build(dataset, Same)
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(path))
    trainer.on_train_start()
    assert (trainer.num_epochs, trainer.initial_lr, trainer.weight_decay) == (20, 1e-4, 3e-5)


def test_a_subclass_may_ask_for_the_recipe_that_is_resumed(dataset) -> None:
    class Half(FineTuningTrainer):
        def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.num_epochs //= 2

    trainer = build(dataset, Half)
    trainer.initialize()
    assert trainer.num_epochs == 500
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_latest.pth"))
    deterministic_checkpoint(dataset)
    assert build(dataset, Half).num_epochs == 10
    resumed = build(dataset, Half, resume=True)
    maybe_load_checkpoint(resumed, True, False)
    assert (resumed.recipe, resumed.num_epochs) == ("scratch", 500)


def test_the_length_from_scratch_is_a_class_attribute(dataset) -> None:
    class Short(BasisTrainer):
        scratch_epochs = 7

    class ShortSwag(SwagTrainer, Short):
        pass

    assert build(dataset, Short).num_epochs == 7
    assert build(dataset, ShortSwag).num_epochs == 7
    path = deterministic_checkpoint(dataset)
    assert build(dataset, Short).num_epochs == 20
    assert build(dataset, ShortSwag).num_epochs == 50
    trainer = build(dataset, Short)
    trainer.initialize()
    load_pretrained_weights(trainer.network, str(path))
    trainer.on_train_start()
    assert (trainer.num_epochs, trainer.initial_lr, trainer.weight_decay) == (7, 1e-2, 3e-5)


def test_deep_supervision_of_a_network_with_one_output_is_refused(dataset) -> None:
    class Deep(Attention):
        settings: ClassVar[dict[str, Any]] = {"enable_deep_supervision": True}

    with pytest.raises(ValueError, match="Deep sets enable_deep_supervision, and its network has one output"):
        build(dataset, Deep).run_training()
