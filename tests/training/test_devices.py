"""The numbers of a training step, the same on a GPU as on the CPU. Without a GPU the CPU stands for both."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_stochastic.distributions import LogitDistribution

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
MODELS = sorted(
    path.stem
    for path in (Path(__file__).parents[2] / "trainers").glob("nnUNetTrainer*.py")
    if path.stem != "nnUNetTrainerDemo"
)
PHASES = {"mean": 0, "samples": 900}


@pytest.fixture
def same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw on the CPU whatever the device: generators of two devices give different numbers from one seed."""

    def noise(self, *shape: int, generator: torch.Generator | None) -> torch.Tensor:
        if generator is not None:
            generator = torch.Generator().manual_seed(generator.initial_seed() % 2**32 + len(shape))
        return torch.randn(shape, generator=generator, dtype=self.dtype).to(self.device)

    rand = torch.rand
    monkeypatch.setattr(LogitDistribution, "_normal", noise)
    monkeypatch.setattr(torch, "randn_like", lambda like: torch.randn(like.shape, dtype=like.dtype).to(like.device))
    monkeypatch.setattr(torch, "rand", lambda *shape, device=None, **rest: rand(*shape, **rest).to(device or "cpu"))


def start(dataset, name: str, device: str, monkeypatch: pytest.MonkeyPatch):
    """A trainer that is ready, with the same weights and batches on every device."""
    monkeypatch.setenv("nnUNet_compile", "f")
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - nnU-Net's augmentation draws from it
    trainer = dataset.trainer(name, device=device)
    trainer.on_train_start()
    trainer.network.train()
    return trainer


def seed_step() -> None:
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002 - as above


def step_in_float32(dataset, name: str, device: str, phase: str, monkeypatch: pytest.MonkeyPatch):
    """Loss and gradients of a step in the given phase."""
    trainer = start(dataset, name, device, monkeypatch)
    trainer.grad_scaler = None
    monkeypatch.setattr(trainer, "autocast", nullcontext)
    monkeypatch.setattr("nnunetv2.training.nnUNetTrainer.nnUNetTrainer.autocast", lambda *_, **__: nullcontext())
    trainer.current_epoch = PHASES[phase]
    seed_step()
    batch = next(trainer.dataloader_train)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        loss = trainer.train_step(batch)["loss"]
    # Deep supervision gives its lowest output no weight, and that has no gradient.
    weights = trainer.network.named_parameters()
    gradients = {key: weight.grad.cpu() for key, weight in weights if weight.grad is not None}
    assert {parameter.device.type for parameter in trainer.network.parameters()} == {device}
    return float(loss), gradients


@pytest.mark.parametrize("phase", list(PHASES))
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("device", DEVICES)
def test_a_step_in_float32_is_that_of_the_cpu(
    make_dataset, monkeypatch, tiny_generative_models, same_noise, device: str, name: str, phase: str
) -> None:
    dataset = make_dataset(2)
    expected_loss, expected = step_in_float32(dataset, name, "cpu", phase, monkeypatch)
    loss, gradients = step_in_float32(dataset, name, device, phase, monkeypatch)
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    size = torch.cat([gradient.flatten() for gradient in expected.values()]).norm()
    difference = torch.cat([(gradients[key] - expected[key]).flatten() for key in expected]).norm()
    assert size > 0
    assert difference < 1e-3 * size


@pytest.mark.parametrize("phase", list(PHASES))
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("device", DEVICES)
def test_steps_under_float16_autocast_are_finite(
    make_dataset, monkeypatch, tiny_generative_models, device: str, name: str, phase: str
) -> None:
    trainer = start(make_dataset(2), name, device, monkeypatch)
    monkeypatch.setattr(trainer, "autocast", lambda: torch.autocast(device, dtype=torch.float16))
    trainer.current_epoch = PHASES[phase]
    before = {key: value.clone() for key, value in trainer.network.state_dict().items()}
    losses = [float(trainer.train_step(next(trainer.dataloader_train))["loss"]) for _ in range(4)]
    assert np.isfinite(losses).all()
    weights = trainer.network.state_dict()
    assert all(value.isfinite().all() for value in weights.values())
    assert any(not torch.equal(value, before[key]) for key, value in weights.items())
    trainer.network.eval()
    with torch.no_grad():
        assert np.isfinite(trainer.validation_step(next(trainer.dataloader_val))["loss"])
