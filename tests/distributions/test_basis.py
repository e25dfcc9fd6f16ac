"""Selection of bases, the special case of one basis, and the two ways of drawing."""

from __future__ import annotations

import pytest
import torch

from nnunet_stochastic.distributions import BasisGaussian, select_bases


@pytest.fixture
def bases() -> torch.Tensor:
    return torch.arange(12.0).reshape(3, 2, 2)


@pytest.fixture
def weights() -> torch.Tensor:
    """W of two partitions along one axis: basis 2 wins in the first, basis 0 in the second."""
    return torch.tensor([[[0.1, 0.5], [0.3, 0.3], [0.6, 0.2]]])


def test_argmax_takes_the_most_probable_basis(bases, weights) -> None:
    selected = select_bases(bases, weights, "argmax")
    torch.testing.assert_close(selected, torch.stack([bases[2], bases[0]])[None])


def test_soft_is_the_mixture(bases, weights) -> None:
    expected = torch.stack(
        [0.1 * bases[0] + 0.3 * bases[1] + 0.6 * bases[2], 0.5 * bases[0] + 0.3 * bases[1] + 0.2 * bases[2]]
    )
    torch.testing.assert_close(select_bases(bases, weights, "soft"), expected[None])


def test_straight_through_has_the_value_of_argmax_and_the_gradient_of_soft(bases, weights) -> None:
    gradients = {}
    for selection in ("straight_through", "soft"):
        leaf = weights.clone().requires_grad_()
        selected = select_bases(bases, leaf, selection)
        (selected * torch.arange(8.0).reshape(selected.shape)).sum().backward()
        gradients[selection] = leaf.grad
    torch.testing.assert_close(select_bases(bases, weights, "straight_through"), select_bases(bases, weights, "argmax"))
    torch.testing.assert_close(gradients["straight_through"], gradients["soft"])
    leaf = weights.clone().requires_grad_()
    assert not select_bases(bases, leaf, "argmax").requires_grad


def test_errors(bases, weights) -> None:
    with pytest.raises(ValueError, match="selection must be one of"):
        select_bases(bases, weights, "hard")
    with pytest.raises(ValueError, match="basis_weights has 3 bases"):
        select_bases(bases[:2], weights, "soft")
    field = torch.ones(1, 2, 4)
    with pytest.raises(ValueError, match="noise_scope"):
        BasisGaussian(field, field, torch.ones(1, 3, 4), torch.ones(1, 1, 2, 3), noise_scope="patch")
    with pytest.raises(ValueError, match="partition_bases"):
        BasisGaussian(field, field, torch.ones(1, 3, 4), torch.ones(1, 1, 1, 2, 3))


def test_equal_bases_in_all_partitions_are_a_single_basis() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, scale = torch.randn(2, 2, 6, 5, 4, generator=generator), torch.rand(2, 16, 6, 5, 4, generator=generator)
    variance = torch.rand(2, 2, 6, 5, 4, generator=generator)
    basis = torch.randn(2, 16, generator=generator)
    single = BasisGaussian(mean, variance, scale, basis.expand(2, 1, 1, 1, 2, 16))
    mixture = BasisGaussian(mean, variance, scale, basis.expand(2, 4, 4, 4, 2, 16))
    torch.testing.assert_close(mixture.voxel_covariance(), single.voxel_covariance())
    samples = [d.rsample(3, generator=torch.Generator().manual_seed(1)) for d in (single, mixture)]
    torch.testing.assert_close(*samples)


class DrawnByBasis(BasisGaussian):
    _is_cheaper_by_factor = False


def test_drawing_by_factor_and_by_basis_is_the_same_law() -> None:
    """The same voxels by both, of which the rule of cost takes one."""
    generator = torch.Generator().manual_seed(4)
    copies = 5_000
    scale, basis = torch.randn(1, 5, 1, generator=generator), torch.randn(1, 1, 3, 5, generator=generator)
    mean, variance = torch.zeros(copies, 3, 1), torch.full((copies, 3, 1), 0.3)
    by_factor = BasisGaussian(mean, variance, scale.expand(copies, 5, 1), basis.expand(copies, 1, 3, 5))
    by_basis = DrawnByBasis(mean, variance, scale.expand(copies, 5, 1), basis.expand(copies, 1, 3, 5))
    assert (by_factor.noise_channels, by_basis.noise_channels) == (3, 8)
    covariances = [
        distribution.rsample(10, generator=generator).reshape(-1, 3).T.cov() for distribution in (by_factor, by_basis)
    ]
    scale_of_error = by_factor.voxel_covariance()[0, ..., 0].diagonal().max() * (2 / 50_000) ** 0.5
    assert (covariances[0] - covariances[1]).abs().max() < 6 * scale_of_error
