"""The loss of nnU-Net by the kernel: its value and its gradient."""

from __future__ import annotations

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss, SoftDiceLoss

from nnunet_stochastic.training import fused_loss as module
from nnunet_stochastic.training.fused_loss import fused_loss

pytest.importorskip("triton", reason="Triton is not installed")


def loss_of_nnunet(*, batch_dice=False, do_bg=False, ignore_label=None, dice_class=MemoryEfficientSoftDiceLoss):
    settings = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": do_bg, "ddp": False}
    return DC_and_CE_loss(
        settings, {}, weight_ce=0.7, weight_dice=1.3, ignore_label=ignore_label, dice_class=dice_class
    )


@pytest.fixture
def with_kernel(monkeypatch):
    monkeypatch.setattr(module, "use_kernels", lambda tensor: True)


@pytest.mark.parametrize(
    ("classes", "shape", "settings"),
    [
        (2, (2, 37, 45), {}),
        (3, (5, 6, 7), {"batch_dice": True}),
        (3, (5, 6, 7), {"ignore_label": 3}),
        (5, (5, 6, 7), {"do_bg": True, "ignore_label": 5, "batch_dice": True}),
        (25, (4, 30), {}),
    ],
)
def test_value_and_gradient(device, with_kernel, classes, shape, settings):
    """To 1e-5 of themselves, of sums that have a gradient each."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, classes, *shape, generator=generator)
    num_labels = classes + ("ignore_label" in settings)
    labels = torch.randint(num_labels, (2, 1, *shape), generator=generator).float()
    loss = loss_of_nnunet(**settings)
    expected = logits.clone().requires_grad_()
    found = logits.to(device).requires_grad_()
    value = loss(expected, labels)
    (2 * value).backward()
    by_kernel = fused_loss(loss)(found, labels.to(device))
    (2 * by_kernel).backward()
    torch.testing.assert_close(by_kernel.cpu(), value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.grad.cpu(), expected.grad, rtol=1e-4, atol=1e-8)
    assert expected.grad.abs().max() > 1e-4


def test_nothing_but_ignored_voxels_and_half_precision(device, with_kernel):
    logits = torch.randn(1, 3, 4, 5).half().to(device).requires_grad_()
    labels = torch.full((1, 1, 4, 5), 3, device=device)
    loss = fused_loss(loss_of_nnunet(ignore_label=3))(logits, labels)
    loss.backward()
    assert loss.item() == pytest.approx(-1.3)  # an overlap of nothing with nothing
    assert logits.grad.dtype == torch.half
    assert not logits.grad.any()


def test_other_losses_are_left_as_they_are(device, with_kernel):
    smoothed = loss_of_nnunet()
    smoothed.ce.label_smoothing = 0.1
    for loss in (torch.nn.functional.mse_loss, loss_of_nnunet(dice_class=SoftDiceLoss), smoothed):
        assert fused_loss(loss) is None


@pytest.mark.parametrize("settings", [{}, {"batch_dice": True, "ignore_label": 3}])
def test_of_samples_is_the_mean(device, with_kernel, settings):
    generator = torch.Generator().manual_seed(0)
    samples = 3 * torch.randn(4, 2, 3, 5, 6, generator=generator)
    labels = torch.randint(3 + ("ignore_label" in settings), (2, 1, 5, 6), generator=generator).float()
    loss = loss_of_nnunet(**settings)
    expected, found = samples.clone().requires_grad_(), samples.to(device).requires_grad_()
    value = torch.stack([loss(sample, labels) for sample in expected]).mean()
    value.backward()
    by_kernel = fused_loss(loss).of_samples(found, labels.to(device))
    by_kernel.backward()
    torch.testing.assert_close(by_kernel.cpu(), value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.grad.cpu(), expected.grad, rtol=1e-4, atol=1e-8)


def test_on_the_cpu_the_loss_is_that_of_nnunet():
    logits, labels = torch.randn(1, 2, 4, 5), torch.zeros(1, 1, 4, 5)
    loss = loss_of_nnunet()
    assert torch.equal(fused_loss(loss)(logits, labels), loss(logits, labels))
