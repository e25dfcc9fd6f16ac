"""What the attention U-Net is made of: residual blocks and self-attention, in 2D and 3D.

    a(x, s) = conv3(SiLU(norm(x) + s))      activated convolution, s one number per channel
    R(x, e) = p(x) + a2(a1(x, 0), W e)      residual block, p the identity or a 1x1 convolution, e an embedding
    A(x) = x + P softmax(qᵀk / √d) v        self-attention between all voxels, q, k, v = 1x1 convolutions of norm(x)

(Christensen et al., Rethinking Uncertainty Quantification and Entanglement in Image Segmentation, A.2: the architecture
of Simple Diffusion, https://arxiv.org/abs/2301.11093.) norm is group normalization with ε = 1e-5 and 32 groups, or with
the largest divisor of the channels where that is smaller. The embedding comes in behind it: where a group is one
channel, the norm would take away what is added to a channel before.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ActivatedConvolution", "Dimension", "ResidualBlock", "SelfAttention", "convolution", "group_norm"]

Dimension = Literal[2, 3]

_GROUPS = 32
_HEAD_CHANNELS = 32


def convolution(
    dimension: Dimension, in_channels: int, out_channels: int, *, kernel_size: int
) -> nn.Conv2d | nn.Conv3d:
    """A convolution that keeps the size, ``kernel_size`` odd."""
    if dimension not in (2, 3):
        raise ValueError(f"dimension must be 2 or 3, got {dimension}")
    kind = nn.Conv2d if dimension == 2 else nn.Conv3d
    return kind(in_channels, out_channels, kernel_size, padding=kernel_size // 2)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalization with at most 32 groups."""
    return nn.GroupNorm(_largest_divisor(channels, _GROUPS), channels, eps=1e-5)


class ActivatedConvolution(nn.Module):
    """Norm, SiLU, 3x3 convolution.

    ``channel_dropout`` hands its input through; ``posteriors.insert_channel_dropout`` replaces it.
    """

    def __init__(self, dimension: Dimension, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = group_norm(in_channels)
        self.channel_dropout: nn.Module = nn.Identity()
        self.conv = convolution(dimension, in_channels, out_channels, kernel_size=3)

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """From x, (B, in_channels, *S), and s, (B, in_channels), to (B, out_channels, *S)."""
        normalized = self.norm(x)
        if shift is not None:
            normalized = normalized + shift.view(*shift.shape, *[1] * (x.ndim - 2))
        return self.conv(self.channel_dropout(functional.silu(normalized)))


class ResidualBlock(nn.Module):
    """Two activated convolutions around which the input is added.

    Parameters
    ----------
    dimension
        Spatial axes of the convolutions, 2 or 3.
    in_channels, out_channels
        Channels of the block's input and output.
    embedding_channels
        Length of the vector that the block is conditioned on; 0 for none.
    attention
        Whether self-attention follows the block.
    """

    def __init__(
        self,
        dimension: Dimension,
        in_channels: int,
        out_channels: int,
        *,
        embedding_channels: int = 0,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.first = ActivatedConvolution(dimension, in_channels, out_channels)
        self.second = ActivatedConvolution(dimension, out_channels, out_channels)
        self.embedding = nn.Linear(embedding_channels, out_channels) if embedding_channels else None
        changes = in_channels != out_channels
        self.shortcut = convolution(dimension, in_channels, out_channels, kernel_size=1) if changes else nn.Identity()
        self.attention = SelfAttention(dimension, out_channels) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """From (B, in_channels, *S) and e, (B, embedding_channels), to (B, out_channels, *S)."""
        shift = None if self.embedding is None else self.embedding(embedding)
        return self.attention(self.shortcut(x) + self.second(self.first(x), shift))


class SelfAttention(nn.Module):
    """Every voxel attends to every other; heads of 32 channels, one head where there are fewer.

    Time grows with the square of the number of voxels, memory with their number.
    """

    def __init__(self, dimension: Dimension, channels: int) -> None:
        super().__init__()
        self.heads = _largest_divisor(channels, max(1, channels // _HEAD_CHANNELS))
        self.norm = group_norm(channels)
        self.query_key_value = convolution(dimension, channels, 3 * channels, kernel_size=1)
        self.projection = convolution(dimension, channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """From and to (B, channels, *S)."""
        tokens = self.query_key_value(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1))
        # The kernels that never hold the matrix of attention want the channels of a head side by side.
        query, key, value = tokens.transpose(-1, -2).contiguous().unbind(1)
        attended = functional.scaled_dot_product_attention(query, key, value)
        return x + self.projection(attended.transpose(-1, -2).reshape(x.shape))


def _largest_divisor(number: int, limit: int) -> int:
    return next(divisor for divisor in range(min(limit, number), 0, -1) if number % divisor == 0)
