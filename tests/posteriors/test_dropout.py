"""Channel dropout: where it goes, what it drops, and that a member's masks hold."""

from __future__ import annotations

import copy

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from nnunet_stochastic.posteriors import (
    ChannelDropout,
    clear_dropout_masks,
    fix_dropout_masks,
    has_channel_dropout,
    insert_channel_dropout,
)

RATE = 0.2


def build(dimensions: int = 2, *, residual: bool = False) -> nn.Module:
    """A U-Net of three stages as nnU-Net plans it, two blocks in the second; deterministic weights."""
    torch.manual_seed(0)
    kinds = {2: (nn.Conv2d, nn.InstanceNorm2d), 3: (nn.Conv3d, nn.InstanceNorm3d)}
    architecture = ResidualEncoderUNet if residual else PlainConvUNet
    return architecture(
        input_channels=3,
        n_stages=3,
        features_per_stage=[4, 6, 8],
        conv_op=kinds[dimensions][0],
        kernel_sizes=3,
        strides=[1, 2, 2],
        num_classes=2,
        n_conv_per_stage_decoder=[1, 1],
        conv_bias=True,
        norm_op=kinds[dimensions][1],
        norm_op_kwargs={"affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
        **{"n_blocks_per_stage" if residual else "n_conv_per_stage": [1, 2, 1]},
    ).eval()


def with_dropout(*arguments, **options) -> nn.Module:
    network = build(*arguments, **options)
    insert_channel_dropout(network, RATE)
    return network


def image(dimensions: int = 2, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, *(8,) * dimensions, generator=torch.Generator().manual_seed(1))


def places(network: nn.Module) -> dict[str, int]:
    """Channels of each dropout by the name of the block that it stands in."""
    return {
        name.removesuffix(".all_modules.channel_dropout"): module.channels
        for name, module in network.named_modules()
        if isinstance(module, ChannelDropout)
    }


@pytest.mark.parametrize("dimensions", [2, 3])
def test_goes_in_front_of_every_convolution_of_a_block_but_the_images(dimensions: int) -> None:
    assert places(with_dropout(dimensions)) == {
        "encoder.stages.1.0.convs.0": 4,
        "encoder.stages.1.0.convs.1": 6,
        "encoder.stages.2.0.convs.0": 6,
        "decoder.stages.0.convs.0": 12,
        "decoder.stages.1.convs.0": 8,
    }
    assert places(with_dropout(dimensions, residual=True)) == {
        "encoder.stages.0.blocks.0.conv1": 4,
        "encoder.stages.0.blocks.0.conv2": 4,
        "encoder.stages.1.blocks.0.conv1": 4,  # its shortcut is a projection, and stays whole
        "encoder.stages.1.blocks.0.conv2": 6,
        "encoder.stages.1.blocks.1.conv1": 6,
        "encoder.stages.1.blocks.1.conv2": 6,
        "encoder.stages.2.blocks.0.conv1": 6,
        "encoder.stages.2.blocks.0.conv2": 8,
        "decoder.stages.0.convs.0": 12,
        "decoder.stages.1.convs.0": 8,
    }


@pytest.mark.parametrize("residual", [False, True])
def test_convolutions_see_dropped_channels_except_those_of_the_image_and_the_outputs(residual: bool) -> None:
    network = with_dropout(residual=residual).train()
    seen = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0].detach()}))
    torch.manual_seed(0)
    network(image(batch=64))
    blocks = places(network)
    assert any(torch.equal(x, image(batch=64)) for x in seen.values())
    for name, x in seen.items():
        dropped = (x == 0).flatten(2).all(2)
        if name.removesuffix(".conv") in blocks:
            assert dropped.float().mean() == pytest.approx(RATE, abs=0.07), name
            assert not dropped.all(0).any(), f"{name} lost a channel in every image: not a mask per image"
        else:
            assert not dropped.any(), name


@pytest.mark.parametrize("residual", [False, True])
def test_deterministic_weights_fit_and_evaluation_is_the_deterministic_network(residual: bool) -> None:
    plain, network = build(residual=residual), with_dropout(residual=residual)
    assert list(network.state_dict()) == list(plain.state_dict())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    network.load_state_dict(plain.state_dict())
    for ours, theirs in zip(network(image()), plain(image()), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(network.train()(image())[0], plain(image())[0])


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_fixed_masks_are_one_network_for_everything(dimensions: int, residual: bool) -> None:
    network = with_dropout(dimensions, residual=residual)
    x = image(dimensions)
    without = network(x)[0]
    outputs = []
    for seed in (0, 0, 1):
        fix_dropout_masks(network, torch.Generator().manual_seed(seed))
        outputs.append(network(x)[0])
        assert torch.equal(network(x)[0], outputs[-1])
        torch.testing.assert_close(network(x[1:])[0], outputs[-1][1:])
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])
    assert list(network.state_dict()) == list(build(dimensions, residual=residual).state_dict())
    clear_dropout_masks(network)
    assert torch.equal(network(x)[0], without)


def test_fixed_mask_is_its_formula() -> None:
    """x m / (1 - p), the numbers of one mask per module drawn in the modules' order from one generator."""
    network = nn.Sequential(ChannelDropout(5, 0.4), nn.Conv3d(5, 7, 1), ChannelDropout(7, 0.25)).eval()
    fix_dropout_masks(network, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    for dropout, channels, rate in ((network[0], 5, 0.4), (network[2], 7, 0.25)):
        kept = (torch.rand(channels, generator=generator) >= rate).float() / (1 - rate)
        x = torch.randn(2, channels, 2, 3, 4)
        torch.testing.assert_close(dropout(x), x * kept[None, :, None, None, None], rtol=0, atol=0)
        assert dropout(x.half()).dtype == torch.float16


def test_expectation_is_the_input() -> None:
    dropout = ChannelDropout(400, RATE).eval()
    network = nn.Sequential(dropout, nn.Conv2d(400, 1, 1))
    generator = torch.Generator().manual_seed(0)
    draws = torch.zeros(400)
    for _ in range(200):
        fix_dropout_masks(network, generator)
        assert set(dropout.mask.tolist()) == {0.0, 1.25}
        draws += dropout.mask / 200
    # The standard error of one channel is sqrt(p / (1 - p) / 200) = 0.035.
    assert draws.mean() == pytest.approx(1, abs=0.01)
    assert (draws - 1).abs().max() < 5 * 0.035
    torch.manual_seed(0)
    assert dropout.train()(torch.ones(200, 400, 1, 1)).mean() == pytest.approx(1, abs=0.01)


def test_masks_change_the_graph_of_a_compiled_network_once() -> None:
    """All members run through one compiled graph with masks, and one without."""
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    network = nn.Sequential(ChannelDropout(5, RATE), nn.Conv2d(5, 4, 1)).eval()
    compiled = torch.compile(network, backend=backend)
    x = torch.randn(2, 5, 3, 3)
    with torch.inference_mode():
        compiled(x)
        assert len(graphs) == 1
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            fix_dropout_masks(compiled, generator)
            torch.testing.assert_close(compiled(x), network(x))
    assert len(graphs) == 2


def test_what_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3))
    with pytest.raises(ValueError, match=r"Sequential has no convolution block \(ConvDropoutNormReLU\)"):
        insert_channel_dropout(network, RATE)
    with pytest.raises(ValueError, match="Sequential has no channel dropout"):
        fix_dropout_masks(network, torch.Generator())
    dropping = with_dropout()
    assert has_channel_dropout(dropping)
    assert not has_channel_dropout(build())
    assert has_channel_dropout(copy.deepcopy(dropping))
    with pytest.raises(ValueError, match="has channel dropout already"):
        insert_channel_dropout(dropping, RATE)
    for rate in (0.0, 1.0, -0.1):
        unchanged = build()
        with pytest.raises(ValueError, match="between 0 and 1"):
            insert_channel_dropout(unchanged, rate)
        assert not has_channel_dropout(unchanged)
