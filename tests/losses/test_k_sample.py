"""Eq. 12: value and gradient of the mean over samples, with and without recomputation."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy

from nnunet_stochastic.distributions import (
    BasisGaussian,
    DiagonalGaussian,
    LogitDistribution,
    LowRankGaussian,
    PointMass,
)
from nnunet_stochastic.losses import k_sample_loss

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture
def tensors() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(2, 3, 4, 2, generator=generator, dtype=torch.float64)
    variance = torch.rand(2, 3, 4, 2, generator=generator, dtype=torch.float64) + 0.1
    factor = torch.randn(2, 3, 5, 4, 2, generator=generator, dtype=torch.float64)
    return [tensor.requires_grad_() for tensor in (mean, variance, factor)]


@pytest.fixture
def target() -> torch.Tensor:
    return torch.randint(3, (2, 4, 2), generator=torch.Generator().manual_seed(2))


def test_of_a_point_mass_is_the_loss_itself(tensors, target) -> None:
    torch.testing.assert_close(
        k_sample_loss(PointMass(tensors[0]), cross_entropy, target, 3), cross_entropy(tensors[0], target)
    )


def test_is_the_mean_over_the_samples_drawn(tensors, target) -> None:
    """Each seen by the segmentation loss, and drawn apart from the others."""
    samples = []

    def recorded(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        samples.append(logits)
        return cross_entropy(logits, labels)

    loss = k_sample_loss(DiagonalGaussian(*tensors[:2]), recorded, target, 4)
    assert len(samples) == 4
    torch.testing.assert_close(loss, sum(cross_entropy(sample, target) for sample in samples) / 4)
    noise = torch.stack([(sample - tensors[0]) / tensors[1].sqrt() for sample in samples]).flatten(1)
    assert torch.corrcoef(noise).fill_diagonal_(0).abs().max() < 0.5
    assert abs(float(noise.detach().std()) - 1) < 0.2


def test_a_seed_of_torch_repeats_the_samples(tensors, target) -> None:
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(k_sample_loss(DiagonalGaussian(*tensors[:2]), cross_entropy, target, 4).item())
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("num_samples", [3, 7])
def test_the_backward_pass_sees_the_noise_of_the_forward_pass_on_any_device(
    tensors, target, num_samples, monkeypatch
) -> None:
    """Numbers without a generator are drawn as on a GPU, from one that checkpointing does not restore."""
    samples, normal, of_device = [], LogitDistribution._normal, torch.Generator().manual_seed(0)
    monkeypatch.setattr(
        LogitDistribution,
        "_normal",
        lambda self, *shape, generator: normal(self, *shape, generator=generator or of_device),
    )

    def recorded(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        samples.append(logits.detach())
        return cross_entropy(logits, labels)

    k_sample_loss(LowRankGaussian(*tensors), recorded, target, num_samples).backward()
    assert len(samples) == 2 * num_samples
    forward, backward = samples[:num_samples], samples[num_samples:]
    assert all(any(torch.equal(again, sample) for sample in forward) for again in backward)


def gradients(device: str, *, recompute: bool) -> list[torch.Tensor]:
    """Of the loss in each parameter, from the same parameters and seed on every device."""
    generator = torch.Generator().manual_seed(1)
    shapes = {"mean": (1, 2, 8, 8, 8), "variance": (1, 2, 8, 8, 8), "factor": (1, 2, 4, 8, 8, 8)}
    values = [torch.rand(shape, generator=generator).to(device).requires_grad_() for shape in shapes.values()]
    labels = torch.randint(2, (1, 8, 8, 8), generator=generator).to(device)
    torch.manual_seed(0)
    loss = k_sample_loss(LowRankGaussian(*values), cross_entropy, labels, 3, recompute=recompute)
    return list(torch.autograd.grad(loss, values))


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_with_and_without_recomputation_are_the_same(device: str) -> None:
    for with_recomputation, without in zip(
        gradients(device, recompute=True), gradients(device, recompute=False), strict=True
    ):
        assert with_recomputation.device.type == device
        torch.testing.assert_close(with_recomputation, without)


def low_rank(mean: torch.Tensor, variance: torch.Tensor, factor: torch.Tensor) -> LowRankGaussian:
    return LowRankGaussian(mean, variance, factor)


def single_basis(mean: torch.Tensor, variance: torch.Tensor, factor: torch.Tensor) -> BasisGaussian:
    return BasisGaussian(mean, variance, factor[:, 0], factor[:, None, None, :, :, 0, 0])


def volume_bases(mean: torch.Tensor, variance: torch.Tensor, factor: torch.Tensor) -> BasisGaussian:
    bases = factor.permute(0, 3, 4, 1, 2)[:, :2, :1]
    return BasisGaussian(mean, variance, factor[:, 0], bases, noise_scope="volume")


@pytest.mark.parametrize("build", [low_rank, single_basis, volume_bases])
def test_recomputation_changes_neither_value_nor_gradient(tensors, target, build) -> None:
    results = []
    for recompute in (True, False):
        torch.manual_seed(0)
        loss = k_sample_loss(build(*tensors), cross_entropy, target, 3, recompute=recompute)
        results.append((loss, *torch.autograd.grad(loss, tensors)))
    for with_recomputation, without in zip(*results, strict=True):
        torch.testing.assert_close(with_recomputation, without)


def test_recomputation_keeps_no_graph_of_a_sample(tensors, target) -> None:
    """What is saved for the backward pass does not grow with K, but for a mean (B, C, *S) of each of few samples."""

    def saved_elements(num_samples: int, recompute: bool) -> int:
        count = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        distribution = LowRankGaussian(*tensors)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            k_sample_loss(distribution, cross_entropy, target, num_samples, recompute=recompute)
        return count

    assert saved_elements(10, recompute=True) - saved_elements(1, recompute=True) <= 20
    assert saved_elements(40, recompute=True) - saved_elements(20, recompute=True) <= 40
    assert saved_elements(5, recompute=True) - saved_elements(1, recompute=True) <= 4 * tensors[0].numel()
    assert saved_elements(10, recompute=False) > 5 * saved_elements(1, recompute=False)


class WithoutLawsGivenNoise(LowRankGaussian):
    def given_shared_noise(self, shared_noise: torch.Tensor) -> None:
        return None


@pytest.mark.parametrize("build", [low_rank, volume_bases, WithoutLawsGivenNoise])
@pytest.mark.parametrize("num_samples", [5, 10])  # 15 channels of means, and 30
def test_samples_with_shared_noise_have_the_covariance_of_their_law(tensors, target, build, num_samples) -> None:
    """Of logits of all voxels of a batch, whose images are independent."""
    law, samples = build(*(tensor.detach() for tensor in tensors)), []

    def recorded(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        samples.append((logits - tensors[0].detach()).flatten())
        return logits.sum()

    torch.manual_seed(0)
    while len(samples) < 2000:
        k_sample_loss(law, recorded, target, num_samples)
    columns = law.noise_factors()[1].movedim(2, -1).flatten(1, -2)
    expected = torch.block_diag(*columns @ columns.mT) + tensors[1].detach().flatten().diag()
    own = expected.diagonal()
    error = ((own[:, None] * own + expected.square()) / len(samples)).sqrt()
    assert ((torch.stack(samples).T.cov() - expected).abs() < 5.5 * error).all()


@pytest.mark.parametrize("recompute", [True, False])
def test_gradient(tensors, target, recompute: bool) -> None:
    def loss(*values: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return k_sample_loss(LowRankGaussian(*values), cross_entropy, target, 2, recompute=recompute)

    assert gradcheck(loss, tensors)


def test_needs_a_sample(tensors, target) -> None:
    with pytest.raises(ValueError, match="num_samples"):
        k_sample_loss(PointMass(tensors[0]), cross_entropy, target, 0)
