"""Trainings with nnUNet_stochastic_seed: equal bit for bit when repeated, and when interrupted and resumed."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as nnunet_trainer

from nnunet_stochastic.training import SnapshotTrainer, SSNTrainer, StochasticTrainer
from nnunet_stochastic.training.seeding import SEED_VARIABLE, _with_nested, read_seed, seed_everything

NUM_EPOCHS = 4
DETERMINISTIC = "nnUNetTrainerDeterministic"
#: Trainers by what they draw; each also passes from training the mean to training on samples.
TRAINERS = {
    "noise of the loss": "nnUNetTrainerMoB",
    "noise of the loss, moving average": "nnUNetTrainerSSN",
    "dropout": "nnUNetTrainerMoBDropout",
    "snapshots": "nnUNetTrainerMoBSWAG",
    "initial heads, fine-tuning": "nnUNetTrainerMoBVolume",
    "noise of the energy score": "nnUNetTrainerMoBEnergy",
    "the demo's": "nnUNetTrainerDemo",
}


@pytest.fixture
def dataset(make_dataset, tiny_generative_models, monkeypatch: pytest.MonkeyPatch):
    """A 2D dataset whose two folds hold the same cases, and trainers that draw samples from their second epoch on."""
    dataset = make_dataset(2, patch=(8, 8))
    write_splits(dataset, ["case_0", "case_1", "case_2"])
    monkeypatch.setenv(SEED_VARIABLE, "0")
    monkeypatch.setattr(StochasticTrainer, "warm_up_epochs", 1)
    monkeypatch.setattr(SSNTrainer, "mean_epochs", 1)
    monkeypatch.setattr(SnapshotTrainer, "num_snapshots", 2)
    monkeypatch.setattr(MetaLogger, "plot_progress_png", lambda *_: None)
    return dataset


def write_splits(dataset, training: list[str]) -> None:
    path = dataset.folders["nnUNet_preprocessed"] / "Dataset999_Tiny" / "splits_final.json"
    path.write_text(json.dumps([{"train": training, "val": ["case_3"]}] * 2))


def disturb() -> None:
    """Leave all generators in a state that nothing can know."""
    torch.seed()
    random.seed()
    np.random.seed()  # noqa: NPY002 the generator that nnU-Net draws from


def build(dataset, name: str, *, fold: int = 0, resume: bool = False):
    disturb()
    trainer = dataset.trainer(name, fold=fold, resume=resume)
    trainer.num_epochs, trainer.save_every = NUM_EPOCHS, 2
    trainer.initialize()
    maybe_load_checkpoint(trainer, resume, False)
    return trainer


def train(dataset, name: str, *, fold: int = 0, resume: bool = False):
    trainer = build(dataset, name, fold=fold, resume=resume)
    trainer.run_training()
    return trainer


def train_until_interrupted(dataset, name: str) -> Path:
    """Die in the middle of the last epoch; the latest checkpoint is one or two epochs old then."""
    trainer = build(dataset, name)
    steps = iter([trainer.train_step] * ((NUM_EPOCHS - 1) * trainer.num_iterations_per_epoch + 1))
    trainer.train_step = lambda batch: next(steps)(batch)
    with pytest.raises(StopIteration):  # stands for an interruption
        trainer.run_training()
    return Path(trainer.output_folder)


def contents(folder: str | Path) -> dict[str, Any]:
    """Of all checkpoints and snapshots, whatever does not depend on the time of day."""
    found = {}
    for path in Path(folder).rglob("*.pth"):
        content = torch.load(path, weights_only=False)
        for key in [key for key in content.get("logging", {}) if "timestamps" in key]:
            del content["logging"][key]
        found[path.name] = as_arrays(content)
    return found


def as_arrays(content: Any) -> Any:
    if isinstance(content, torch.Tensor):
        return content.numpy()
    if isinstance(content, dict):
        return {key: as_arrays(value) for key, value in content.items()}
    return [as_arrays(value) for value in content] if isinstance(content, list | tuple) else content


def weights(trainer) -> torch.Tensor:
    """All of them in one vector."""
    return torch.nn.utils.parameters_to_vector(trainer.network.parameters()).detach().clone()


def initial_weights(dataset, name: str = DETERMINISTIC, *, fold: int = 0) -> torch.Tensor:
    return weights(build(dataset, name, fold=fold))


@pytest.mark.parametrize("drawn", TRAINERS)
def test_a_training_repeats_itself_and_what_an_interruption_cut_off(
    drawn: str, dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = TRAINERS[drawn]
    if drawn == "initial heads, fine-tuning":
        start = tmp_path / "deterministic.pth"
        build(dataset, "nnUNetTrainer").save_checkpoint(str(start))
        monkeypatch.setenv("nnUNet_stochastic_init", str(start))

    monkeypatch.setenv("nnUNet_results", str(tmp_path / "undisturbed"))
    folder = train(dataset, name).output_folder
    expected = contents(folder)
    assert {"checkpoint_final.pth", "checkpoint_best.pth"} <= expected.keys()
    assert expected["checkpoint_final.pth"]["init_args"]["stochastic_seed"] == 0
    if drawn == "snapshots":
        assert {"epoch_0002.pth", "epoch_0003.pth", "swag.pth"} <= expected.keys()

    monkeypatch.setenv("nnUNet_results", str(tmp_path / "repeated"))
    write_splits(dataset, ["case_2", "case_0", "case_1"])
    np.testing.assert_equal(contents(train(dataset, name).output_folder), expected)

    monkeypatch.setenv("nnUNet_results", str(tmp_path / "interrupted"))
    interrupted = train_until_interrupted(dataset, name)
    assert not (interrupted / "checkpoint_final.pth").exists()
    latest = torch.load(interrupted / "checkpoint_latest.pth", weights_only=False)
    assert latest["current_epoch"] == (3 if drawn == "snapshots" else 2)
    np.testing.assert_equal(contents(train(dataset, name, resume=True).output_folder), expected)


def test_seed_and_fold_decide_over_the_result(dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome(**options) -> tuple[torch.Tensor, torch.Tensor]:
        return initial_weights(dataset, **options), weights(train(dataset, DETERMINISTIC, **options))

    seed_0, fold_1 = outcome(), outcome(fold=1)
    monkeypatch.setenv(SEED_VARIABLE, "1")
    seed_1 = outcome()
    for one, other in ((seed_0, fold_1), (seed_0, seed_1), (fold_1, seed_1)):
        assert not torch.equal(one[0], other[0])
        assert not torch.equal(one[1], other[1])


def test_without_the_variable_nothing_is_seeded(dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SEED_VARIABLE)
    assert read_seed() is None
    first, second = train(dataset, DETERMINISTIC), train(dataset, DETERMINISTIC)
    assert not torch.equal(weights(first), weights(second))
    assert "stochastic_seed" not in first.my_init_kwargs
    assert SEED_VARIABLE not in Path(second.log_file).read_text()
    states = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    first.on_train_epoch_start()
    first.on_validation_epoch_start()
    np.testing.assert_equal((torch.get_rng_state().numpy(), np.random.get_state()), (states[0].numpy(), states[1]))  # noqa: NPY002


def test_snapshots_and_dropout_start_from_the_weights_of_the_trainer_behind_them(dataset) -> None:
    plain, with_snapshots = train(dataset, "nnUNetTrainerSSN"), train(dataset, "nnUNetTrainerSSNSWAG")
    assert torch.equal(weights(plain), weights(with_snapshots))
    initial, with_dropout = (initial_weights(dataset, f"nnUNetTrainerSSN{end}") for end in ("", "Dropout"))
    assert torch.equal(initial, with_dropout)


@pytest.mark.parametrize("value", ["", "-1", "1.5", "one", "1_0", " 1"])
def test_what_is_no_seed_is_refused_before_anything(value: str, dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SEED_VARIABLE, value)
    with pytest.raises(ValueError, match=rf"{SEED_VARIABLE} must be a whole number of at least 0, got '{value}'"):
        dataset.trainer("nnUNetTrainerMoB")
    assert not list(dataset.folders["nnUNet_results"].iterdir())


def test_ranks_draw_batches_of_their_own(dataset) -> None:
    def first_batch(rank: int) -> torch.Tensor:
        trainer = build(dataset, DETERMINISTIC)
        trainer.local_rank = rank
        trainer.on_train_start()
        trainer.on_train_epoch_start()
        return next(trainer.dataloader_train)["data"]

    assert torch.equal(first_batch(1), first_batch(1))
    assert not torch.equal(first_batch(0), first_batch(1))


def test_an_epoch_does_not_depend_on_the_one_before_where_transforms_have_a_state(
    make_dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a cascade shuffle the channels that they work on, in place."""
    dataset = make_dataset(cascade=True, patch=(8, 8, 8))
    monkeypatch.setenv(SEED_VARIABLE, "0")
    trainer = dataset.trainer("nnUNetTrainerMoB")
    trainer.on_train_start()

    def batches(number: int) -> list[torch.Tensor]:
        trainer.on_train_epoch_start()
        return [next(trainer.dataloader_train)["data"] for _ in range(number)]

    expected = batches(4)
    assert not torch.equal(expected[0], expected[1])
    for number in range(1, 9):
        batches(number)
        assert all(map(torch.equal, batches(4), expected))


def test_the_clock_has_no_part_in_a_batch(dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net's blur measures which of two algorithms is the faster one, and their results differ by rounding."""

    def draw_blurred_batches() -> None:
        trainer = build(dataset, DETERMINISTIC)
        trainer.on_train_start()
        trainer.on_train_epoch_start()
        for transform in _with_nested(trainer.dataloader_train.data_loader.transforms):
            if hasattr(transform, "benchmark_use_fft"):  # it may have measured with the batch that nnU-Net drops
                transform.benchmark_use_fft.clear()
        with monkeypatch.context() as patch:
            patch.setattr(
                "batchgeneratorsv2.transforms.noise.gaussian_blur.time", lambda: pytest.fail("looks at the clock")
            )
            for _ in range(100):
                next(trainer.dataloader_train)

    draw_blurred_batches()
    monkeypatch.delenv(SEED_VARIABLE)
    with pytest.raises(pytest.fail.Exception, match="looks at the clock"):
        draw_blurred_batches()


def test_worker_processes_are_named_and_do_not_begin_again(dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    inherited = []

    def workers(**_) -> Iterator[None]:
        """In place of processes, which would inherit the state of torch's generator at the first batch."""
        while True:
            yield inherited.append(torch.initial_seed())

    monkeypatch.setattr(nnunet_trainer, "NonDetMultiThreadedAugmenter", workers)
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    for epoch in (0, 0, 7):
        trainer = build(dataset, DETERMINISTIC)
        trainer.current_epoch = epoch
        trainer.on_train_start()
        trainer.on_train_epoch_start()
    assert inherited[0] == inherited[2] != inherited[4]
    log = Path(trainer.log_file).read_text()
    assert f"{SEED_VARIABLE}=0 decides over the initial weights and the noise in network and loss, not" in log


@pytest.mark.parametrize("other", ["1", None])
def test_a_training_resumed_with_another_seed_says_so_and_claims_none(
    other: str | None, dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resume_with_other() -> tuple[int | None, str]:
        with monkeypatch.context() as patch:
            patch.delenv(SEED_VARIABLE)
            if other:
                patch.setenv(SEED_VARIABLE, other)
            trainer = train(dataset, DETERMINISTIC, resume=True)
        final = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)
        return final["init_args"].get("stochastic_seed"), Path(trainer.log_file).read_text()

    train_until_interrupted(dataset, DETERMINISTIC)
    seed, log = resume_with_other()
    assert seed is None
    assert f"had {SEED_VARIABLE}=0 and goes on with {f'{SEED_VARIABLE}=1' if other else f'no {SEED_VARIABLE}'};" in log
    train(dataset, DETERMINISTIC)
    assert resume_with_other()[0] == 0, "nothing was trained with the other seed"


def first_draws(*key, **options) -> tuple[float, ...]:
    disturb()
    seed_everything(*key, **options)
    return torch.rand(1, dtype=torch.float64).item(), np.random.rand(), random.random()  # noqa: NPY002


def test_streams_are_fixed_and_all_different() -> None:
    table = {
        (0, 0, 0, "weights", 0): (0.6974539350481052, 0.48907747490951237, 0.8552136313485662),
        (0, "all", 7, "training", 0): (0.6037372440766398, 0.14179069600810323, 0.9014903248641524),
        (2**40, 4, 999, "validation", 1): (0.751795797106479, 0.006216004508677542, 0.6187000320335966),
    }
    for (*key, rank), expected in table.items():
        assert first_draws(*key, rank=rank) == pytest.approx(expected, abs=1e-12)
    keys = [
        (seed, fold, epoch, phase)
        for seed, fold, epoch in itertools.product((0, 1, 2**40), ("all", 0, 1), (0, 1, 999))
        for phase in ("weights", "loaders", "training", "validation")
    ]
    draws = np.array([first_draws(*key, rank=rank) for key in keys for rank in (0, 1)])
    assert [len(np.unique(column)) for column in draws.T] == [2 * len(keys)] * 3
    np.testing.assert_allclose(draws.mean(axis=0), 0.5, atol=0.08)  # standard error 0.02
