"""What the generative models cost: a training step and the samples of one image, against the deterministic Softmax.

Networks of the paper's size on one 128 x 128 image with one channel, two classes. A training step is the model's loss,
its gradients and AdamW. Prediction draws K samples of an image, Softmax predicts once. On the CPU a batch has 2 images
and K is 5, on CUDA 32 and 30, as the trainers and the predict command have them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from measuring import Row, peak_tensor_bytes, time_ratios
from torch import Tensor

from nnunet_stochastic.losses import cross_entropy_loss, denoising_loss, log_mean_exp_loss, prob_unet_loss
from nnunet_stochastic.networks import (
    DiffusionNetwork,
    ProbabilisticUNet,
    SoftmaxNetwork,
    StochasticSegmentationNetwork,
)
from nnunet_stochastic.targets import Target, encode_target

__all__ = ["measure"]

SIZE = 128
SAMPLES_IN_SSN_LOSS = 20


@dataclass(frozen=True)
class Model:
    """A network of the paper's size and the loss of its outputs."""

    name: str
    network: torch.nn.Module
    loss: Callable[[dict[str, Tensor], Target], Tensor]


def measure(device: torch.device, repeats: int) -> list[Row]:
    batch, num_samples = (32, 30) if device.type == "cuda" else (2, 5)
    options = {"dimension": 2}
    ssn = StochasticSegmentationNetwork(1, 2, **options)
    softmax, *others = [
        Model("Softmax", SoftmaxNetwork(1, 2, **options), lambda outputs, t: cross_entropy_loss(outputs["logits"], t)),
        Model("SSN", ssn, lambda outputs, t: log_mean_exp_loss(ssn.distribution(outputs), t, SAMPLES_IN_SSN_LOSS)),
        Model("Prob. U-Net", ProbabilisticUNet(1, 2, **options), lambda outputs, t: prob_unet_loss(outputs, t, beta=1)),
        Model("Diffusion", DiffusionNetwork(1, 2, **options), lambda outputs, t: denoising_loss(outputs["logits"], t)),
    ]
    images = torch.randn(batch, 1, SIZE, SIZE, device=device)
    target = encode_target((images > 0).float(), 2)

    def training_step(model: Model) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(model.network.to(device).parameters(), 1e-4)

        def step() -> None:
            optimizer.zero_grad()
            model.loss(model.network(images, target), target).backward()
            optimizer.step()

        step()  # makes the optimizer's state, which would count as memory of the first step
        return step

    @torch.inference_mode()
    def predict(model: Model) -> None:
        distribution = model.network.logit_distribution(images[:1])
        for _ in range(num_samples if model.network.has_samples else 1):
            distribution.rsample(1).softmax(2)

    rows = []
    for work, sides in (
        ("training step", {model.name: training_step(model) for model in (softmax, *others)}),
        ("an image", {model.name: lambda model=model: predict(model) for model in (softmax, *others)}),
    ):
        memory = {name: peak_tensor_bytes(side, device) for name, side in sides.items()}
        for model in others:
            ratios = time_ratios(sides[model.name], sides[softmax.name], repeats=repeats, device=device)
            rows.append(Row(f"{model.name}, {work}", softmax.name, "time", ratios))
            rows.append(
                Row(f"{model.name}, {work}", softmax.name, "memory", (memory[model.name] / memory[softmax.name],))
            )
    return rows
