"""Every trainer's steps on a CUDA device that is not there: where its tensors lie, and in which precision.

Fake tensors have a shape, a dtype and a device and no numbers, so what only happens on a GPU (autocast, the transfers,
the generators) can be followed on any machine. Three things cannot, and have stand-ins that record: the backward pass
(autograd's engine asks the driver for the device), GradScaler, and generators on the device. What a step reads back to
the CPU is answered with zeros.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from nnunet_stochastic.training import GenerativeTrainer
from nnunet_stochastic.training.ema import ExponentialMovingAverage

HALF = (torch.float16, torch.bfloat16)
FILES = sorted((Path(__file__).parents[2] / "trainers").glob("nnUNetTrainer*.py"))
NAMES = [name for path in FILES for name in re.findall(r"^class (nnUNetTrainer\w+)", path.read_text(), re.MULTILINE)]
MODELS = [path.stem for path in FILES if path.stem != "nnUNetTrainerDemo"]
#: The model of each file in both precisions of autocast, what is derived of it in CUDA's own.
CASES = [pytest.param(name, dtype, id=f"{name}-{str(dtype)[6:]}") for name in MODELS for dtype in HALF] + [
    pytest.param(name, torch.float16, id=name) for name in NAMES if name not in MODELS
]
#: Of what is computed on the CPU: seeds, times of a schedule, counts of steps.
MOST_HOST_NUMBERS = 64


class GeneratorOnDevice(torch.Generator):
    """A generator that knows for which device it was made."""

    def __new__(cls, device: torch.device | str = "cpu") -> GeneratorOnDevice:
        generator = super().__new__(cls)
        generator.meant_for = torch.device(device)
        return generator


class Scaler:
    """Stands for GradScaler."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        self.calls.append("scale")
        return loss * 1.0

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        self.calls.append("unscale_")

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        self.calls.append("step")
        optimizer.step()

    def update(self) -> None:
        self.calls.append("update")


class Watch(TorchFunctionMode):
    """Follows each call: what is computed from no fake tensor is computed on the CPU, and must be little."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.losses: list[torch.Tensor] = []
        self.generators = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.Tensor.backward:
            return self._backward(args[0])
        on_device = torch.device(kwargs.get("device") or "cpu").type == "cuda"
        fake = any(isinstance(leaf, FakeTensor) for leaf in tree_leaves((args, kwargs)))
        generator = kwargs.get("generator")
        if generator is not None:
            self.generators += 1
            assert generator.meant_for.type == ("cuda" if on_device else "cpu"), function
        if not (on_device or fake):
            with unset_fake_temporarily():
                result = function(*args, **kwargs)
            for tensor in tree_leaves(result):
                assert not isinstance(tensor, torch.Tensor) or tensor.numel() <= MOST_HOST_NUMBERS, function
            return result
        if function in (torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.item):
            zeros = np.zeros(args[0].shape, np.float32)
            return zeros if function is torch.Tensor.numpy else zeros.tolist()
        result = function(*args, **kwargs)
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
                assert tensor.numel() <= MOST_HOST_NUMBERS, f"{function} gives {tuple(tensor.shape)} on the CPU"
        return result

    def _backward(self, loss: torch.Tensor) -> None:
        self.losses.append(loss.detach())
        assert loss.requires_grad
        for parameter in self.network.parameters():
            parameter.grad = torch.zeros_like(parameter)


@contextmanager
def on_fake_cuda(trainer, dtype: torch.dtype) -> Iterator[tuple[list[dict], Watch]]:
    """Move a trainer that is ready to a CUDA device that is not there; gives four batches as loaders hand them over."""
    batches = [next(trainer.dataloader_train if i < 2 else trainer.dataloader_val) for i in range(4)]
    default = torch.get_autocast_dtype("cuda")
    torch.set_autocast_dtype("cuda", dtype)
    try:
        with (
            mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
            mock.patch.object(torch.cuda, "is_bf16_supported", return_value=True),
            mock.patch.object(torch, "Generator", GeneratorOnDevice),
            FakeTensorMode(allow_non_fake_inputs=False) as mode,
        ):
            for module in trainer.network.modules():
                for name, parameter in module._parameters.items():
                    if parameter is not None:
                        module._parameters[name] = nn.Parameter(torch.empty(parameter.shape, device="cuda"))
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda")
            trainer.device = torch.device("cuda")
            trainer.grad_scaler = Scaler()
            trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
            if isinstance(trainer, GenerativeTrainer):
                trainer.average = ExponentialMovingAverage(trainer.network, trainer.average_decay)
            fake = [{key: tree_map(mode.from_tensor, batch[key]) for key in ("data", "target")} for batch in batches]
            with Watch(trainer.network) as watch:
                yield fake, watch
    finally:
        torch.set_autocast_dtype("cuda", default)


def record_precision(trainer) -> tuple[list[torch.dtype], list[dict[str, torch.dtype]]]:
    """What convolutions give, and the parameters that distributions are made of in training."""
    convolved, parameters = [], []
    for module in trainer.network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            module.register_forward_hook(lambda _, __, output: convolved.append(output.dtype))
    distribution = getattr(trainer.network, "distribution", None)
    if distribution is not None:

        def recorded(values: dict[str, torch.Tensor]):
            if torch.is_grad_enabled():  # without gradients they are left in the precision of the network
                parameters.append({name: value.dtype for name, value in values.items()})
            return distribution(values)

        trainer.network.distribution = recorded
    return convolved, parameters


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_steps_stay_on_the_device_in_the_right_precision(
    make_dataset, tiny_generative_models, monkeypatch, name: str, dtype: torch.dtype
) -> None:
    trainer = make_dataset(2).trainer(name)
    # Of diffusion steps, of the attention U-Net levels: others cost the same again.
    monkeypatch.setattr(type(trainer), "num_steps", 2, raising=False)
    monkeypatch.setattr(type(trainer), "channel_multipliers", (1, 2), raising=False)
    trainer.on_train_start()
    convolved, parameters = record_precision(trainer)
    with on_fake_cuda(trainer, dtype) as (batches, watch):
        trainer.network.train()
        for trainer.current_epoch, batch in zip((0, 900), batches, strict=False):  # on the mean alone, then on samples
            trainer.train_step(batch)
        assert set(convolved) == {dtype}
        trainer.network.eval()
        with torch.no_grad():
            trainer.validation_step(batches[2])
        if getattr(trainer.network, "has_samples", False):
            trainer.check_samples(batches[3:])
        states = [value for state in trainer.optimizer.state.values() for value in state.values()]
        assert {value.device.type for value in states if value.ndim} == {"cuda"}
    assert [(loss.device.type, loss.dtype, loss.ndim) for loss in watch.losses] == [("cuda", torch.float32, 0)] * 2
    assert trainer.grad_scaler.calls == ["scale", "unscale_", "step", "update"] * 2
    for of_distribution in parameters:
        for parameter in ("mean_logits", "diag_var", "bases", "basis_log_weights"):
            assert of_distribution.get(parameter, torch.float32) == torch.float32, parameter
    if hasattr(trainer, "build_heads"):
        # Once for the noise of the voxels and once for what they share, in the step that samples; and what voxels share
        # once for all samples.
        shares = "cov_factor" in parameters[0] or getattr(trainer, "noise_scope", "voxel") == "volume"
        assert watch.generators == 2 * trainer.num_training_samples + shares


def test_the_watch_sees_a_generator_of_the_wrong_device(make_dataset) -> None:
    """And a tensor that comes down to the CPU: the test above would not pass on anything."""
    trainer = make_dataset(2).trainer("nnUNetTrainerDiagonal")
    trainer.on_train_start()
    with on_fake_cuda(trainer, torch.float16):
        with pytest.raises(AssertionError, match="randn"):
            torch.randn(4, generator=torch.Generator(), device="cuda")
        with pytest.raises(AssertionError, match="on the CPU"):
            torch.zeros(16, 16, device="cuda").cpu()
