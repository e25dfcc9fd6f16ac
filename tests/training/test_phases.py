"""One rule for the phases of a training: as planned at the papers' lengths, at most half where training is short."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_stochastic.training.phases import closing_phase, opening_phase


@pytest.mark.parametrize(
    ("planned", "num_epochs", "opening", "closing"),
    [
        (32, 500, 32, 32),
        (10, 1000, 10, 10),
        (32, 64, 32, 32),
        (32, 63, 31, 32),
        (32, 10, 5, 5),
        (10, 5, 2, 3),
        (30, 1, 0, 1),
        (0, 10, 0, 0),
    ],
)
def test_phases(planned: int, num_epochs: int, opening: int, closing: int) -> None:
    assert opening_phase(planned, num_epochs) == opening
    assert closing_phase(planned, num_epochs) == closing
    assert opening + closing <= num_epochs or planned == 0


def started(dataset, name: str, num_epochs: int):
    trainer = dataset.trainer(name)
    trainer.num_epochs = num_epochs
    trainer.on_train_start()
    return trainer, Path(trainer.log_file).read_text()


def test_the_weight_of_the_kl_divergence_has_risen_after_half_of_a_short_training(
    make_dataset, tiny_generative_models
) -> None:
    trainer, log = started(make_dataset(2), "nnUNetTrainerProbUNet", 10)
    weights = []
    for trainer.current_epoch in range(10):
        weights.append(trainer.current_kl_weight)
    assert weights == pytest.approx([0, 1e-4, 2e-4, 3e-4, 4e-4, *[5e-4] * 5])
    assert "trains for 10 epochs: the rise of the weight of the KL divergence takes 5 of them instead of 32" in log


def test_a_training_of_the_papers_length_says_nothing(make_dataset, tiny_generative_models) -> None:
    _, log = started(make_dataset(2), "nnUNetTrainerProbUNetSWAG", 500)
    assert "instead of" not in log


@pytest.mark.parametrize(
    ("name", "attribute"), [("nnUNetTrainerSSN", "in_mean_phase"), ("nnUNetTrainerLowRank", "in_warm_up")]
)
def test_the_mean_is_trained_alone_in_half_of_a_short_training_at_most(
    make_dataset, tiny_generative_models, name: str, attribute: str
) -> None:
    trainer, log = started(make_dataset(2), name, 7)
    alone = []
    for trainer.current_epoch in range(7):
        alone.append(getattr(trainer, attribute))
    assert alone == [True] * 3 + [False] * 4
    assert "trains for 7 epochs: training on the mean logits alone takes 3 of them instead of 10" in log
