"""How often the network runs for maps and whole samples: once for each tile and view where memory holds the samples."""

from __future__ import annotations

import pytest
import torch

from nnunet_stochastic.inference import samples as samples_module
from nnunet_stochastic.inference.samples import draws_of_members
from nnunet_stochastic.inference.sliding_window import mirrored_views
from nnunet_stochastic.networks import ProbabilisticUNet
from nnunet_stochastic.outcomes import OutcomeSpace

TWO = OutcomeSpace(2)
SHAPE, PATCH = (1, 8, 13), (8, 8)
VIEWS = mirrored_views((0, 1))
NUM_TILES = 3
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
