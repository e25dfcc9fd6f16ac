"""One annotation of a batch as the losses and the generative networks take it.

    mask[b, c, v] = 1 where voxel v is of class (or region) c, else 0;   counted[b, 0, v] = 0 where v is to be ignored

nnU-Net hands labels to a trainer, or one channel per region and, where the dataset has an ignore label, a last channel
with the voxels to ignore.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Target", "encode_target"]


class Target(NamedTuple):
    """An annotation. A tuple, so that DistributedDataParallel takes it apart.

    Parameters
    ----------
    mask
        Shape (B, C, *S), float32, 0 or 1: one-hot classes, or regions. All 0 at a voxel that is ignored.
    counted
        Shape (B, 1, *S), float32, 0 or 1: whether the voxel is annotated.
    """

    mask: Tensor
    counted: Tensor


def encode_target(
    target: Tensor, num_channels: int, *, regions: bool = False, ignore_label: int | None = None
) -> Target:
    """An annotation from what nnU-Net's loaders return.

    Parameters
    ----------
    target
        Labels, shape (B, 1, *S), numbers 0 … C - 1 or ``ignore_label``; for regions (B, C, *S), with an ignore label
        (B, C + 1, *S).
    num_channels
        Number C of channels of the network's logits.
    regions
        Whether the logits are of regions.
    ignore_label
        Ignore label of the dataset, ``None`` where it has none. With regions only whether there is one counts.
    """
    expected = 1 if not regions else num_channels + (ignore_label is not None)
    if target.ndim < 3 or target.shape[1] != expected:
        raise ValueError(
            f"a target of {num_channels} {'regions' if regions else 'classes'} must have shape (B, {expected}, *S), "
            f"got {tuple(target.shape)}"
        )
    if regions:
        mask = target[:, :num_channels].float()
        ignored = (
            target[:, num_channels:].bool() if ignore_label is not None else torch.zeros_like(target[:, :1]).bool()
        )
        counted = (~ignored).float()
        return Target(mask * counted, counted)
    labels = torch.arange(num_channels, device=target.device).view(1, -1, *[1] * (target.ndim - 2))
    counted = torch.ones_like(target) if ignore_label is None else target != ignore_label
    return Target(((target == labels) & counted.bool()).float(), counted.float())
