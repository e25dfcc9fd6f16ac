"""The squared error of a predicted mask, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from nnunet_stochastic.losses import denoising_loss
from nnunet_stochastic.targets import encode_target


def test_squared_error_of_the_softmax_over_the_voxels_that_count() -> None:
    # Foreground with probability 3/4, 1/2 and, ignored, 1.
    logits = torch.tensor([[[0.0, 0.0, 0.0], [math.log(3), 0.0, 99.0]]])
    target = encode_target(torch.tensor([[[1, 0, 2]]]), 2, ignore_label=2)
    assert denoising_loss(logits, target).item() == pytest.approx((1 / 16 + 1 / 4) / 2)


def test_limits() -> None:
    target = encode_target(torch.tensor([[[1, 0]]]), 2)
    right = 99.0 * (2 * target.mask - 1)
    assert denoising_loss(right, target).item() == pytest.approx(0)
    assert denoising_loss(-right, target).item() == pytest.approx(1)
    with pytest.raises(ValueError, match="do not match a target"):
        denoising_loss(right[..., :1], target)
