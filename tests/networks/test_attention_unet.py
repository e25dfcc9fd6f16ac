"""The attention U-Net: its sizes, attention against its formula, conditioning, and any size of image."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from nnunet_stochastic.networks import AttentionEncoder, AttentionUNet
from nnunet_stochastic.networks.attention_blocks import ResidualBlock, SelfAttention, group_norm


@pytest.mark.parametrize(
    ("dimension", "size"), [(2, (7, 10)), (2, (8, 8)), (2, (1, 5)), (3, (5, 6, 3)), (3, (1, 8, 8))]
)
def test_any_size(dimension, size) -> None:
    network = AttentionUNet(3, dimension=dimension, base_channels=4, channel_multipliers=(1, 2, 3))
    features = network(torch.randn(2, 3, *size))
    assert features.shape == (2, 4, *size)
    assert features.std() > 0.1
    skips, deepest = network.encoder(torch.randn(2, 3, *size))
    assert [len(level) for level in skips] == [3, 3, 3]
    assert [level[0].shape[1] for level in skips] == [4, 8, 12]
    assert deepest.shape == (2, 12, *[math.ceil(math.ceil(length / 2) / 2) for length in size])


def test_every_voxel_sees_the_whole_image_through_attention() -> None:
    network = AttentionUNet(1, dimension=2, base_channels=4, channel_multipliers=(1, 1)).double()
    x = torch.randn(1, 1, 40, 40, dtype=torch.float64, requires_grad=True)
    network(x)[0, 0, 0, 0].backward()
    assert (x.grad != 0).all()


def test_attention_is_the_softmax_of_products() -> None:
    attention = SelfAttention(2, 64).double()
    x = torch.randn(2, 64, 3, 5, dtype=torch.float64)
    query, key, value = attention.query_key_value(attention.norm(x)).flatten(2).chunk(3, dim=1)
    heads = []
    for head in range(2):
        q, k, v = (tensor[:, 32 * head : 32 * (head + 1)] for tensor in (query, key, value))
        weights = torch.softmax(torch.einsum("bcn,bcm->bnm", q, k) / math.sqrt(32), dim=-1)
        heads.append(torch.einsum("bnm,bcm->bcn", weights, v))
    expected = x + attention.projection(torch.cat(heads, 1).view_as(x))
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("channels", [8, 64, 192])
def test_attention_never_holds_its_matrix(channels) -> None:
    """A kernel that does is not allowed here, and torch raises where no other takes the input."""
    x = torch.randn(1, channels, 6, 6, requires_grad=True)
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):
        SelfAttention(2, channels)(x).square().sum().backward()
    assert x.grad.abs().sum() > 0


def test_groups_are_32_or_the_largest_divisor() -> None:
    assert [group_norm(channels).num_groups for channels in (256, 96, 48, 24, 7)] == [32, 32, 24, 24, 7]
    assert group_norm(64).eps == 1e-5


def test_residual_block_adds_its_input() -> None:
    block = ResidualBlock(2, 4, 4, embedding_channels=3)
    for parameter in block.second.conv.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(block(x, torch.randn(2, 3)), x)


def test_embedding_reaches_every_residual_block() -> None:
    network = AttentionUNet(1, dimension=2, base_channels=4, channel_multipliers=(1, 2), embedding_channels=6)
    blocks = [module for module in network.modules() if isinstance(module, ResidualBlock)]
    assert len(blocks) == 2 * 2 + 2 + 2 * 3
    embedding = torch.randn(1, 6)
    network(torch.randn(1, 1, 8, 8), embedding).square().sum().backward()
    assert all(block.embedding.weight.grad.abs().max() > 1e-3 for block in blocks)
    x = torch.randn(1, 1, 8, 8)
    assert not torch.allclose(network(x, embedding), network(x, -embedding))


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="dimension must be 2 or 3, got 1"):
        AttentionUNet(1, dimension=1)
    with pytest.raises(ValueError, match="must be 1 or more, got 0, 32 and"):
        AttentionEncoder(0, dimension=2)
    with pytest.raises(ValueError, match="at least one channel multiplier"):
        AttentionEncoder(1, dimension=2, channel_multipliers=())
