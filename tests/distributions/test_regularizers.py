"""The regularizers against numbers worked out by hand and against torch.distributions.

Eq. 8-10 of *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation* (MoB).
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.distributions import Normal, kl_divergence

from nnunet_stochastic.distributions import basis_entropy_loss, kl_to_unit_variance, orthogonality_loss


def test_kl_by_hand() -> None:
    # d = 1: 0; d = 4: (1/4 - 1 + ln 4)/2; d = 1/2: (2 - 1 - ln 2)/2.
    expected = (0 + (0.25 - 1 + math.log(4)) / 2 + (2 - 1 - math.log(2)) / 2) / 3
    assert kl_to_unit_variance(torch.tensor([1.0, 4.0, 0.5])).item() == pytest.approx(expected, rel=1e-6)


def test_kl_is_from_the_unit_gaussian_to_the_model() -> None:
    variance = torch.rand(2, 3, 4, dtype=torch.float64) + 0.1
    expected = kl_divergence(Normal(0.0, 1.0), Normal(torch.zeros_like(variance), variance.sqrt())).mean()
    torch.testing.assert_close(kl_to_unit_variance(variance), expected)


def test_orthogonality_by_hand() -> None:
    # Flattened: (1, 0, 0, 0), (3, 4, 0, 0), (0, 0, 2, 0): cosines 0.6, 0, 0, each counted twice; 2 · 0.36 / 6 = 0.12.
    bases = torch.tensor([[[1.0, 0], [0, 0]], [[3, 4], [0, 0]], [[0, 0], [2, 0]]])
    assert orthogonality_loss(bases).item() == pytest.approx(0.12, rel=1e-6)
    assert orthogonality_loss(-5 * bases).item() == pytest.approx(0.12, rel=1e-6)
    assert orthogonality_loss(bases[:1]).item() == 0
    assert orthogonality_loss(bases[[0, 0]]).item() == pytest.approx(1, rel=1e-6)


def test_basis_entropy_by_hand() -> None:
    # Partition 1: uniform over two, -ln 2; partition 2: certain, 0; partition 3: (1/4, 3/4).
    weights = torch.tensor([[[0.5, 1.0, 0.25], [0.5, 0.0, 0.75]]])
    expected = (-math.log(2) + 0 + 0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / 3
    log_weights = weights.clamp_min(1e-40).log()
    assert basis_entropy_loss(log_weights).item() == pytest.approx(expected, rel=1e-6)
    assert basis_entropy_loss(torch.full((2, 4, 3, 3), 0.25).log()).item() == pytest.approx(-math.log(4), rel=1e-6)


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    variance = (torch.rand(3, 4, generator=generator, dtype=torch.float64) + 0.2).requires_grad_()
    bases = torch.randn(3, 2, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(2, 3, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert gradcheck(kl_to_unit_variance, variance)
    assert gradcheck(orthogonality_loss, bases)
    assert gradcheck(lambda x: basis_entropy_loss(x.log_softmax(1)), logits)


@pytest.mark.parametrize("gap", [1.0, 50.0, 110.0, 1e4])
def test_gradient_of_basis_entropy_where_a_weight_vanishes(gap: float) -> None:
    """For two weights p and 1 - p, dL/dx = p (1 - p) ln(p / (1 - p)) = p (1 - p) gap."""
    logits = torch.tensor([[[gap], [0.0]]], requires_grad=True)
    basis_entropy_loss(logits.log_softmax(1)).backward()
    expected = gap * math.exp(-gap) / (1 + math.exp(-gap)) ** 2
    torch.testing.assert_close(logits.grad, torch.tensor([[[expected], [-expected]]]), rtol=1e-5, atol=1e-20)


def test_orthogonality_is_in_full_precision_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    bases = torch.randn(3, 4, 16, generator=generator)
    expected = orthogonality_loss(bases.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = orthogonality_loss(bases)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert orthogonality_loss(bases[:1].bfloat16()).dtype == torch.float32


def test_gradient_of_orthogonality_is_finite_where_a_basis_is_zero() -> None:
    bases = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]], [[2.0, 1.0]]], requires_grad=True)
    loss = orthogonality_loss(bases)
    loss.backward()
    assert loss.item() == pytest.approx(2 * 0.64 / 6, rel=1e-6)
    assert bases.grad.isfinite().all()
