"""SWAG's schedule and snapshots, and that an interruption at any moment followed by --c changes no result."""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from nnunet_stochastic.epistemic import EPISTEMIC_METHODS
from nnunet_stochastic.posteriors.swag import Swag
from nnunet_stochastic.posteriors.swag_moments import SwagMoments
from nnunet_stochastic.training import BaseTrainer, FineTuningTrainer, SwagTrainer
from tests.training.conftest import seed

NAME = "nnUNetTrainerDeterministicSWAG"


class Interrupted(Exception):
    """Stands for an interruption: nothing in the package may catch it."""


@contextmanager
def short_training(die: Callable[[], None] | None = None, at: int = -1) -> Iterator[list[str]]:
    """Three epochs, two of them with snapshots, each with its own data; ``die`` at one of the changes to files.

    Gives the list of those changes. A file that is being saved when it dies is left half-written, and nothing is
    tidied up any more.
    """
    changes: list[str] = []
    tidy = shutil.rmtree

    def watched(function, name: str, half_done=None):
        def wrapper(*arguments, **options):
            changes.append(f"{name} {Path(str(arguments[-1])).name}")
            if len(changes) - 1 == at:
                if half_done is not None:
                    half_done(*arguments)
                die()
            return function(*arguments, **options)

        return wrapper

    save = torch.save

    def save_half(content, path) -> None:
        buffer = io.BytesIO()
        save(content, buffer)
        Path(path).write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])

    def start_epoch(trainer) -> None:
        seed(trainer.current_epoch)
        on_epoch_start(trainer)

    on_epoch_start = nnUNetTrainer.on_epoch_start
    with ExitStack() as stack:
        for owner, name, value in (
            (FineTuningTrainer, "fine_tuning_epochs", 1),
            (SwagTrainer, "num_snapshots", 2),
            (nnUNetTrainer, "on_epoch_start", start_epoch),
            (MetaLogger, "plot_progress_png", lambda *_: None),
            (torch, "save", watched(save, "save", save_half)),
            (os, "replace", watched(os.replace, "replace")),
            (os, "remove", watched(os.remove, "remove")),
            (Path, "unlink", watched(Path.unlink, "unlink")),
            (shutil, "rmtree", lambda *a, **b: None if die is not None and len(changes) > at else tidy(*a, **b)),
        ):
            stack.enter_context(mock.patch.object(owner, name, value))
        yield changes


def train(dataset, results: Path, *, resume: bool = False, name: str = NAME):
    os.environ["nnUNet_results"] = str(results)
    seed(0)
    trainer = dataset.trainer(name, resume=resume)
    trainer.num_iterations_per_epoch = trainer.num_val_iterations_per_epoch = 1
    maybe_load_checkpoint(trainer, resume, False)
    trainer.run_training()
    return trainer


def train_until_killed(dataset, results: Path, name: str, at: int) -> None:
    """In a process of its own: a real SIGKILL."""
    torch.set_num_threads(1)
    with short_training(lambda: os.kill(os.getpid(), signal.SIGKILL), at):
        train(dataset, results, name=name)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in ``train_until_killed``: the number of threads decides how sums are rounded."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def fold(results: Path, name: str = NAME, configuration: str = "2d") -> Path:
    return results / "Dataset999_Tiny" / f"{name}__nnUNetPlans__{configuration}" / "fold_0"


def outcome(folder: Path) -> dict[str, object]:
    """All that a training leaves and that does not depend on the time of day: file names, weights, optimizer."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        if path.suffix == ".pth":
            content = torch.load(path, weights_only=False)
            logging = content.pop("logging", {})
            content.pop("init_args", None)
            found[path.name] = content | {key: value for key, value in logging.items() if "timestamps" not in key}
        elif path.is_file() and not path.name.startswith("training_log"):
            found[path.name] = None
    return found


def same(one: object, two: object) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


def test_an_interruption_at_any_change_of_a_file_is_made_good_by_resuming(dataset, tmp_path: Path) -> None:
    def die() -> None:
        raise Interrupted

    with short_training() as changes:
        train(dataset, tmp_path / "undisturbed")
    expected = outcome(fold(tmp_path / "undisturbed"))
    assert {"epoch_0001.pth", "epoch_0002.pth", "swag.pth", "checkpoint_final.pth"} <= expected.keys()
    assert "checkpoint_latest.pth" not in expected
    assert [change for change in changes if "best" not in change] == [
        "unlink swag.pth",
        "save epoch_0001.pth",
        "replace epoch_0001.pth",
        "save checkpoint_latest.pth",
        "replace checkpoint_latest.pth",
        "save epoch_0002.pth",
        "replace epoch_0002.pth",
        "save checkpoint_latest.pth",
        "replace checkpoint_latest.pth",
        "save swag.pth",
        "replace swag.pth",
        "save checkpoint_final.pth",
        "replace checkpoint_final.pth",
        "remove checkpoint_latest.pth",
    ]
    for at, change in enumerate(changes):
        results = tmp_path / f"interrupted_at_{at}"
        with short_training(die, at), pytest.raises(Interrupted):
            train(dataset, results)
        assert any(fold(results).rglob(".*.unfinished-*")) == change.startswith(("save", "replace"))
        with short_training():
            train(dataset, results, resume=True)
        assert same(outcome(fold(results)), expected), f"interrupted at {change}"


@pytest.mark.slow
def test_a_real_kill_of_a_training_process(dataset, tmp_path: Path, one_thread: None) -> None:
    """SIGKILL while the snapshot of the last epoch is half-written, of a model whose loss draws random numbers."""
    name = "nnUNetTrainerMoBSWAG"
    with short_training() as changes:
        train(dataset, tmp_path / "undisturbed", name=name)
    at = changes.index("save epoch_0002.pth")
    arguments = (dataset, tmp_path / "killed", name, at)
    process = multiprocessing.get_context("spawn").Process(target=train_until_killed, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    folder = fold(tmp_path / "killed", name)
    (half,) = (folder / "swag").glob(".epoch_0002.pth.unfinished-*/epoch_0002.pth")
    assert half.stat().st_size > 0
    with pytest.raises(FileNotFoundError, match=r"has 1 snapshots and no swag\.pth"):
        SwagMoments.load(folder)
    with short_training():
        train(dataset, tmp_path / "killed", resume=True, name=name)
    assert same(outcome(folder), outcome(fold(tmp_path / "undisturbed", name)))


def test_the_posterior_is_that_of_the_last_epochs(dataset, tmp_path: Path) -> None:
    with short_training():
        trainer = train(dataset, tmp_path)
        moments = SwagMoments.load(fold(tmp_path))
        final = torch.load(fold(tmp_path) / "checkpoint_final.pth", weights_only=False)["network_weights"]
        names = [name for name, _ in trainer.network.named_parameters()]
        assert list(moments.mean) == names
        first, last = moments.snapshots
        for name in names:
            assert torch.equal(last[name], final[name])
            torch.testing.assert_close(moments.mean[name], (first[name] + last[name]) / 2)
        assert sum(float(variance.sum()) for variance in moments.variance.values()) > 0
        draw = Swag(EPISTEMIC_METHODS["swag"], fold(tmp_path), {"num_members": 1})
        draw.activate(trainer.network, torch.Generator().manual_seed(0))
        drawn = trainer.network.state_dict()
        assert any(not torch.equal(drawn[name], final[name]) for name in names)
    log = Path(trainer.log_file).read_text()
    assert "after each of the last 2 epochs, at a constant learning rate of 0.001" in log
    assert "SWAG: mean and variance of 2 snapshots are in" in log


def test_training_anew_takes_nothing_from_an_earlier_training(dataset, tmp_path: Path) -> None:
    with short_training():
        train(dataset, tmp_path)
        stale = fold(tmp_path) / "swag" / "epoch_0777.pth"
        stale.write_bytes((fold(tmp_path) / "swag" / "epoch_0001.pth").read_bytes())
        trainer = dataset.trainer(NAME)
        trainer.on_train_start()
    assert list((fold(tmp_path) / "swag").iterdir()) == []
    assert not (fold(tmp_path) / "swag.pth").exists()


def test_resuming_a_finished_training_keeps_what_it_has(dataset, tmp_path: Path) -> None:
    with short_training():
        train(dataset, tmp_path)
        before = outcome(fold(tmp_path))
        train(dataset, tmp_path, resume=True)
        assert same(outcome(fold(tmp_path)), before)
        (fold(tmp_path) / "swag" / "epoch_0001.pth").unlink()
        with pytest.raises(FileNotFoundError, match=r"resumed behind epoch 2, and .* lacks .* 1 earlier .*\(1\)"):
            train(dataset, tmp_path, resume=True)


def test_files_that_a_power_cut_damaged_are_refused_before_the_first_epoch(dataset, tmp_path: Path) -> None:
    with short_training():
        train(dataset, tmp_path)
        for name, message in (
            ("swag/epoch_0001.pth", r"epoch_0001\.pth is damaged.*train anew without --c"),
            ("checkpoint_final.pth", r"checkpoint_final\.pth is damaged.*remove it, and --c goes on"),
        ):
            path = fold(tmp_path) / name
            whole = path.read_bytes()
            middle = len(whole) // 2
            for content in (b"", whole[:1000], whole[:middle] + bytes(4096) + whole[middle + 4096 :]):
                path.write_bytes(content)
                with pytest.raises(OSError, match=message):
                    train(dataset, tmp_path, resume=True)
            path.write_bytes(whole)
        train(dataset, tmp_path, resume=True)


CHANGED = [
    (SwagTrainer, "num_snapshots", 1),
    (SwagTrainer, "num_snapshots", 3),
    (SwagTrainer, "snapshot_learning_rate", 2e-3),
    (FineTuningTrainer, "fine_tuning_epochs", 2),
    (FineTuningTrainer, "fine_tuning_learning_rate", 3e-4),
    (FineTuningTrainer, "fine_tuning_weight_decay", 0.0),
    (BaseTrainer, "gradient_norm_limit", 1.0),
    (BaseTrainer, "train_on_raters", False),
]


def test_another_option_than_that_of_the_snapshots_is_refused_on_resuming(dataset, tmp_path: Path) -> None:
    """Once training has finished, and while it collects; before the first snapshot if the option is SWAG's."""
    with short_training():
        train(dataset, tmp_path)
        whole = {path: path.read_bytes() for path in fold(tmp_path).rglob("*.pth")}
        for owner, name, value in CHANGED:
            with (
                mock.patch.object(owner, name, value),
                pytest.raises(ValueError, match=rf"is to be resumed had .* = .* and now has .*set it back in {NAME}"),
            ):
                train(dataset, tmp_path, resume=True)
            assert {path: path.read_bytes() for path in fold(tmp_path).rglob("*.pth")} == whole
        train(dataset, tmp_path, resume=True)
    assert SwagMoments.load(fold(tmp_path)).epochs == (1, 2)


@pytest.mark.parametrize("epoch", [1, 2])
def test_another_option_is_refused_in_the_middle(dataset, tmp_path: Path, epoch: int) -> None:
    def stop(trainer) -> None:
        if trainer.current_epoch == epoch:
            raise Interrupted

    with short_training():
        with mock.patch.object(SwagTrainer, "on_train_epoch_start", stop), pytest.raises(Interrupted):
            train(dataset, tmp_path / "results", name=NAME)
        assert (fold(tmp_path / "results") / "checkpoint_latest.pth").is_file() == (epoch == 2)
        for number, (owner, name, value) in enumerate(CHANGED):
            results = tmp_path / f"copy_{number}"
            shutil.copytree(tmp_path / "results", results)
            with mock.patch.object(owner, name, value):
                if epoch == 2 or number < 4:
                    with pytest.raises(ValueError, match=rf"is to be resumed had .*set it back in {NAME}"):
                        train(dataset, results, resume=True)
                else:
                    trainer = train(dataset, results, resume=True)
                    assert "warning: the training that is resumed had" in Path(trainer.log_file).read_text()


def test_a_checkpoint_of_an_earlier_version_records_no_options(dataset, tmp_path: Path) -> None:
    with short_training():
        train(dataset, tmp_path)
        path = fold(tmp_path) / "checkpoint_final.pth"
        content = torch.load(path, weights_only=False)
        assert content["init_args"].pop("stochastic_settings")["num_snapshots"] == 2
        torch.save(content, path)
        train(dataset, tmp_path, resume=True)


def test_nothing_is_written_where_checkpointing_is_disabled(dataset, tmp_path: Path) -> None:
    os.environ["nnUNet_results"] = str(tmp_path)
    with short_training() as changes:
        trainer = dataset.trainer(NAME)
        trainer.disable_checkpointing = True
        trainer.run_training()
    assert changes == []
    assert not list(fold(tmp_path).rglob("*.pth"))


def learning_rates(trainer) -> np.ndarray:
    """Of the first group at each epoch."""
    rates = []
    for epoch in range(trainer.num_epochs):
        trainer.lr_scheduler.step(epoch)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    return np.array(rates)


def test_schedule_of_fine_tuning(dataset) -> None:
    trainer = dataset.trainer("nnUNetTrainerMoBSWAG")
    trainer.initialize()
    assert (trainer.num_epochs, trainer.first_snapshot_epoch) == (50, 20)
    polynomial = 1e-4 * (1 - np.arange(20) / 20) ** 0.9
    np.testing.assert_allclose(learning_rates(trainer), [*polynomial, *[1e-3] * 30])
    assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([1e-3, 1e-3])
    assert type(trainer.optimizer) is torch.optim.AdamW


def test_the_rate_of_ent_is_there_by_name(dataset) -> None:
    trainer = dataset.trainer("nnUNetTrainerMoBEntSWAG")
    trainer.initialize()
    np.testing.assert_allclose(learning_rates(trainer)[20:], 1e-4)
    # The heads' tenfold, as while fine-tuning.
    assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([1e-4, 1e-3])
    assert trainer.LEAVES_FILES_FOR == ("swag", "swag_diag")


@pytest.mark.parametrize(
    ("num_epochs", "spacing", "first", "taken"),
    [
        (80, 2, 40, [*range(41, 80, 2)]),  # 20 of the 30 snapshots, in the 40 epochs of the last half
        (200, 2, 140, [*range(141, 200, 2)]),
        (7, 3, 3, [3, 6]),
    ],
)
def test_snapshots_that_are_some_epochs_apart(
    dataset, monkeypatch: pytest.MonkeyPatch, num_epochs: int, spacing: int, first: int, taken: list[int]
) -> None:
    monkeypatch.setenv("nnUNet_stochastic_init", "scratch")
    trainer = dataset.trainer(NAME)
    trainer.num_epochs, trainer.snapshot_spacing = num_epochs, spacing
    assert trainer.first_snapshot_epoch == first
    assert list(trainer.epochs_with_snapshot) == taken


def test_epochs_between_snapshots_lengthen_fine_tuning(dataset) -> None:
    trainer = dataset.trainer(NAME)
    trainer.snapshot_spacing = 4
    assert (trainer.num_epochs, trainer.first_snapshot_epoch) == (140, 20)
    assert list(trainer.epochs_with_snapshot) == [*range(23, 140, 4)]
    trainer.snapshot_spacing = 0
    with pytest.raises(ValueError, match="snapshot_spacing must be at least 1 epoch, got 0"):
        trainer.on_train_start()


def test_schedule_from_scratch(dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_stochastic_init", "scratch")
    trainer = dataset.trainer(NAME)
    trainer.initialize()
    assert (trainer.num_epochs, trainer.first_snapshot_epoch) == (1000, 970)
    polynomial = 1e-2 * (1 - np.arange(970) / 970) ** 0.9
    np.testing.assert_allclose(learning_rates(trainer), [*polynomial, *[1e-3] * 30])
    assert type(trainer.optimizer) is torch.optim.SGD


@pytest.mark.parametrize(
    ("init", "num_epochs", "expected"),
    [
        ("scratch", 1000, 30),
        ("scratch", 60, 30),
        ("scratch", 59, 30),
        ("scratch", 40, 20),
        ("scratch", 3, 2),
        ("fine tuning", 50, 30),
        ("fine tuning", 49, 29),
        ("fine tuning", 40, 20),
        ("fine tuning", 3, 2),
    ],
)
def test_snapshots_are_those_of_the_last_half_where_training_is_short(
    dataset, monkeypatch: pytest.MonkeyPatch, init: str, num_epochs: int, expected: int
) -> None:
    if init == "scratch":
        monkeypatch.setenv("nnUNet_stochastic_init", init)
    trainer = dataset.trainer(NAME)
    trainer.num_epochs = num_epochs
    assert (trainer.snapshot_epochs, trainer.first_snapshot_epoch) == (expected, num_epochs - expected)


def test_a_short_training_says_that_it_takes_fewer_snapshots(
    dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("nnUNet_stochastic_init", "scratch")
    monkeypatch.setattr(MetaLogger, "plot_progress_png", lambda *_: None)
    trainer = dataset.trainer(NAME)
    trainer.num_epochs = 4
    trainer.run_training()
    assert len(SwagMoments.load(trainer.output_folder).snapshots) == 2
    assert (
        "trains for 4 epochs: SWAG's collection of snapshots takes 2 of them instead of 30"
        in Path(trainer.log_file).read_text()
    )


def test_what_is_refused_before_training(dataset) -> None:
    trainer = dataset.trainer(NAME)
    trainer.num_epochs = 2
    with pytest.raises(ValueError, match=r"trains for 2 epochs with num_snapshots = 30, which leaves 1 for SWAG"):
        trainer.on_train_start()
    trainer = dataset.trainer(NAME)
    trainer.initialize()
    trainer.network.encoder.stages[0][0].convs[0].norm = nn.BatchNorm2d(8)
    with pytest.raises(ValueError, match="batch norm"):
        trainer.run_training()
