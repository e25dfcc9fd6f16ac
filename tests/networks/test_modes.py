"""Two masks that are equally likely for the same image: samples are one or the other, each about half of the time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nnunet_stochastic.losses import denoising_loss, prob_unet_loss
from nnunet_stochastic.networks import DiffusionNetwork, GenerativeNetwork, ProbabilisticUNet
from nnunet_stochastic.targets import encode_target

SIZE = 6
TINY = {"dimension": 2, "base_channels": 8, "channel_multipliers": (1,)}


def masks(left: Tensor) -> Tensor:
    """Foreground in the left half where ``left``, else in the right half: (B, SIZE, SIZE), 0 or 1."""
    in_left = torch.arange(SIZE) < SIZE // 2
    return (in_left == left[:, None]).long()[:, None].expand(-1, SIZE, -1)


def share_of_left(labels: Tensor) -> float:
    """Share of the samples (K, SIZE, SIZE) that are the left mask; fails unless at least 90 % are one of the two."""
    accuracy = (labels == masks(torch.ones(1, dtype=torch.bool))).float().flatten(1).mean(1)
    left, right = accuracy > 0.95, accuracy < 0.05
    assert (left | right).float().mean() >= 0.9, f"accuracies against the left mask: {accuracy.tolist()}"
    return left.float().mean().item()


def check_modes(network: GenerativeNetwork, num_samples: int = 64) -> None:
    with torch.no_grad():
        distribution = network.eval().logit_distribution(torch.ones(1, 1, SIZE, SIZE))
        logits = distribution.rsample(num_samples, generator=torch.Generator().manual_seed(3))
    share = share_of_left(logits[:, 0].argmax(1))
    # Four standard deviations of 64 fair coins.
    assert 0.25 <= share <= 0.75, f"{share:.0%} of the samples are the left mask"


def train(network: GenerativeNetwork, loss: Callable[..., Tensor], *, steps: int, rate: float, batch: int = 8) -> None:
    """``loss`` takes the network's outputs, the target, and the share of the steps that are done."""
    labels = masks(torch.arange(batch) % 2 == 0)
    images, target = torch.ones(batch, 1, SIZE, SIZE), encode_target(labels[:, None], 2)
    optimizer = torch.optim.Adam(network.parameters(), rate)
    for step in range(steps):
        optimizer.zero_grad()
        loss(network(images, target), target, step / steps).backward()
        optimizer.step()


def test_latent_decides_between_the_masks() -> None:
    torch.manual_seed(0)
    network = ProbabilisticUNet(1, 2, **TINY)
    train(
        network,
        # Warmed up, as in the paper: the latent must say something before it is told to say little.
        lambda outputs, target, done: prob_unet_loss(outputs, target, beta=0.05 * done),
        steps=100,
        rate=6e-3,
    )
    check_modes(network)
    # A network whose latent says nothing does not pass.
    torch.nn.init.zeros_(network.latent_decoder.of_latent.weight)
    with pytest.raises(AssertionError, match="left mask"):
        check_modes(network)


def test_noise_decides_between_the_masks() -> None:
    torch.manual_seed(0)
    # The fewer voxels an image has, the less noise hides its mask: 0.1 is for thousands of them.
    network = DiffusionNetwork(1, 2, input_scale=0.3, **TINY)
    train(
        network,
        lambda outputs, target, done: denoising_loss(outputs["logits"], target),
        steps=90,
        rate=5e-3,
        batch=32,
    )
    check_modes(network)
