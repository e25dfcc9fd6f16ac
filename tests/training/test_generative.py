"""One contract for the trainers of the generative models: what they train, judge, write and resume from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from torch import nn

from nnunet_stochastic.checkpoints import read_checkpoint
from nnunet_stochastic.posteriors.swag_moments import SwagMoments
from nnunet_stochastic.training import GenerativeTrainer, SnapshotTrainer, SSNTrainer

MODELS = ["nnUNetTrainerSoftmax", "nnUNetTrainerSSN", "nnUNetTrainerProbUNet", "nnUNetTrainerDiffusion"]
PATCH = {2: (8, 8), 3: (8, 8, 8)}
SETTINGS = {
    "regions": {"labels": "regions", "patch": PATCH[3]},
    "ignore label": {"labels": "ignore", "patch": PATCH[3]},
    "regions 2d": {"dimensions": 2, "labels": "regions", "patch": PATCH[2]},
    "ignore label 2d": {"dimensions": 2, "labels": "ignore", "patch": PATCH[2]},
    "channels": {"channels": 3, "patch": PATCH[3]},
    "cascade": {"cascade": True, "patch": PATCH[3]},
    "thin patch": {"patch": (4, 12, 11)},
    "odd patch": {"dimensions": 2, "patch": (15, 10)},
}


def seed(number: int) -> None:
    np.random.seed(number)  # noqa: NPY002 - nnU-Net's augmentation draws from it
    torch.manual_seed(number)


def ready(trainer):
    """Initialized, with data, as run_training leaves it before the first step."""
    trainer.on_train_start()
    trainer.network.train()
    return trainer


def raw_weights(trainer) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainer.network.named_parameters()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def scatter_weights(trainer, seed_number: int = 0) -> None:
    """Zero-initialised layers would hide what depends on the network."""
    generator = torch.Generator().manual_seed(seed_number)
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net's progress.png costs more than an epoch does here."""
    monkeypatch.setattr(MetaLogger, "plot_progress_png", lambda *_: None)


@pytest.fixture
def seeded_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each epoch its own random numbers, whatever was drawn before it."""
    on_epoch_start = nnUNetTrainer.on_epoch_start

    def start(trainer) -> None:
        seed(trainer.current_epoch)
        on_epoch_start(trainer)

    monkeypatch.setattr(nnUNetTrainer, "on_epoch_start", start)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", MODELS)
def test_trains_and_writes_the_averaged_weights(
    make_dataset, name: str, dimensions: int, tiny_generative_models
) -> None:
    dataset = make_dataset(dimensions, patch=PATCH[dimensions])
    trainer = dataset.trainer(name)
    trainer.num_epochs = 2
    trainer.mean_epochs = 1
    ready(trainer)
    before = raw_weights(trainer)
    trainer.run_training()
    after = raw_weights(trainer)
    # A normalisation with one channel per group takes the biases in front of it away.
    unchanged = [key for key, value in after.items() if value.ndim > 1 and torch.equal(value, before[key])]
    assert not unchanged, f"training changed no weight of {unchanged}"
    assert all(torch.isfinite(value).all() for value in after.values())
    losses = trainer.logger.get_value("train_losses", step=None) + trainer.logger.get_value("val_losses", step=None)
    assert len(losses) == 4
    assert np.isfinite(losses).all()
    assert trainer.average.num_updates == 6

    folder = Path(trainer.output_folder)
    written = {path.name for path in folder.iterdir()}
    assert {"checkpoint_final.pth", "checkpoint_best.pth", "debug.json"} <= written
    checkpoint = read_checkpoint(folder / "checkpoint_final.pth")
    assert checkpoint["trainer_name"] == name
    stored = {key: checkpoint["network_weights"][key] for key in after}
    assert equal(stored, trainer.average.weights)
    assert equal(checkpoint["init_args"]["stochastic_raw_weights"], after)
    assert not equal(stored, after)
    assert "stochastic_raw_weights" not in trainer.my_init_kwargs

    fresh = recursive_find_trainer_class_by_name(name).build_network_architecture(
        trainer.plans_manager, trainer.configuration_manager, 1, 3, enable_deep_supervision=False
    )
    fresh.load_state_dict(checkpoint["network_weights"])
    plans = json.loads((folder.parent / "plans.json").read_text())
    assert plans["configurations"] == dataset.plans["configurations"]


@pytest.mark.parametrize("setting", list(SETTINGS))
@pytest.mark.parametrize("name", MODELS)
def test_steps_in_every_setting_of_nnunet(make_dataset, name: str, setting: str, tiny_generative_models) -> None:
    dataset = make_dataset(**SETTINGS[setting])
    if "regions" in setting and name == "nnUNetTrainerDiffusion":
        with pytest.raises(ValueError, match="Dataset999_Tiny is trained on regions, and the diffusion model"):
            dataset.trainer(name)
        return
    trainer = dataset.trainer(name)
    trainer.mean_epochs = 0
    ready(trainer)
    before = raw_weights(trainer)
    losses = [float(trainer.train_step(next(trainer.dataloader_train))["loss"]) for _ in range(3)]
    assert np.isfinite(losses).all()
    assert any(not torch.equal(value, before[key]) for key, value in raw_weights(trainer).items())
    trainer.network.eval()
    with torch.no_grad():
        result = trainer.validation_step(next(trainer.dataloader_val))
    assert len(result["tp_hard"]) == 2
    assert np.isfinite(result["loss"])


def test_a_step_is_clipped_and_averaged(make_dataset, tiny_generative_models) -> None:
    trainer = ready(make_dataset(2).trainer("nnUNetTrainerSoftmax"))
    trainer.train_step(next(trainer.dataloader_train))
    first = raw_weights(trainer)
    assert equal(trainer.average.weights, first)
    trainer.optimizer.zero_grad()
    data = next(trainer.dataloader_train)["data"]
    trainer.take_optimizer_step(1e6 * trainer.network(data).square().sum())
    norm = sum(float(parameter.grad.square().sum()) for parameter in trainer.network.parameters()) ** 0.5
    assert norm == pytest.approx(0.5, rel=1e-4)
    trainer.average.update(trainer.network)
    for key, second in raw_weights(trainer).items():
        torch.testing.assert_close(trainer.average.weights[key], 0.1 * first[key] + 0.9 * second)


@pytest.mark.parametrize("name", ["nnUNetTrainerSSN", "nnUNetTrainerProbUNet"])
def test_resuming_gives_what_an_undisturbed_training_gives(
    make_dataset, monkeypatch, tmp_path, name: str, seeded_epochs, tiny_generative_models
) -> None:
    dataset = make_dataset(2, patch=PATCH[2])
    monkeypatch.setattr(SSNTrainer, "mean_epochs", 1)

    def train(results: str, epochs: int, *, resume: bool = False):
        monkeypatch.setenv("nnUNet_results", str(tmp_path / results))
        seed(100)
        trainer = dataset.trainer(name, resume=resume)
        trainer.num_epochs = epochs
        maybe_load_checkpoint(trainer, resume, False)
        trainer.run_training()
        return trainer

    undisturbed = train("undisturbed", 3)
    train("stopped", 2)
    seed(7)
    resumed = train("stopped", 3, resume=True)
    assert resumed.average.num_updates == 9
    assert equal(raw_weights(resumed), raw_weights(undisturbed))
    assert equal(resumed.average.weights, undisturbed.average.weights)
    for one, other in zip(*(t.optimizer.state_dict()["state"].values() for t in (resumed, undisturbed)), strict=True):
        assert equal(one, other)
    key = "dice_per_class_or_region"
    assert resumed.logger.get_value(key, step=None) == undisturbed.logger.get_value(key, step=None)


def test_swag_is_the_same_run_with_snapshots_of_the_raw_weights(
    make_dataset, monkeypatch, seeded_epochs, tiny_generative_models
) -> None:
    dataset = make_dataset(2, patch=PATCH[2])
    monkeypatch.setattr(SnapshotTrainer, "num_snapshots", 2)
    monkeypatch.setattr(GenerativeTrainer, "training_epochs", 3)
    trainers = []
    for name in ("nnUNetTrainerSoftmax", "nnUNetTrainerSoftmaxSWAG"):
        seed(100)
        trainer = dataset.trainer(name)
        trainer.run_training()
        trainers.append(trainer)
    plain, swag = trainers
    assert swag.first_snapshot_epoch == 1
    assert equal(raw_weights(swag), raw_weights(plain))
    assert equal(swag.average.weights, plain.average.weights)
    posterior = SwagMoments.load(swag.output_folder)
    assert equal(posterior.snapshots[-1], raw_weights(swag))
    assert not equal(posterior.snapshots[-1], swag.average.weights)
    assert len(posterior.snapshots) == 2
    assert "at a constant learning rate of 0.0001" in Path(swag.log_file).read_text()


@pytest.mark.parametrize("name", MODELS)
def test_validation_judges_the_averaged_weights(make_dataset, name: str, tiny_generative_models) -> None:
    trainer = make_dataset(2).trainer(name)
    trainer.mean_epochs = 0
    ready(trainer)
    scatter_weights(trainer, 1)
    trainer.average.update(trainer.network)
    averaged = raw_weights(trainer)
    scatter_weights(trainer, 2)
    raw = raw_weights(trainer)
    trainer.network.eval()
    batch = next(trainer.dataloader_val)
    copy = {key: value.clone() for key, value in batch.items() if isinstance(value, torch.Tensor)}
    torch.manual_seed(0)
    with torch.no_grad():
        result = trainer.validation_step(batch)
    assert equal(raw_weights(trainer), raw)
    assert isinstance(trainer.network, nn.Module)

    with torch.no_grad():
        for key, parameter in trainer.network.named_parameters():
            parameter.copy_(averaged[key])
        torch.manual_seed(0)
        target = trainer.encode(copy["target"])
        loss = trainer.training_loss(trainer.network(copy["data"], target), target)
        distribution = trainer.network.logit_distribution(copy["data"])
        count = trainer.num_validation_samples if trainer.network.has_samples else 1
        mean = torch.stack([distribution.rsample(1)[0].softmax(1) for _ in range(count)]).mean(0)
    assert result["loss"] == pytest.approx(float(loss), rel=1e-5)
    predicted, labels = mean.argmax(1), copy["target"][:, 0].long()
    assert result["tp_hard"].tolist() == [int(((predicted == c) & (labels == c)).sum()) for c in (1, 2)]
    assert result["fp_hard"].tolist() == [int(((predicted == c) & (labels != c)).sum()) for c in (1, 2)]
    assert sum(result["fp_hard"]) > 0


def test_final_validation_uses_the_averaged_weights(make_dataset, monkeypatch, tiny_generative_models) -> None:
    trainer = make_dataset(2).trainer("nnUNetTrainerSoftmax")
    trainer.initialize()
    averaged = raw_weights(trainer)
    scatter_weights(trainer)
    raw = raw_weights(trainer)
    seen = []
    monkeypatch.setattr(
        nnUNetTrainer, "perform_actual_validation", lambda self, probabilities: seen.append(raw_weights(self))
    )
    trainer.perform_actual_validation(False)
    assert equal(seen[0], averaged)
    assert equal(raw_weights(trainer), raw)
