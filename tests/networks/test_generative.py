"""One contract for the networks of the generative models, in 2D and 3D, with odd sizes and several channels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from nnunet_stochastic.distributions import DenoisingLogits, GaussianLogits, LatentLogits, LowRankGaussian, PointMass
from nnunet_stochastic.networks import (
    AttentionUNet,
    DiffusionNetwork,
    GenerativeNetwork,
    ProbabilisticUNet,
    SoftmaxNetwork,
    StochasticSegmentationNetwork,
)
from nnunet_stochastic.networks.attention_blocks import ActivatedConvolution
from nnunet_stochastic.posteriors import ChannelDropout, clear_dropout_masks, fix_dropout_masks, insert_channel_dropout
from nnunet_stochastic.targets import Target, encode_target

NETWORKS = [SoftmaxNetwork, StochasticSegmentationNetwork, ProbabilisticUNet, DiffusionNetwork]
SIZES = {2: (7, 6), 3: (5, 4, 3)}
IMAGE_CHANNELS, CLASSES, BATCH = 2, 3, 2


@pytest.fixture(params=[2, 3])
def dimension(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def build(kind: type[GenerativeNetwork], dimension: int = 2) -> GenerativeNetwork:
    """A tiny network whose last layers are not 0 any more."""
    network = kind(IMAGE_CHANNELS, CLASSES, dimension=dimension, base_channels=4, channel_multipliers=(1, 2))
    if hasattr(network, "output"):
        nn.init.normal_(network.output.weight, std=0.3)
    return network.eval()


def images(dimension: int = 2) -> torch.Tensor:
    return torch.randn(BATCH, IMAGE_CHANNELS, *SIZES[dimension])


def annotation(dimension: int = 2) -> Target:
    return encode_target(torch.randint(CLASSES + 1, (BATCH, 1, *SIZES[dimension])), CLASSES, ignore_label=CLASSES)


@pytest.mark.parametrize(
    ("kind", "millions"),
    [
        (SoftmaxNetwork, 15.79),
        (StochasticSegmentationNetwork, 15.80),
        (ProbabilisticUNet, 16.89),
        (DiffusionNetwork, 15.81),
    ],
)
def test_number_of_parameters_is_the_papers(kind, millions) -> None:
    with torch.device("meta"):
        network = kind(3, 3, dimension=2)
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(millions * 1e6, rel=0.01)


@pytest.mark.parametrize("kind", NETWORKS)
@torch.no_grad()
def test_image_to_distribution(kind, dimension) -> None:
    network, x = build(kind, dimension), images(dimension)
    distribution = network.logit_distribution(x)
    shape = (BATCH, CLASSES, *SIZES[dimension])
    assert distribution.shape == shape
    assert network.has_samples == distribution.has_samples
    assert network.is_gaussian == (network.has_samples and isinstance(distribution, GaussianLogits))
    samples = distribution.rsample(2, generator=torch.Generator().manual_seed(1))
    assert samples.shape == (2, *shape)
    assert (samples[0] != samples[1]).any() == network.has_samples
    # The deterministic prediction is the distribution's own, and no noise enters it.
    torch.testing.assert_close(network(x), distribution.mean_logits)
    torch.testing.assert_close(network(x), network(x), rtol=0, atol=0)
    assert (network(x)[0] != network(x)[1]).any()


def test_which_distribution() -> None:
    expected = [PointMass, LowRankGaussian, LatentLogits, DenoisingLogits]
    assert [type(build(kind).logit_distribution(images())) for kind in NETWORKS] == expected
    assert [kind.has_samples for kind in NETWORKS] == [False, True, True, True]
    assert [kind.is_gaussian for kind in NETWORKS] == [False, True, False, False]


@pytest.mark.parametrize("kind", NETWORKS)
def test_images_of_a_batch_do_not_meet(kind) -> None:
    network, x = build(kind), images()
    noise = torch.randn(1, BATCH, CLASSES, *SIZES[2])
    shared = torch.randn(1, BATCH, 10)

    def sample(chosen: slice) -> torch.Tensor:
        distribution = network.logit_distribution(x[chosen])
        return distribution.transform(
            noise[:, chosen, : distribution.noise_channels], shared[:, chosen, : distribution.shared_noise_channels]
        )

    with torch.no_grad():
        both, second = sample(slice(None)), sample(slice(1, None))
    torch.testing.assert_close(both[:, 1:], second, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", NETWORKS)
def test_training_outputs_depend_on_every_parameter(kind, dimension) -> None:
    network = build(kind, dimension).train()
    outputs = network(images(dimension), annotation(dimension))
    sum((output * torch.randn_like(output)).sum() for output in outputs.values()).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
    assert all(output.isfinite().all() for output in outputs.values())


@pytest.mark.parametrize("kind", NETWORKS)
def test_half_precision(kind) -> None:
    """Under autocast, which for inference ends before samples are drawn."""
    network, x, target = build(kind), images(), annotation()
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network.logit_distribution(x)
        samples, expected = (
            distribution.rsample(2, generator=torch.Generator().manual_seed(0))
            for distribution in (half, network.logit_distribution(x))
        )
    assert samples.isfinite().all()
    assert (samples - expected).abs().mean() < 0.1 * expected.abs().mean()
    assert not torch.equal(samples, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(x, target)
        sum(output.float().square().mean() for output in outputs.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("kind", NETWORKS)
def test_weights_load_under_their_names(kind) -> None:
    network, x = build(kind), images()
    torch.manual_seed(5)
    other = build(kind)
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(other(x), network(x), rtol=0, atol=0)


@pytest.mark.parametrize("kind", NETWORKS)
@torch.no_grad()
def test_channel_dropout_in_front_of_both_convolutions_of_residual_blocks(kind) -> None:
    network, x = build(kind), images()
    names, plain = list(network.state_dict()), network(x)
    insert_channel_dropout(network, 0.2)
    assert list(network.state_dict()) == names
    places = {name for name, module in network.named_modules() if isinstance(module, ChannelDropout)}
    convolutions = {name for name, module in network.named_modules() if isinstance(module, ActivatedConvolution)}
    assert places == {f"{name}.channel_dropout" for name in convolutions}
    assert len(places) >= 2 * (2 * 2 + 2 + 2 * 3)
    assert all(network.get_submodule(place).channels > IMAGE_CHANNELS for place in places)
    torch.testing.assert_close(network(x), plain)
    fix_dropout_masks(network, torch.Generator().manual_seed(0))
    assert not torch.allclose(network(x), plain)
    torch.testing.assert_close(network(x), network(x))
    clear_dropout_masks(network)
    torch.testing.assert_close(network(x), plain)
    with pytest.raises(ValueError, match="already"):
        insert_channel_dropout(network, 0.2)


def test_dropout_stands_between_activation_and_convolution() -> None:
    block = ActivatedConvolution(2, 4, 5)
    insert_channel_dropout(block, 0.5)
    fix_dropout_masks(block.eval(), torch.Generator().manual_seed(1))
    x, mask = torch.randn(1, 4, 6, 6), block.channel_dropout.mask
    assert 0 < (mask == 0).sum() < 4
    expected = block.conv(nn.functional.silu(block.norm(x)) * mask.view(1, -1, 1, 1))
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("count", [1, 7])
def test_features_are_computed_once_whatever_the_number_of_samples(count) -> None:
    network, calls = build(ProbabilisticUNet), []
    for module in network.modules():
        if isinstance(module, AttentionUNet):
            module.register_forward_hook(lambda *_: calls.append(1))
    distribution = network.logit_distribution(images())
    assert distribution.rsample(count).shape[0] == count
    assert len(calls) == 1


def test_latent_is_tiled_onto_the_features() -> None:
    """W [u, z] with the tiled z written out."""
    network = build(ProbabilisticUNet)
    decoder, x, latent = network.latent_decoder, images(), torch.randn(BATCH, 6)
    features = network.unet(x)
    tiled = latent[:, :, None, None].expand(-1, -1, *SIZES[2])
    weight = torch.cat([decoder.of_features.weight, decoder.of_latent.weight[:, :, None, None]], 1)
    hidden = nn.functional.conv2d(torch.cat([features, tiled], 1), weight, decoder.of_features.bias)
    expected = decoder.output(nn.functional.silu(decoder.hidden(nn.functional.silu(hidden))))
    torch.testing.assert_close(decoder(decoder.of_features(features), latent), expected)
    distribution = network.logit_distribution(x)
    mean, std = network.prior(x)
    noise = torch.randn(1, BATCH, 6)
    expected = decoder(decoder.of_features(features), mean + std * noise[0])
    torch.testing.assert_close(distribution.transform(torch.empty(1, BATCH, 0, *SIZES[2]), noise)[0], expected)


def test_posterior_sees_the_annotation_and_the_prior_does_not() -> None:
    network, x = build(ProbabilisticUNet), images()
    first, second = network(x, annotation()), network(x, annotation())
    torch.testing.assert_close(first["prior_mean"], second["prior_mean"])
    torch.testing.assert_close(first["prior_std"], second["prior_std"])
    assert not torch.allclose(first["posterior_mean"], second["posterior_mean"])


def test_low_rank_variance_has_a_floor() -> None:
    network = build(StochasticSegmentationNetwork)
    nn.init.constant_(network.log_variance.bias, -100.0)
    outputs = network(images(), annotation())
    torch.testing.assert_close(outputs["diag_var"], torch.full_like(outputs["diag_var"], 1e-5))
    assert outputs["cov_factor"].shape == (BATCH, CLASSES, 10, *SIZES[2])
    assert (outputs["cov_factor"].std() > 0.05).item()


def test_diffusion_is_trained_on_noisy_masks_of_all_times(monkeypatch) -> None:
    """The x_t that the network sees, given back to the mask and the noise that it is made of."""
    network, seen = build(DiffusionNetwork), []
    monkeypatch.setattr(network, "predict_clean", lambda *arguments: seen.append(arguments) or arguments[1])
    count = 400
    target = encode_target(torch.randint(CLASSES + 1, (count, 1, 5, 5)), CLASSES, ignore_label=CLASSES)
    network(torch.zeros(count, IMAGE_CHANNELS, 5, 5), target)
    _, noisy, time = seen[0]
    assert abs(time.mean() - 0.5) < 5 * (1 / 12 / count) ** 0.5
    assert time.min() < 0.05
    assert time.max() > 0.95
    scale, level = (number.view(-1, 1, 1, 1) for number in network.schedule.levels(time))
    clean = (2 * target.mask - 1) * target.counted
    noise = ((noisy - scale * clean) / level)[time > 0.1]
    assert abs(noise.mean()) < 5 / noise.numel() ** 0.5
    assert abs(noise.var() - 1) < 5 * (2 / noise.numel()) ** 0.5


def test_diffusion_sees_a_mask_of_unit_size_at_every_time(monkeypatch) -> None:
    network, seen = build(DiffusionNetwork), []
    network.unet.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0][:, IMAGE_CHANNELS:]))
    for time in (0.01, 0.5, 1.0):
        times = torch.full((BATCH,), time)
        scale, level = network.schedule.levels(times)
        x = torch.zeros(BATCH, IMAGE_CHANNELS, 40, 40)
        clean = torch.ones(BATCH, CLASSES, 40, 40)
        network.predict_clean(x, scale[0] * clean + level[0] * torch.randn_like(clean), times)
        assert seen[-1].square().mean().sqrt().item() == pytest.approx(1, rel=0.05)


def test_diffusion_depends_on_the_time() -> None:
    network, x = build(DiffusionNetwork), images()
    noisy = torch.randn(BATCH, CLASSES, *SIZES[2])
    early, late = (
        network.predict_clean(x, noisy * network.schedule.root_mean_square(time)[0], time)
        for time in (torch.full((BATCH,), 0.2), torch.full((BATCH,), 0.8))
    )
    assert not torch.allclose(early, late, atol=1e-4)


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        DiffusionNetwork(1, 1, dimension=2)
    with pytest.raises(ValueError, match="latent_channels must be at least 1, got 0"):
        ProbabilisticUNet(1, 2, dimension=2, latent_channels=0)
    with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
        StochasticSegmentationNetwork(1, 2, dimension=2, rank=0)
