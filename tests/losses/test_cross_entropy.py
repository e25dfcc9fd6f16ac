"""Cross-entropy against torch's own, with ignored voxels and with regions."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from nnunet_stochastic.losses import cross_entropy_loss, voxel_log_likelihood
from nnunet_stochastic.targets import encode_target


def test_of_classes() -> None:
    logits, labels = 3 * torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    labels[0, :2] = 3
    target = encode_target(labels[:, None], 3, ignore_label=3)
    torch.testing.assert_close(cross_entropy_loss(logits, target), cross_entropy(logits, labels, ignore_index=3))


def test_of_regions() -> None:
    logits, masks = 3 * torch.randn(2, 3, 4, 5), torch.randint(2, (2, 3, 4, 5)).float()
    ignored = torch.zeros(2, 1, 4, 5)
    ignored[1, :, 3] = 1
    target = encode_target(torch.cat([masks, ignored], 1), 3, regions=True, ignore_label=4)
    weight = (1 - ignored).expand_as(masks)
    expected = binary_cross_entropy_with_logits(logits, masks, weight, reduction="sum") / weight.sum()
    torch.testing.assert_close(cross_entropy_loss(logits, target, regions=True), expected)


def test_of_samples_voxel_by_voxel() -> None:
    logits, labels = torch.randn(4, 2, 3, 5, dtype=torch.float64), torch.randint(3, (2, 5))
    likelihood = voxel_log_likelihood(logits, encode_target(labels[:, None], 3))
    for k in range(4):
        torch.testing.assert_close(likelihood[k], -cross_entropy(logits[k], labels, reduction="none"))


def test_half_precision_is_computed_in_full() -> None:
    logits = torch.tensor([[[30.0], [0.0]]], dtype=torch.bfloat16)
    loss = cross_entropy_loss(logits, encode_target(torch.ones(1, 1, 1), 2))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(30)


def test_nothing_to_count_is_no_loss() -> None:
    target = encode_target(torch.full((1, 1, 4), 2), 2, ignore_label=2)
    assert cross_entropy_loss(torch.randn(1, 2, 4), target).item() == 0


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="do not match a target"):
        cross_entropy_loss(torch.zeros(1, 2, 4), encode_target(torch.zeros(1, 1, 5), 2))
