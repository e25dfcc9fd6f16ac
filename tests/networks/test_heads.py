"""What the heads add to a planned network, and what they leave as it was."""

from __future__ import annotations

import math

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from nnunet_stochastic.distributions import (
    BasisGaussian,
    DiagonalGaussian,
    LowRankGaussian,
    basis_entropy_loss,
    orthogonality_loss,
)
from nnunet_stochastic.losses import k_sample_loss
from nnunet_stochastic.networks import StochasticNetwork
from nnunet_stochastic.networks.heads.basis import BasisHeads, _mean_of_equal_blocks
from nnunet_stochastic.networks.heads.diagonal import DiagonalHeads
from nnunet_stochastic.networks.heads.low_rank import LowRankHeads

HEADS = {
    "diagonal": DiagonalHeads,
    "low rank": lambda layer: LowRankHeads(layer, rank=4),
    "single basis": lambda layer: BasisHeads(layer, rank=4, num_bases=1, partitions=1),
    "MoB": lambda layer: BasisHeads(layer, rank=4),
    "MoB volume": lambda layer: BasisHeads(layer, rank=4, noise_scope="volume"),
}


def make_backbone(dimensions: int = 3, *, residual: bool = False, deep_supervision: bool = False) -> nn.Module:
    torch.manual_seed(0)
    convolution = (nn.Conv2d, nn.Conv3d)[dimensions - 2]
    norm = (nn.InstanceNorm2d, nn.InstanceNorm3d)[dimensions - 2]
    architecture = ResidualEncoderUNet if residual else PlainConvUNet
    return architecture(
        2, 3, (8, 8, 16), convolution, 3, (1, 2, 2), (1, 1, 1), 3, (1, 1), True, norm, {"affine": True},
        nonlin=nn.LeakyReLU, deep_supervision=deep_supervision,
    )  # fmt: skip


@pytest.fixture(params=list(HEADS))
def heads(request: pytest.FixtureRequest):
    return HEADS[request.param]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_mean_is_the_deterministic_network(heads, dimensions: int, residual: bool) -> None:
    backbone = make_backbone(dimensions, residual=residual)
    x = torch.randn(2, 2, *[16] * dimensions)
    expected, names = backbone(x), set(backbone.state_dict())
    network = StochasticNetwork(backbone, heads)
    torch.testing.assert_close(network(x), expected, rtol=0, atol=0)
    output, parameters = network(x, return_parameters=True)
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    torch.testing.assert_close(parameters["mean_logits"], expected, rtol=0, atol=0)
    added = network.names_of_added_weights()
    assert set(network.state_dict()) - added == names
    assert all(".seg_layers." in name for name in added)


def test_deep_supervision_gives_lists_with_deterministic_lower_outputs(heads) -> None:
    backbone = make_backbone(deep_supervision=True)
    x = torch.randn(1, 2, 16, 16, 16)
    expected = backbone(x)
    output, parameters = StochasticNetwork(backbone, heads)(x, return_parameters=True)
    assert len(output) == len(expected) == 2
    for ours, theirs in zip(output, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert parameters["diag_var"].shape == expected[0].shape


def test_every_added_weight_gets_a_gradient(heads) -> None:
    network = StochasticNetwork(make_backbone(), heads)
    x, target = torch.randn(1, 2, 16, 16, 16), torch.randint(3, (1, 16, 16, 16))
    torch.manual_seed(1)
    _, parameters = network(x, return_parameters=True)
    k_sample_loss(network.distribution(parameters), nn.functional.cross_entropy, target, 2).backward()
    added = network.names_of_added_weights()
    gradients = {name: p.grad for name, p in network.named_parameters() if name in added}
    assert gradients.keys() == added
    zero = [name for name, gradient in gradients.items() if gradient is None or not gradient.any()]
    assert zero == []


def test_distributions_and_initial_values() -> None:
    x = torch.randn(1, 2, 16, 16, 16)
    kinds = (DiagonalGaussian, LowRankGaussian, BasisGaussian, BasisGaussian, BasisGaussian)
    for build, kind in zip(HEADS.values(), kinds, strict=True):
        network = StochasticNetwork(make_backbone(), build)
        _, parameters = network(x, return_parameters=True)
        assert type(network.distribution(parameters)) is kind
        torch.testing.assert_close(parameters["diag_var"], torch.full((1, 3, 16, 16, 16), -3.0).exp())
        if kind is BasisGaussian:
            torch.testing.assert_close(parameters["basis_scale"], torch.full((1, 4, 16, 16, 16), 0.7))
            weights = parameters["basis_log_weights"].exp()
            torch.testing.assert_close(weights.sum(1), torch.ones_like(weights[:, 0]))
    assert weights.shape == (1, 3, 4, 4, 4)
    assert parameters["bases"].shape == (3, 3, 4)


def test_heads_name_their_regularizers() -> None:
    """KL of the variances for all; what spreads several bases only where there are several."""
    x = torch.randn(1, 2, 16, 16, 16)
    several = {"orthogonality", "basis_entropy"}
    for name, build in HEADS.items():
        network = StochasticNetwork(make_backbone(), build)
        _, parameters = network(x, return_parameters=True)
        terms = network.heads.regularizers(parameters)
        assert terms.keys() == {"kl"} | (several if name.startswith("MoB") else set())
        # d = exp(-3) at every voxel: (exp(3) - 1 - 3) / 2.
        torch.testing.assert_close(terms["kl"], torch.tensor((math.exp(3) - 4) / 2))
    torch.testing.assert_close(terms["orthogonality"], orthogonality_loss(network.heads.bases))
    torch.testing.assert_close(terms["basis_entropy"], basis_entropy_loss(parameters["basis_log_weights"]))


def test_log_variance_is_clamped() -> None:
    network = StochasticNetwork(make_backbone(), lambda layer: DiagonalHeads(layer, log_variance_bias=40.0))
    _, parameters = network(torch.randn(1, 2, 8, 8, 8), return_parameters=True)
    torch.testing.assert_close(parameters["diag_var"].max(), torch.tensor(5.0).exp())


@pytest.mark.parametrize(("selection", "gap"), [("straight_through", 200.0), ("argmax", 200.0), ("soft", 60.0)])
def test_gradients_are_finite_where_a_weight_of_a_basis_has_underflowed(selection: str, gap: float) -> None:
    """One basis leads by so much, above all at temperature 0.3, that the weights of the others are 0 in float32."""
    network = StochasticNetwork(make_backbone(), lambda layer: BasisHeads(layer, basis_selection=selection))
    with torch.no_grad():
        network.heads.basis_logits.bias += torch.tensor([gap, 0.0, 0.0])
    _, parameters = network(torch.randn(1, 2, 8, 8, 8), return_parameters=True)
    log_weights = parameters["basis_log_weights"]
    assert log_weights.exp()[:, 1:].max() == 0
    samples = network.distribution(parameters).rsample(2)
    (samples.square().mean() + basis_entropy_loss(log_weights)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_what_is_made_of_the_parameters_is_in_full_precision_under_autocast() -> None:
    """Bases of half precision would quantise the covariance, and sum the gradients of all partitions in it."""
    network = StochasticNetwork(make_backbone(), BasisHeads)
    x = torch.randn(1, 2, 8, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, parameters = network(x, return_parameters=True)
        bases = network.distribution(parameters).partition_bases
    assert parameters["basis_scale"].dtype == torch.bfloat16
    assert parameters["basis_log_weights"].dtype == bases.dtype == torch.float32
    chosen = parameters["basis_log_weights"].argmax(1)
    torch.testing.assert_close(bases, network.heads.bases[chosen], rtol=0, atol=1e-6)


def test_partitions_shrink_on_thin_patches() -> None:
    network = StochasticNetwork(make_backbone(2), lambda layer: BasisHeads(layer, partitions=32))
    _, parameters = network(torch.randn(1, 2, 8, 16), return_parameters=True)
    assert parameters["basis_log_weights"].shape == (1, 3, 8, 16)
    assert network.distribution(parameters).rsample(2).shape == (2, 1, 3, 8, 16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(("shape", "grid"), [((6, 4, 10), (3, 2, 5)), ((8, 6), (4, 3))])
def test_features_are_averaged_over_equal_partitions_as_by_torch(shape, grid, dtype) -> None:
    features = torch.randn(2, 3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(dtype)
    pool = torch.nn.functional.adaptive_avg_pool3d if len(shape) == 3 else torch.nn.functional.adaptive_avg_pool2d
    expected = pool(features.double(), grid)
    found = _mean_of_equal_blocks(features, grid)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)


def test_networks_without_segmentation_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="PlainConvUNet, ResidualEncoderUNet"):
        StochasticNetwork(nn.Conv3d(1, 2, 3), DiagonalHeads)
    with pytest.raises(ValueError, match="kernel size 1"):
        DiagonalHeads(nn.Conv3d(4, 2, 3))
    with pytest.raises(ValueError, match="Conv2d or Conv3d"):
        DiagonalHeads(nn.Conv1d(4, 2, 1))


def test_bad_options_are_refused() -> None:
    layer = nn.Conv2d(4, 2, 1)
    with pytest.raises(ValueError, match="rank"):
        LowRankHeads(layer, rank=0)
    with pytest.raises(ValueError, match="num_bases"):
        BasisHeads(layer, num_bases=0)
    with pytest.raises(ValueError, match="initial_scale"):
        BasisHeads(layer, initial_scale=0)
