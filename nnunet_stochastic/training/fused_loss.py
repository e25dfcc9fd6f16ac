"""nnU-Net's Dice and cross-entropy of exclusive classes, on CUDA by a kernel that reads the logits once.

    L = λ_CE CE - λ_dice mean_c (2 I_c + s) / (G_c + P_c + s)

with the sums of ``kernels.softmax_sums`` and the counts G_c of labels, over each image or, with batch_dice, over the
batch of all processes. nnU-Net's own forty operations for each sample are most of what training with samples costs;
here they are those of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.loss.robust_ce_loss import RobustCrossEntropyLoss
from nnunetv2.utilities.ddp_allgather import AllGatherGrad
from nnunetv2.utilities.helpers import softmax_helper_dim1
from torch import Tensor

from nnunet_stochastic.kernels import use_kernels

__all__ = ["FusedLoss", "fused_loss"]

_NOT_IGNORED = -1  # no label


class FusedLoss:
    """A loss of the same value as nnU-Net's own Dice and cross-entropy, by the kernel on CUDA.

    Parameters
    ----------
    loss
        nnU-Net's loss, as ``fused_loss`` finds it.
    """

    def __init__(self, loss: Any) -> None:
        self._loss = loss

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of logits (B, C, *S) and labels (B, 1, *S), scalar."""
        if not use_kernels(logits):
            return self._loss(logits, labels)
        return _by_kernel(self._loss, logits[None], labels)

    def of_samples(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Its mean over samples (K, B, C, *S) of logits, on CUDA alone."""
        return _by_kernel(self._loss, logits, labels)


def fused_loss(loss: Callable[[Tensor, Tensor], Tensor]) -> FusedLoss | None:
    """The loss by the kernel; ``None`` for any but nnU-Net's own Dice and cross-entropy."""
    return FusedLoss(loss) if _is_of_nnunet(loss) else None


def _is_of_nnunet(loss: Any) -> bool:
    """Whether a loss is nnU-Net's own with settings that the kernel knows: of another one the formula is not known."""
    if type(loss) is not DC_and_CE_loss or type(loss.ce) is not RobustCrossEntropyLoss:
        return False
    dice, cross_entropy = _dice_of(loss), loss.ce
    ignored = -100 if loss.ignore_label is None else loss.ignore_label
    return (
        type(dice) is MemoryEfficientSoftDiceLoss
        and dice.apply_nonlin is softmax_helper_dim1
        and cross_entropy.weight is None
        and cross_entropy.label_smoothing == 0
        and cross_entropy.reduction == "mean"
        and cross_entropy.ignore_index == ignored
    )


def _dice_of(loss: DC_and_CE_loss) -> Any:
    return getattr(loss.dc, "_orig_mod", loss.dc)  # under torch.compile


def _by_kernel(loss: DC_and_CE_loss, logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over samples (K, B, C, *S)."""
    from nnunet_stochastic.kernels.softmax_sums import softmax_sums

    dice = _dice_of(loss)
    ignored = _NOT_IGNORED if loss.ignore_label is None else loss.ignore_label
    intersection, probability, cross_entropy, count, counted = softmax_sums(
        logits.flatten(0, 1), labels, ignore_label=ignored
    )
    sums: tuple[Tensor, ...] = (intersection, probability, count)
    sums = tuple(each.unflatten(0, logits.shape[:2]) for each in sums)
    if not dice.do_bg:
        sums = tuple(each[..., 1:] for each in sums)
    if dice.batch_dice:
        if dice.ddp:
            sums = tuple(AllGatherGrad.apply(each).sum(0) for each in sums)
        sums = tuple(each.sum(1) for each in sums)
    intersection, probability, count = sums
    overlap = (2 * intersection + dice.smooth) / (count + probability + float(dice.smooth)).clamp_min(1e-8)
    mean = cross_entropy.sum() / counted.sum().clamp_min(1)
    return loss.weight_ce * mean - loss.weight_dice * torch.mean(overlap)
