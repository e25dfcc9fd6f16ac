"""Cycles of the learning rate, the weights at their minima, and that an interruption followed by --c changes none."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from nnunetv2.training.logging.nnunet_logger import MetaLogger

from nnunet_stochastic.epistemic import EPISTEMIC_METHODS
from nnunet_stochastic.posteriors.checkpoints import CyclicCheckpoints
from nnunet_stochastic.training import BaseTrainer, CycleTrainer, CyclicTrainer, FineTuningTrainer, GenerativeTrainer
from tests.training.test_swag import Interrupted, fold, outcome, same, short_training, train

NAME = "nnUNetTrainerDeterministicCyclic"
METHOD = EPISTEMIC_METHODS["checkpoints"]


@pytest.fixture
def six_epochs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(CycleTrainer, "num_cycles", 2)
    four = mock.patch.object(FineTuningTrainer, "fine_tuning_epochs", 4)

    def run(dataset, results: Path, **options):
        with four:
            return train(dataset, results, name=NAME, **options)

    return run


def die() -> None:
    raise Interrupted


def members(folder: Path) -> CyclicCheckpoints:
    return CyclicCheckpoints(METHOD, folder, {})


def test_an_interruption_is_made_good_by_resuming(dataset, tmp_path: Path, six_epochs) -> None:
    with short_training() as changes:
        six_epochs(dataset, tmp_path / "undisturbed")
    expected = outcome(fold(tmp_path / "undisturbed", NAME))
    assert {"epoch_0004.pth", "epoch_0005.pth", "cyclic.pth", "checkpoint_final.pth"} <= expected.keys()
    assert not [name for name in expected if name.startswith("epoch_") and name[6:10] not in ("0004", "0005")]
    order = [change for change in changes if "best" not in change]
    assert order == [
        "unlink cyclic.pth",
        *(
            "save epoch_0004.pth",
            "replace epoch_0004.pth",
            "save checkpoint_latest.pth",
            "replace checkpoint_latest.pth",
        ),
        *(
            "save epoch_0005.pth",
            "replace epoch_0005.pth",
            "save checkpoint_latest.pth",
            "replace checkpoint_latest.pth",
        ),
        *("save cyclic.pth", "replace cyclic.pth", "save checkpoint_final.pth", "replace checkpoint_final.pth"),
        "remove checkpoint_latest.pth",
    ]
    for change in ("save epoch_0005.pth", "replace epoch_0005.pth", "save cyclic.pth", "save checkpoint_final.pth"):
        results = tmp_path / change.replace(" ", "_")
        with short_training(die, changes.index(change)), pytest.raises(Interrupted):
            six_epochs(dataset, results)
        assert any(fold(results, NAME).rglob(".*.unfinished-*"))
        with short_training():
            six_epochs(dataset, results, resume=True)
        assert same(outcome(fold(results, NAME)), expected), f"interrupted at {change}"


def test_members_are_the_weights_at_the_minima(dataset, tmp_path: Path, six_epochs) -> None:
    with short_training():
        trainer = six_epochs(dataset, tmp_path)
    folder = fold(tmp_path, NAME)
    posterior = members(folder)
    assert posterior.num_members == 2
    names = [name for name, _ in trainer.network.named_parameters()]
    final = torch.load(folder / "checkpoint_final.pth", weights_only=False)["network_weights"]
    drawn = []
    for index in range(2):
        posterior.of_member(index).activate(trainer.network, torch.Generator())
        drawn.append({name: weight.clone() for name, weight in trainer.network.named_parameters()})
        stored = torch.load(folder / "cyclic" / f"epoch_000{4 + index}.pth", weights_only=True)
        assert all(torch.equal(drawn[index][name], stored[name]) for name in names)
    assert all(torch.equal(drawn[1][name], final[name]) for name in names)
    assert any(not torch.equal(drawn[0][name], drawn[1][name]) for name in names)
    log = Path(trainer.log_file).read_text()
    assert "2 cycles of 1 epochs: the learning rate falls from 0.001 to 0 in each" in log
    assert "the weights of 2 cycles are on record in" in log


def test_resuming_refuses_other_cycles_and_missing_members(dataset, tmp_path: Path, six_epochs, monkeypatch) -> None:
    with short_training():
        six_epochs(dataset, tmp_path)
        whole = outcome(fold(tmp_path, NAME))
        six_epochs(dataset, tmp_path, resume=True)
        assert same(outcome(fold(tmp_path, NAME)), whole)
        for owner, name, value, said in (
            (CycleTrainer, "num_cycles", 1, "cycles = 2 and now has 1"),
            (CyclicTrainer, "fine_tuning_cycle_learning_rate", 1e-2, "cycle_learning_rate = 0.001 and now has 0.01"),
            (BaseTrainer, "gradient_norm_limit", 1.0, "gradient_norm_limit = 12.0 and now has 1.0"),
        ):
            with mock.patch.object(owner, name, value), pytest.raises(ValueError, match=said):
                six_epochs(dataset, tmp_path, resume=True)
        (fold(tmp_path, NAME) / "cyclic" / "epoch_0004.pth").unlink()
        with pytest.raises(FileNotFoundError, match=r"lacks the snapshots of 1 earlier epochs \(4\)"):
            six_epochs(dataset, tmp_path, resume=True)


def test_the_rate_falls_within_an_epoch(dataset, tmp_path: Path, six_epochs) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def recorded(optimizer, *arguments, **options):
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *arguments, **options)

    with short_training(), mock.patch.object(torch.optim.AdamW, "step", recorded):
        with mock.patch.object(BaseTrainer, "on_train_start", lambda trainer: _four_steps(trainer)):
            six_epochs(dataset, tmp_path)
    polynomial = 1e-4 * (1 - np.arange(4) / 4) ** 0.9
    cycle = 1e-3 * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
    np.testing.assert_allclose(rates, [*np.repeat(polynomial, 4), *cycle, *cycle])


def _four_steps(trainer, on_train_start=BaseTrainer.on_train_start) -> None:
    on_train_start(trainer)
    trainer.num_iterations_per_epoch = 4


def learning_rates(trainer, steps) -> list[float]:
    rates = []
    for each in steps:
        trainer.lr_scheduler.step(each)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    return rates


def test_schedule_of_fine_tuning(dataset) -> None:
    """The first 20 epochs are those of the model without cycles; ten more are five cycles of two."""
    trainer = dataset.trainer("nnUNetTrainerMoBCyclic")
    trainer.initialize()
    assert (trainer.num_epochs, trainer.first_cyclic_epoch, trainer.epochs_per_cycle) == (30, 20, 2)
    assert list(trainer.epochs_with_snapshot) == [21, 23, 25, 27, 29]
    np.testing.assert_allclose(learning_rates(trainer, range(20)), 1e-4 * (1 - np.arange(20) / 20) ** 0.9)
    np.testing.assert_allclose(learning_rates(trainer, (20, 21, 21.5, 22, 29)), [1e-3, 5e-4, 1.4644661e-4, 1e-3, 5e-4])
    assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([5e-4, 5e-4])
    trainer.lr_scheduler.step(0)
    assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([1e-4, 1e-3])


@pytest.mark.parametrize("name", ["nnUNetTrainerCyclic", NAME])
def test_schedule_from_scratch(dataset, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("nnUNet_stochastic_init", "scratch")
    trainer = dataset.trainer(name)
    trainer.initialize()
    assert (trainer.num_epochs, trainer.first_cyclic_epoch, trainer.epochs_per_cycle) == (1000, 670, 66)
    assert list(trainer.epochs_with_snapshot) == [735, 801, 867, 933, 999]
    polynomial = 1e-2 * (1 - np.arange(670) / 670) ** 0.9
    np.testing.assert_allclose(learning_rates(trainer, range(670)), polynomial)
    np.testing.assert_allclose(learning_rates(trainer, (670, 703, 736)), [1e-2, 5e-3, 1e-2])


def test_a_generative_model_keeps_the_weights_that_are_averaged(
    make_dataset, monkeypatch: pytest.MonkeyPatch, tiny_generative_models
) -> None:
    monkeypatch.setattr(MetaLogger, "plot_progress_png", lambda *_: None)
    monkeypatch.setattr(CycleTrainer, "num_cycles", 2)
    monkeypatch.setattr(GenerativeTrainer, "training_epochs", 6)
    trainer = make_dataset(2, patch=(8, 8)).trainer("nnUNetTrainerSoftmaxCyclic")
    trainer.num_iterations_per_epoch = trainer.num_val_iterations_per_epoch = 1
    trainer.run_training()
    raw = {name: weight.clone() for name, weight in trainer.network.named_parameters()}
    posterior = members(Path(trainer.output_folder))
    posterior.of_member(1).activate(trainer.network, torch.Generator())
    assert all(torch.equal(weight, raw[name]) for name, weight in trainer.network.named_parameters())
    assert any(not torch.equal(weight, raw[name]) for name, weight in trainer.average.weights.items())


def test_what_is_refused_before_training(dataset) -> None:
    for num_epochs, num_cycles in ((5, 5), (30, 1)):
        trainer = dataset.trainer(NAME)
        trainer.num_epochs, trainer.num_cycles = num_epochs, num_cycles
        message = f"trains for {num_epochs} epochs with num_cycles = {num_cycles}, which leaves 1 cycles"
        with pytest.raises(ValueError, match=message):
            trainer.on_train_start()
