"""Which layers are a last layer, and the inputs of one that is larger than a voxel."""

import pytest
import torch
from torch import nn

from nnunet_stochastic.networks import SoftmaxNetwork
from nnunet_stochastic.networks.last_layer import last_layer_weights, windows


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(5, 3, 1),
        nn.Conv2d(5, 3, 3, padding=1),
        nn.Conv3d(5, 3, 3, padding=1),
        nn.Conv3d(2, 3, (1, 3, 5), padding=(0, 1, 2)),
    ],
    ids=str,
)
def test_weights_times_inputs_are_the_convolution(layer):
    torch.manual_seed(0)
    shape = (4, 6, 5)[-len(layer.kernel_size) :]
    features = torch.randn(layer.in_channels, *shape)
    found = windows(features, layer.kernel_size)
    assert found.shape == (layer.in_channels, *shape, *layer.kernel_size)
    inputs = found.flatten(1, len(shape)).transpose(0, 1).flatten(1)
    logits = (inputs @ layer.weight.flatten(1).T + layer.bias).T.unflatten(1, shape)
    torch.testing.assert_close(logits, layer(features[None])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": 3, "padding": 2, "dilation": 2},
        {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
        {"kernel_size": 2},
        {"kernel_size": 3, "padding": 1, "bias": False},
    ],
    ids=str,
)
def test_other_layers_are_refused(options):
    network = SoftmaxNetwork(1, 3, dimension=2, base_channels=4, channel_multipliers=(1, 2))
    weight, bias = last_layer_weights(network)
    assert weight is network.output.weight
    assert bias is network.output.bias
    network.output = nn.Conv2d(4, 3, **options)
    with pytest.raises(ValueError, match="the last layer of SoftmaxNetwork must be a convolution with a bias"):
        last_layer_weights(network)
