"""What a trainer does where a loss or its gradient is not finite: it says so, and keeps the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

NAMES = ["nnUNetTrainerDeterministic", "nnUNetTrainerMoB", "nnUNetTrainerProbUNet"]


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_that_is_not_finite_stops_training_in_front_of_the_step(
    make_dataset, name: str, tiny_generative_models
) -> None:
    trainer = make_dataset(2).trainer(name)
    trainer.on_train_start()
    trainer.network.train()
    trainer.train_step(next(trainer.dataloader_train))
    weight = next(trainer.network.parameters())
    weight.register_hook(lambda gradient: torch.full_like(gradient, torch.nan))
    before = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    trainer.current_epoch = 7
    with pytest.raises(FloatingPointError, match=rf"{name} stops in epoch 7: the gradient of the loss is not finite"):
        trainer.train_step(next(trainer.dataloader_train))
    assert all(torch.equal(value, before[key]) for key, value in trainer.network.state_dict().items())


def test_a_loss_that_is_not_finite_leaves_no_checkpoint(make_dataset) -> None:
    trainer = make_dataset(2).trainer("nnUNetTrainerDiagonal")
    trainer.on_train_start()
    with torch.no_grad():
        trainer.network.heads.bias.fill_(torch.inf)
    with pytest.raises(FloatingPointError, match="with --c"):
        trainer.run_training()
    assert not list(Path(trainer.output_folder).glob("*.pth"))


class Scaler:
    """Stands for GradScaler, which lives on CUDA."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def get_scale(self) -> float:
        return self.scale


def test_where_steps_are_skipped_training_goes_on_until_it_is_of_no_use(make_dataset) -> None:
    trainer = make_dataset(2).trainer("nnUNetTrainerDiagonal")
    trainer.on_train_start()
    losses = [{"loss": np.array(loss)} for loss in (0.5, np.nan, 0.25, np.inf)]
    trainer.grad_scaler = Scaler(2.0**10)
    trainer.logger.log("epoch_start_timestamps", 0.0, 0)
    trainer.on_train_epoch_end(losses)
    assert "warning: the loss of 2 of 4 batches is not finite" in Path(trainer.log_file).read_text()
    with pytest.raises(FloatingPointError, match=r"epoch 0: the loss of 1 of 1 batches is not finite"):
        trainer.on_train_epoch_end(losses[1:2])
    trainer.grad_scaler = Scaler(2.0**-15)
    with pytest.raises(FloatingPointError, match=r"scale of the gradients has come down to 3\.05176e-05"):
        trainer.on_train_epoch_end(losses[:1])
