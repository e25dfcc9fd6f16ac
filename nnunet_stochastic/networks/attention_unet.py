"""The attention U-Net that all generative models share: image -> features.

Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation (ENT), section 3.3 and
A.2. Level l has base·multiplier_l channels: in the encoder average pooling, a 3x3 convolution and two residual blocks,
in the decoder three residual blocks, nearest neighbours and a 3x3 convolution; the convolutions behind the change of
size change the channels. Self-attention stands behind each residual block of the two deepest levels and between the two
blocks in the middle.

A.2 names additive skips and two decoder blocks, which gives 11 million parameters. The 15.8 million that it
reports follow from three blocks, each concatenated with one tensor of its level of the encoder (what comes into the
level, and both blocks; as in Denoising Diffusion Probabilistic Models, https://arxiv.org/abs/2006.11239).

Any size works: pooling rounds up, and the decoder goes to the sizes that the encoder had.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_stochastic.networks.attention_blocks import Dimension, ResidualBlock, convolution, group_norm

__all__ = ["BASE_CHANNELS", "CHANNEL_MULTIPLIERS", "AttentionEncoder", "AttentionUNet", "zero_convolution"]

#: Channels of the first level (ENT, A.2).
BASE_CHANNELS = 32
#: Channels of the levels in units of the base channels (ENT, A.2).
CHANNEL_MULTIPLIERS = (1, 2, 4, 8)

_ENCODER_BLOCKS = 2
_SKIPS = _ENCODER_BLOCKS + 1
_ATTENTION_LEVELS = 2


class AttentionEncoder(nn.Module):
    """Encoder and middle.

    Parameters
    ----------
    in_channels
        Channels of the image.
    dimension
        Number of spatial axes, 2 or 3.
    base_channels
        Channels of the first level.
    channel_multipliers
        Channels of each level in units of ``base_channels``, highest resolution first.
    embedding_channels
        Length of the vector that all residual blocks are conditioned on; 0 for none.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        dimension: Dimension,
        base_channels: int = BASE_CHANNELS,
        channel_multipliers: Sequence[int] = CHANNEL_MULTIPLIERS,
        embedding_channels: int = 0,
    ) -> None:
        super().__init__()
        if min((in_channels, base_channels, *channel_multipliers)) < 1 or not channel_multipliers:
            raise ValueError(
                "in_channels, base_channels and at least one channel multiplier must be 1 or more, got "
                f"{in_channels}, {base_channels} and {tuple(channel_multipliers)}"
            )
        self.level_channels = tuple(base_channels * multiplier for multiplier in channel_multipliers)
        attention = _levels_with_attention(len(self.level_channels))
        #: The convolution with which each level begins.
        self.entries = nn.ModuleList(
            convolution(dimension, before, channels, kernel_size=3)
            for before, channels in zip((in_channels, *self.level_channels), self.level_channels, strict=False)
        )
        self.levels = nn.ModuleList(
            nn.ModuleList(
                ResidualBlock(
                    dimension, channels, channels, embedding_channels=embedding_channels, attention=level in attention
                )
                for _ in range(_ENCODER_BLOCKS)
            )
            for level, channels in enumerate(self.level_channels)
        )
        deepest = self.level_channels[-1]
        self.middle = nn.ModuleList(
            ResidualBlock(dimension, deepest, deepest, embedding_channels=embedding_channels, attention=attended)
            for attended in (True, False)
        )
        self._pool = {2: functional.avg_pool2d, 3: functional.avg_pool3d}[dimension]

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> tuple[list[list[Tensor]], Tensor]:
        """Skips of each level and the features of the deepest.

        Parameters
        ----------
        x
            Images, shape (B, in_channels, *S).
        embedding
            Vectors that the blocks are conditioned on, if they are, shape (B, embedding_channels).

        Returns
        -------
        skips
            Three tensors of each level's channels and size, highest resolution first.
        features
            Shape (B, level_channels[-1], *S of the deepest level).
        """
        skips = []
        features = x
        for level, (entry, blocks) in enumerate(zip(self.entries, self.levels, strict=True)):
            if level:
                # An axis that has come down to one voxel stays.
                features = self._pool(features, [min(2, size) for size in features.shape[2:]], ceil_mode=True)
            features = entry(features)
            skips.append([features])
            for block in blocks.children():
                features = block(features, embedding)
                skips[-1].append(features)
        for block in self.middle:
            features = block(features, embedding)
        return skips, features


class AttentionUNet(nn.Module):
    """Image (B, in_channels, *S) -> features (B, out_channels, *S), normalized and activated.

    Parameters
    ----------
    in_channels, dimension, base_channels, channel_multipliers, embedding_channels
        Input and size of the network, see ``AttentionEncoder``.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        dimension: Dimension,
        base_channels: int = BASE_CHANNELS,
        channel_multipliers: Sequence[int] = CHANNEL_MULTIPLIERS,
        embedding_channels: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = AttentionEncoder(
            in_channels,
            dimension=dimension,
            base_channels=base_channels,
            channel_multipliers=channel_multipliers,
            embedding_channels=embedding_channels,
        )
        channels = self.encoder.level_channels
        attention = _levels_with_attention(len(channels))
        #: From the deepest level up.
        self.levels = nn.ModuleList(
            nn.ModuleList(
                ResidualBlock(
                    dimension,
                    2 * channels[level],
                    channels[level],
                    embedding_channels=embedding_channels,
                    attention=level in attention,
                )
                for _ in range(_SKIPS)
            )
            for level in reversed(range(len(channels)))
        )
        #: The convolution behind each level but the last, at the size of the next.
        self.ascents = nn.ModuleList(
            convolution(dimension, channels[level], channels[level - 1], kernel_size=3)
            for level in reversed(range(1, len(channels)))
        )
        self.norm = group_norm(channels[0])
        self.dimension: Dimension = dimension
        self.out_channels = channels[0]

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Features of the images, given the embedding (B, embedding_channels) where there is one."""
        skips, features = self.encoder(x, embedding)
        for step, blocks in enumerate(self.levels):
            level_skips = skips.pop()
            if step:
                size = level_skips[0].shape[2:]
                features = self.ascents[step - 1](functional.interpolate(features, size=size, mode="nearest"))
            for block in blocks.children():
                features = block(torch.cat([features, level_skips.pop()], dim=1), embedding)
        return functional.silu(self.norm(features))


def zero_convolution(unet: AttentionUNet, out_channels: int) -> nn.Conv2d | nn.Conv3d:
    """The 3x3 convolution that ends a network, 0 everywhere until it is trained."""
    layer = convolution(unet.dimension, unet.out_channels, out_channels, kernel_size=3)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.get_parameter("bias"))
    return layer


def _levels_with_attention(num_levels: int) -> range:
    return range(max(0, num_levels - _ATTENTION_LEVELS), num_levels)
