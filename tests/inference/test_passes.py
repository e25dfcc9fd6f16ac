"""How often the network runs for maps and whole samples: once for each tile and view where memory holds the samples."""

from __future__ import annotations

import pytest
import torch

from nnunet_stochastic.distributions import DenoisingLogits, NoiseSchedule
from nnunet_stochastic.inference import samples as samples_module
from nnunet_stochastic.inference.samples import draws_of_members
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import mirrored_views, tile_weights, tiles
from nnunet_stochastic.inference.voxel_noise import voxel_noise
from nnunet_stochastic.maps import epistemic_map
from nnunet_stochastic.networks import DiffusionNetwork, ProbabilisticUNet
from nnunet_stochastic.outcomes import OutcomeSpace

TWO = OutcomeSpace(2)
SHAPE, PATCH = (1, 8, 13), (8, 8)
VIEWS = mirrored_views((0, 1))
NUM_TILES = 3
STEPS = 2
DIFFUSION = {"num_steps": STEPS, "num_mean_samples": 2}
TINY = {"dimension": 2, "base_channels": 4, "channel_multipliers": (1, 2)}


def random_network(kind, **arguments) -> torch.nn.Module:
    """A network of random weights, whose last layers are not zero as they are before a training."""
    torch.manual_seed(0)
    network = kind(1, 2, **TINY, **arguments).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return network


@pytest.fixture
def draw(sweeping):
    """Draws whole samples of mirrored views: what a sweep gives, and the number of patches its U-Nets have seen."""

    def sweep(networks, count, *, num_samples=6, space=TWO, **options):
        seen, handles = [0], []
        for network in networks:
            counted = network.unet if hasattr(network, "unet") else network
            handles.append(counted.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0]))))
        dealt = draws_of_members(count, len(networks), VIEWS, has_samples=True, blend_views=False)
        swept = sweeping.sweep(
            networks,
            torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1)),
            space,
            patch_size=PATCH,
            mirror_axes=(0, 1),
            blends_laws=False,
            num_samples=num_samples,
            draws=sorted((one for draws in dealt for one in draws), key=lambda one: one.index),
            **options,
        )
        for handle in handles:
            handle.remove()
        return swept, sum(seen)

    return sweep


def room_for(monkeypatch, count: int) -> None:
    """Let one pass keep this many samples of ``SHAPE``."""
    monkeypatch.setattr(samples_module, "BYTES_OF_SAMPLES", count * 4 * torch.Size(SHAPE).numel())


def test_a_latent_u_net_runs_once_for_each_tile_and_view(draw, monkeypatch):
    """Its decoder alone runs for each sample, of the maps or whole."""
    networks = [random_network(ProbabilisticUNet)]
    _, of_maps = draw(networks, 0)
    many, of_many = draw(networks, 40)
    assert of_maps == of_many == NUM_TILES * len(VIEWS)
    room_for(monkeypatch, 8)
    # 32 are left of 40, ordered by view: four passes of one view each.
    in_passes, of_passes = draw(networks, 40)
    assert of_passes == NUM_TILES * (len(VIEWS) + 4)
    assert torch.equal(in_passes.samples, many.samples)
    assert (many.samples[0] - many.samples[4]).abs().mean() > 1e-3


def test_two_members_share_no_room(draw, monkeypatch):
    """They are swept one after the other, and what one has kept is free again."""
    networks = [random_network(ProbabilisticUNet), random_network(ProbabilisticUNet, latent_channels=2)]
    room_for(monkeypatch, 8)
    assert draw(networks, 16)[1] == NUM_TILES * len(VIEWS) * 2
    assert draw(networks, 18)[1] == NUM_TILES * (len(VIEWS) + 1) * 2


@pytest.mark.parametrize(
    ("num_samples", "num_saved", "more"),
    [(16, 8, 0), (16, 10, 2), (4, 4, 0), (6, 5, 1), (3, 4, 1)],
    ids=["two pairs of each view", "and two more", "one of each view", "one more", "a view that maps leave out"],
)
def test_a_denoised_sample_of_the_maps_is_not_denoised_again(draw, num_samples, num_saved, more):
    """A pair of samples in each view holds the whole samples that are dealt to it; one chain compares members."""
    networks = [random_network(DiffusionNetwork, **DIFFUSION)]
    assert draw(networks, 0, num_samples=num_samples)[1] == NUM_TILES * STEPS * (num_samples + 1)
    assert draw(networks, num_saved, num_samples=num_samples)[1] == NUM_TILES * STEPS * (num_samples + 1 + more)


@pytest.mark.parametrize(
    ("estimator", "num_saved", "more"), [("mc", 8, 0), ("mc", 10, 2), ("plug_in", 32, 0), ("plug_in", 33, 1)]
)
def test_members_denoise_whole_samples_of_their_own_once(draw, estimator, num_saved, more):
    """Two pairs of each view hold one sample of each of two members, and four independent samples four of theirs."""
    networks = [random_network(DiffusionNetwork, **DIFFUSION) for _ in range(2)]
    _, of_maps = draw(networks, 0, num_samples=16, estimator=estimator)
    _, found = draw(networks, num_saved, num_samples=16, estimator=estimator)
    assert found == of_maps + NUM_TILES * STEPS * more


@pytest.mark.parametrize("num_members", [1, 2])
@pytest.mark.parametrize("estimator", ["mc", "plug_in"])
def test_samples_that_maps_share_are_those_drawn_for_themselves(draw, monkeypatch, estimator, num_members):
    """The same noise: equal but for the rounding of samples that are denoised together. Maps do not see them."""
    networks = [random_network(DiffusionNetwork, **DIFFUSION)]
    for _ in range(1, num_members):
        networks.append(random_network(DiffusionNetwork, **DIFFUSION))
        networks[-1].output.bias.data.add_(torch.tensor([0.5, -0.5]))
    shared, _ = draw(networks, 9, num_samples=8, estimator=estimator)
    without, _ = draw(networks, 0, num_samples=8, estimator=estimator)
    assert torch.equal(shared.moments.mean, without.moments.mean)
    room_for(monkeypatch, 1)
    assert torch.equal(draw(networks, 1, num_samples=8, estimator=estimator)[0].samples, shared.samples[:1])
    in_passes, _ = draw(networks, 9, num_samples=8, estimator=estimator)
    torch.testing.assert_close(in_passes.samples, shared.samples, atol=1e-5, rtol=1e-4)
    monkeypatch.undo()
    monkeypatch.setattr(DenoisingLogits, "repeats_network", False)
    apart, _ = draw(networks, 9, num_samples=8, estimator=estimator)
    torch.testing.assert_close(apart.samples, shared.samples, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(apart.moments.mean, shared.moments.mean)
    spread = (shared.samples[:, None] - shared.samples[None]).abs().amax((2, 3, 4, 5))
    assert (spread + torch.eye(9) > 1e-3).all()


def test_maps_of_a_denoising_model_are_the_mean_of_the_samples_and_their_opposites(draw):
    """p̄ of every tile and view by hand, from the noise of the whole samples 0 to 7 and its negative."""
    network = random_network(DiffusionNetwork, **DIFFUSION)
    swept, _ = draw([network], 0, num_samples=16)
    image = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))
    weights, whole = tile_weights(PATCH), tuple(slice(0, size) for size in SHAPE)
    total, total_weight = torch.zeros(2, *SHAPE), torch.zeros(SHAPE)
    with torch.inference_mode():
        for tile in tiles(SHAPE, PATCH, 0.5):
            for index in range(8):
                view = VIEWS[index % 4]
                own = view.undo(voxel_noise(whole, 2, noise=NoiseKey(0), sample=index)[(slice(None), *tile)])[None]
                distribution = network.logit_distribution(view.of(image[(slice(None), *tile)][None]))
                logits = distribution.transform(torch.stack([own, -own]), torch.zeros(2, 1, 0))[:, 0]
                total[(slice(None), *tile)] += weights * view.undo(logits.softmax(1).mean(0)) / 8
            total_weight[tile] += weights
    torch.testing.assert_close(swept.moments.mean, (total / total_weight)[1:], atol=1e-5, rtol=1e-4)


def test_members_that_agree_have_no_epistemic_uncertainty_of_shared_noise(draw):
    """By independent samples of each they have some: whole samples of two members are never the same."""
    networks = [random_network(DiffusionNetwork, **DIFFUSION) for _ in range(2)]
    assert epistemic_map(draw(networks, 4)[0].moments).abs().max() < 1e-6
    assert epistemic_map(draw(networks, 4, estimator="plug_in")[0].moments).max() > 1e-5


class Local(torch.nn.Module):
    """A chain whose logits depend on a voxel's own intensity and noise."""

    def logit_distribution(self, x):
        return DenoisingLogits(
            lambda noisy, time: noisy * (1 + time) + torch.cat([x, -x], 1),
            (1, 2, *x.shape[2:]),
            device=x.device,
            schedule=NoiseSchedule(),
            num_steps=STEPS,
            num_mean_samples=1,
        )


def test_tiles_that_agree_on_a_denoising_model_change_nothing(draw):
    """Neither moments nor what their entropy lacks: no error averages out in overlaps, and none is taken to."""
    apart, overlapping = (draw([Local()], 3, num_samples=16, step_size=step)[0] for step in (1.0, 0.25))
    for name in ("mean", "expected_entropy", "second_moment", "lost_entropy"):
        found = [getattr(swept.moments, name) for swept in (apart, overlapping)]
        torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)
        assert found[0].abs().max() > 1e-3
    torch.testing.assert_close(apart.samples, overlapping.samples, atol=1e-5, rtol=1e-4)
