"""Eq. 12: value and gradient of the mean over samples, with and without recomputation."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy

from nnunet_stochastic.distributions import BasisGaussian, DiagonalGaussian, LowRankGaussian, PointMass
from nnunet_stochastic.losses import k_sample_loss


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
    distribution = DiagonalGaussian(*tensors[:2])
    torch.manual_seed(0)
    loss = k_sample_loss(distribution, cross_entropy, target, 4)
    torch.manual_seed(0)
    expected = sum(cross_entropy(distribution.rsample(1)[0], target) for _ in range(4)) / 4
    torch.testing.assert_close(loss, expected)


def low_rank(mean: torch.Tensor, variance: torch.Tensor, factor: torch.Tensor) -> LowRankGaussian:
    return LowRankGaussian(mean, variance, factor)


def single_basis(mean: torch.Tensor, variance: torch.Tensor, factor: torch.Tensor) -> BasisGaussian:
    return BasisGaussian(mean, variance, factor[:, 0], factor[:, None, None, :, :, 0, 0])


@pytest.mark.parametrize("build", [low_rank, single_basis])
def test_recomputation_changes_neither_value_nor_gradient(tensors, target, build) -> None:
    results = []
    for recompute in (True, False):
        torch.manual_seed(0)
        loss = k_sample_loss(build(*tensors), cross_entropy, target, 3, recompute=recompute)
        results.append((loss, *torch.autograd.grad(loss, tensors)))
    for with_recomputation, without in zip(*results, strict=True):
        torch.testing.assert_close(with_recomputation, without)


def test_recomputation_keeps_no_graph_of_a_sample(tensors, target) -> None:
    """Bytes saved for the backward pass do not grow with K."""

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
    assert saved_elements(10, recompute=False) > 5 * saved_elements(1, recompute=False)


@pytest.mark.parametrize("recompute", [True, False])
def test_gradient(tensors, target, recompute: bool) -> None:
    def loss(*values: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return k_sample_loss(LowRankGaussian(*values), cross_entropy, target, 2, recompute=recompute)

    assert gradcheck(loss, tensors)


def test_needs_a_sample(tensors, target) -> None:
    with pytest.raises(ValueError, match="num_samples"):
        k_sample_loss(PointMass(tensors[0]), cross_entropy, target, 0)
