"""Channel-wise Monte-Carlo dropout: one set of masks is one member.

    y[b, c] = x[b, c] m[c] / (1 - p),    m[c] ~ Bernoulli(1 - p)

in front of the convolutions of a network's blocks, p = 0.2 (Christensen et al., Rethinking Uncertainty Quantification
and Entanglement in Image Segmentation, section 3.2, after Gal and Ghahramani 2016, https://arxiv.org/abs/1506.02142).
In training m is drawn anew for every image of a batch. At inference the masks of a member are drawn once and kept, so
that every tile and every mirrored view of an image is seen by the same network.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_stochastic.epistemic import EpistemicMethod
from nnunet_stochastic.posteriors.base import Missing, WeightPosterior, example_trainer

__all__ = [
    "ChannelDropout",
    "DropoutMasks",
    "clear_dropout_masks",
    "fix_dropout_masks",
    "has_channel_dropout",
    "insert_channel_dropout",
]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class ChannelDropout(nn.Module):
    """Drops whole channels. It has no parameters and leaves no entry in a state dict.

    In training mode a mask is drawn for each image. In evaluation mode the module hands its input through, unless
    ``fix_dropout_masks`` has given it a mask, which then applies to everything until ``clear_dropout_masks``.

    Parameters
    ----------
    channels
        Number of channels of the input.
    rate
        Probability p of a channel to be dropped, 0 < p < 1.
    """

    #: m / (1 - p) of the member that is evaluated, shape (channels,).
    mask: Tensor | None

    def __init__(self, channels: int, rate: float) -> None:
        super().__init__()
        if not 0 < rate < 1:
            raise ValueError(f"the dropout rate must lie between 0 and 1, got {rate}")
        self.channels = channels
        self.rate = rate
        self.register_buffer("mask", None, persistent=False)

    def extra_repr(self) -> str:
        return f"{self.channels}, rate={self.rate}"

    def forward(self, x: Tensor) -> Tensor:
        """From and to shape (B, channels, *S)."""
        if self.training:
            kept = torch.empty(x.shape[:2] + (1,) * (x.ndim - 2), dtype=x.dtype, device=x.device)
            return x * (kept.bernoulli_(1 - self.rate) / (1 - self.rate))
        if self.mask is None:
            return x
        return x * self.mask.to(x.dtype).view(1, -1, *(1,) * (x.ndim - 2))


def insert_channel_dropout(network: nn.Module, rate: float) -> None:
    """Put a ``ChannelDropout`` in front of the convolution of every block, in place.

    A block with a place for it, ``channel_dropout`` beside its ``conv``, gets it there: the residual blocks of the
    attention U-Net. In other networks blocks are those of dynamic_network_architectures (``ConvDropoutNormReLU``: a
    ``conv``, and an ``all_modules`` that starts with it), which nnU-Net's U-Nets are made of, encoder and decoder,
    plain and residual. Left alone are

    * the first block, which sees the image itself: a dropped channel would be a whole modality;
    * the shortcut of a residual block, where it is a projection as where it is the identity;
    * transposed convolutions, segmentation layers and heads, which are no blocks.

    Names in the state dict stay as they are.

    Parameters
    ----------
    network
        Network that registers its modules in the order in which an image meets the first two of them, as nnU-Net's
        networks do.
    rate
        Probability of a channel to be dropped.

    Raises
    ------
    ValueError
        If the network has no such block behind the first, or has channel dropout already. It is unchanged then.
    """
    if has_channel_dropout(network):
        raise ValueError(f"{type(network).__name__} has channel dropout already")
    places = [block for block in network.modules() if isinstance(getattr(block, "channel_dropout", None), nn.Identity)]
    for block in places:
        block.channel_dropout = _dropout_in_front_of(block, rate)
    if places:
        return
    # modules() names each module once, although nnU-Net's decoders hold the encoder a second time.
    shortcuts = {
        id(module)
        for block in network.modules()
        if isinstance(skip := getattr(block, "skip", None), nn.Module)
        for module in skip.modules()
    }
    blocks = [module for module in network.modules() if _is_block(module) and id(module) not in shortcuts][1:]
    if not blocks:
        raise ValueError(
            f"{type(network).__name__} has no convolution block (ConvDropoutNormReLU) behind its first: channel "
            "dropout goes on nnU-Net's U-Nets (PlainConvUNet, ResidualEncoderUNet), plan the dataset with one of them"
        )
    dropouts = [_dropout_in_front_of(block, rate) for block in blocks]
    for block, dropout in zip(blocks, dropouts, strict=True):
        # nn.Sequential runs its modules in their order, whatever their names: the others keep "0", "1", …
        modules = OrderedDict(block.get_submodule("all_modules").named_children(), channel_dropout=dropout)
        modules.move_to_end("channel_dropout", last=False)
        block.all_modules = nn.Sequential(modules)


def _dropout_in_front_of(block: nn.Module, rate: float) -> ChannelDropout:
    """Dropout for the input of a block's convolution, in the block's mode."""
    convolution: Any = block.get_submodule("conv")
    return ChannelDropout(convolution.in_channels, rate).train(block.training)


def has_channel_dropout(network: nn.Module) -> bool:
    """Whether the network holds a ``ChannelDropout``."""
    return bool(_dropouts(network))


def fix_dropout_masks(network: nn.Module, generator: torch.Generator) -> None:
    """Draw the masks of one member; they hold in evaluation mode until they are drawn anew or cleared.

    Parameters
    ----------
    network
        Network with channel dropout.
    generator
        Random numbers of the member, on the CPU: the same seed gives the same member, whatever device the network is
        on.

    Raises
    ------
    ValueError
        If the network has no channel dropout, or the generator is not on the CPU.
    """
    dropouts = _dropouts(network)
    if not dropouts:
        raise ValueError(
            f"{type(network).__name__} has no channel dropout, so no members to draw: train it with a …Dropout trainer"
        )
    if generator.device.type != "cpu":
        raise ValueError(f"masks are drawn on the CPU, got a generator on {generator.device}")
    device = next(network.parameters()).device
    for dropout in dropouts:
        kept = torch.rand(dropout.channels, generator=generator) >= dropout.rate
        dropout.mask = (kept / (1 - dropout.rate)).to(device)


def clear_dropout_masks(network: nn.Module) -> None:
    """Let evaluation mode be the network without dropout again."""
    for dropout in _dropouts(network):
        dropout.mask = None


class DropoutMasks(WeightPosterior):
    """One set of masks is one member."""

    reason_of_equal_members = "dropout is inactive in this network"

    @classmethod
    def missing(cls, method: EpistemicMethod, fold_folder: Path, network: nn.Module) -> Missing | None:
        if has_channel_dropout(network):
            return None
        return Missing("has no dropout to keep on", f"train a trainer such as {example_trainer(method, network)}")

    @classmethod
    def note_of_disuse(cls, method: EpistemicMethod, network: nn.Module) -> str | None:
        if not has_channel_dropout(network):
            return None
        return f"dropout is off; --epistemic {method.name} keeps it on and makes its masks the members"

    def activate(self, network: nn.Module, generator: torch.Generator) -> None:
        fix_dropout_masks(network, generator)

    def deactivate(self, network: nn.Module) -> None:
        clear_dropout_masks(network)


def _dropouts(network: nn.Module) -> list[ChannelDropout]:
    return [module for module in network.modules() if isinstance(module, ChannelDropout)]


def _is_block(module: nn.Module) -> bool:
    convolution, modules = getattr(module, "conv", None), getattr(module, "all_modules", None)
    return (
        isinstance(convolution, _CONVOLUTIONS)
        and isinstance(modules, nn.Sequential)
        and next(iter(modules), None) is convolution
    )
