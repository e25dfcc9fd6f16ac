"""What Dice and cross-entropy are made of, in one pass over the logits, and its gradient in another.

    p = softmax(η)      I_c = Σ_n 1[t_n = c] p_nc      P_c = Σ_n p_nc      E = -Σ_n ln p_n,t_n

Sums are over the voxels n of an image whose label t_n is not ignored. With the gradients of a loss in I, P and E,

    ∂L/∂η_c = p_c (h_c - Σ_j p_j h_j) + (p_c - 1[t = c]) ∂L/∂E      h_c = 1[t = c] ∂L/∂I_c + ∂L/∂P_c

so nothing but the logits is kept for it. Each block of voxels writes sums of its own, which are added in one order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["softmax_sums"]

_ELEMENTS = 2048  # classes x voxels of a block
_MOST_BLOCKS = 1024  # of an image, each with many pieces


def softmax_sums(logits: Tensor, labels: Tensor, *, ignore_label: int = -1) -> tuple[Tensor, ...]:
    """Sums over the voxels of each image.

    Parameters
    ----------
    logits
        η, (B, C, *S), of any floating type.
    labels
        t, (B, 1, *S), of any type, in [0, C) or ``ignore_label``; of fewer images, L, b mod L has those of image b.

    Returns
    -------
    tuple of Tensor
        I, (B, C), P, (B, C), and E, (B), float32, with gradients in η; the number of voxels of each label, (B, C), and
        of all labels but the ignored one, (B).
    """
    return _SoftmaxSums.apply(logits, labels, ignore_label)


class _SoftmaxSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor, ignore_label: int) -> tuple[Tensor, ...]:
        logits, labels = logits.contiguous(), labels.contiguous()
        batch, classes = logits.shape[:2]
        voxels = labels[0].numel()
        channels, block = _sizes(classes)
        blocks = min(triton.cdiv(voxels, block), _MOST_BLOCKS)
        per_class = logits.new_empty((blocks, batch, 3, channels), dtype=torch.float32)
        per_image = logits.new_empty((blocks, batch, 2), dtype=torch.float32)
        _sums[(blocks, batch)](
            per_class,
            per_image,
            logits,
            labels,
            len(labels),
            voxels,
            classes,
            ignore_label,
            blocks,
            CHANNELS=channels,
            BLOCK=block,
        )
        intersection, probability, count = per_class.sum(0)[..., :classes].unbind(1)
        cross_entropy, counted = per_image.sum(0).unbind(1)
        ctx.save_for_backward(logits, labels)
        ctx.ignore_label = ignore_label
        ctx.mark_non_differentiable(count, counted)
        return intersection, probability, cross_entropy, count, counted

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        logits, labels = ctx.saved_tensors
        batch, classes = logits.shape[:2]
        voxels = labels[0].numel()
        channels, block = _sizes(classes)
        result = torch.empty_like(logits)
        _gradient[(triton.cdiv(voxels, block), batch)](
            result,
            logits,
            labels,
            *(gradient.float().contiguous() for gradient in gradients[:3]),
            len(labels),
            voxels,
            classes,
            ctx.ignore_label,
            CHANNELS=channels,
            BLOCK=block,
        )
        return result, None, None


def _sizes(classes: int) -> tuple[int, int]:
    channels = triton.next_power_of_2(classes)
    return channels, max(16, _ELEMENTS // channels)


@triton.jit
def _sums(
    per_class,
    per_image,
    logits,
    labels,
    labelled,
    voxels,
    classes,
    ignore_label,
    blocks,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    c = tl.arange(0, CHANNELS)[:, None]
    logits += image * classes * voxels
    labels += image % labelled * voxels
    intersection = tl.zeros([CHANNELS, BLOCK], tl.float32)
    probability = tl.zeros([CHANNELS, BLOCK], tl.float32)
    count = tl.zeros([CHANNELS, BLOCK], tl.float32)
    cross_entropy = tl.zeros([BLOCK], tl.float32)
    counted = tl.zeros([BLOCK], tl.float32)
    for start in range(tl.program_id(0) * BLOCK, voxels, blocks * BLOCK):
        voxel = start + tl.arange(0, BLOCK)
        inside = voxel < voxels
        label = tl.load(labels + voxel, mask=inside, other=0).to(tl.int32)
        counts = inside & (label != ignore_label)
        place = c.to(tl.int64) * voxels + voxel[None, :]
        x = tl.load(logits + place, mask=(c < classes) & inside[None, :], other=0.0).to(tl.float32)
        x = tl.where(c < classes, x, -1e30)
        x -= tl.max(x, axis=0)[None, :]
        e = tl.exp(x)
        norm = tl.sum(e, axis=0)
        p = tl.where(counts[None, :], e / norm[None, :], 0.0)
        own = (c == label[None, :]) & counts[None, :]
        intersection += tl.where(own, p, 0.0)
        probability += p
        count += own.to(tl.float32)
        cross_entropy += tl.where(counts, tl.log(norm) - tl.sum(tl.where(own, x, 0.0), axis=0), 0.0)
        counted += counts.to(tl.float32)
    row = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    target = per_class + row * 3 * CHANNELS + tl.arange(0, CHANNELS)
    tl.store(target, tl.sum(intersection, axis=1))
    tl.store(target + CHANNELS, tl.sum(probability, axis=1))
    tl.store(target + 2 * CHANNELS, tl.sum(count, axis=1))
    tl.store(per_image + 2 * row, tl.sum(cross_entropy, axis=0))
    tl.store(per_image + 2 * row + 1, tl.sum(counted, axis=0))


@triton.jit
def _gradient(
    result,
    logits,
    labels,
    of_intersection,
    of_probability,
    of_cross_entropy,
    labelled,
    voxels,
    classes,
    ignore_label,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    c = tl.arange(0, CHANNELS)[:, None]
    voxel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = voxel < voxels
    label = tl.load(labels + image % labelled * voxels + voxel, mask=inside, other=0).to(tl.int32)
    counts = inside & (label != ignore_label)
    present = (c < classes) & inside[None, :]
    place = image * classes * voxels + c.to(tl.int64) * voxels + voxel[None, :]
    x = tl.load(logits + place, mask=present, other=0.0).to(tl.float32)
    x = tl.where(c < classes, x, -1e30)
    e = tl.exp(x - tl.max(x, axis=0)[None, :])
    p = e / tl.sum(e, axis=0)[None, :]
    own = c == label[None, :]
    h = tl.load(of_probability + image * classes + c, mask=c < classes, other=0.0)
    h = h + tl.where(own, tl.load(of_intersection + image * classes + c, mask=c < classes, other=0.0), 0.0)
    gradient = p * (h - tl.sum(p * h, axis=0)[None, :])
    gradient += (p - own.to(tl.float32)) * tl.load(of_cross_entropy + image)
    gradient = tl.where(counts[None, :], gradient, 0.0)
    tl.store(result + place, gradient, mask=present)
