"""Samples drawn after one pass are those that passes over the tiles blend, of any number and within a budget."""

from __future__ import annotations

import weakref
from math import prod

import pytest
import torch

from nnunet_stochastic.distributions import DiagonalGaussian, LowRankGaussian
from nnunet_stochastic.inference import linear_samples, samples
from nnunet_stochastic.inference.linear_samples import fits_into_memory
from nnunet_stochastic.inference.samples import SampleDraw, draws_of_members
from nnunet_stochastic.inference.sliding_window import View, mirrored_views
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.outcomes import OutcomeSpace

TWO, THREE, REGIONS, MANY = OutcomeSpace(2), OutcomeSpace(3), OutcomeSpace(3, regions=True), OutcomeSpace(25)
SHAPE, PATCH = (8, 8, 13), (8, 8, 8)
VIEWS = tuple(mirrored_views((0, 2)))
NUM_TILES, RANK = 3, 3


class Network(torch.nn.Module):
    """Parameters that differ between the tiles and views of a voxel; counts its calls."""

    def __init__(self, channels: int, *, rank: int = RANK) -> None:
        super().__init__()
        self.channels, self.rank, self.calls = channels, rank, 0

    def logit_distribution(self, x):
        self.calls += 1
        ramp = torch.linspace(-1, 1, x.shape[-1]) + torch.linspace(0, 2, x.shape[2]).view(-1, 1, 1)
        mean = torch.stack([(x[0, 0] * (channel - 2) + ramp).sin() for channel in range(self.channels)])[None]
        var = 0.1 + mean.square()
        if not self.rank:
            return DiagonalGaussian(mean, var)
        return LowRankGaussian(mean, var, torch.stack([(mean + r * ramp).cos() for r in range(self.rank)], 2))


@pytest.fixture
def draw(sweeping):
    """Draws samples of all views: log-ratios (N, D, *S), and the calls of the network."""

    def sweep(space, count, *, rank=RANK, **options):
        network, data = Network(space.num_logits, rank=rank), torch.linspace(0, 3, prod(SHAPE)).view(1, *SHAPE)
        options = {"blends_laws": space is not MANY, "num_samples": 4, **options}
        draws = [SampleDraw(index, VIEWS) for index in range(count)]
        swept = sweeping.sweep(network, data, space, patch_size=PATCH, mirror_axes=(0, 2), draws=draws, **options)
        return swept.samples, network.calls

    return sweep


@pytest.mark.parametrize(
    ("space", "rank"), [(TWO, 3), (THREE, 3), (REGIONS, 3), (MANY, 3), (MANY, 0)], ids=lambda value: str(value)[-40:]
)
def test_samples_are_those_of_passes_over_the_tiles(draw, monkeypatch, space, rank):
    """The same noise and the same blend: equal but for rounding, 1e-5 of log-ratios up to 20."""
    after, calls = draw(space, 3, rank=rank)
    monkeypatch.setattr(linear_samples, "BYTES_OF_SAMPLES", 0)
    monkeypatch.setattr(samples, "BYTES_OF_SAMPLES", 0)
    blended, calls_of_passes = draw(space, 3, rank=rank)
    torch.testing.assert_close(after, blended, atol=1e-5, rtol=1e-5)
    assert (after[0] - after[1]).abs().mean() > 0.1
    assert calls == NUM_TILES * len(VIEWS)
    assert calls_of_passes == 3 * calls


def test_the_network_runs_once_for_any_number_of_samples(draw):
    few, calls = draw(TWO, 1)
    many, calls_of_many = draw(TWO, 40)
    assert calls == calls_of_many == NUM_TILES * len(VIEWS)
    assert torch.equal(many[:1], few)


@pytest.mark.parametrize("voxels", [1, 200])
def test_slabs_do_not_change_samples(draw, monkeypatch, voxels):
    whole, _ = draw(THREE, 2)
    monkeypatch.setattr(linear_samples, "_VOXELS", voxels)
    assert torch.equal(draw(THREE, 2)[0], whole)


def most_bytes(monkeypatch) -> list[int]:
    """The most bytes of sums that are alive at one time, kept up to date."""
    zeros, sums, most = Stitching.zeros, [], [0]

    def counting(self, *channels, **options):
        total = zeros(self, *channels, **options)
        sums.append(weakref.ref(total))
        most[0] = max(most[0], sum(tensor.nbytes for ref in sums if (tensor := ref()) is not None))
        return total

    monkeypatch.setattr(Stitching, "zeros", counting)
    return most


@pytest.mark.parametrize("space", [TWO, MANY], ids=["2", "25"])
@pytest.mark.parametrize("budget", [4, 30, 1000])
@pytest.mark.parametrize("count", [2, 9])
def test_what_is_kept_is_bounded(draw, monkeypatch, space, budget, count):
    """By the two budgets, or one sample if that is larger, beside what the maps take: here budgets of some volumes."""
    volume = 4 * prod(SHAPE)
    monkeypatch.setattr(linear_samples, "BYTES_OF_SAMPLES", budget * volume)
    monkeypatch.setattr(samples, "BYTES_OF_SAMPLES", budget * volume)
    with monkeypatch.context() as patch:
        most = most_bytes(patch)
        draw(space, 0)
    of_maps = most[0]
    most = most_bytes(monkeypatch)
    draw(space, count)
    num_fields = space.num_log_ratios * (1 + RANK) + space.num_logits
    kept = most[0] - of_maps
    if num_fields <= budget:
        assert kept == num_fields * volume
    else:
        assert kept <= max(budget, space.num_log_ratios) * volume
        assert kept >= space.num_log_ratios * volume


def test_members_that_are_swept_together_share_the_budget():
    law = LowRankGaussian(torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4), torch.zeros(1, 2, 16, 4, 4))
    shape = (200, 256, 256)  # 50 MiB a volume, and 1 + 16 + 2 volumes
    assert [fits_into_memory(law, TWO, shape, members=members) for members in (1, 2, 3)] == [True, True, False]
    assert not fits_into_memory(law, TWO, (600, 512, 512))


def test_samples_of_one_view_each_are_blended(sweeping):
    """As averaged probabilities have them: fields of all views would be those of another sample."""
    data, views = torch.rand(1, *SHAPE), (View(()), View((0,)))
    for blended in views:
        draws = [SampleDraw(0, (blended,), of_all_views=False)]
        sample = sweeping.sweep(Network(2), data, TWO, patch_size=PATCH, mirror_axes=(0,), draws=draws).samples
        alone = sweeping.sweep(Network(2), data, TWO, patch_size=PATCH, views=[blended], draws=draws).samples
        torch.testing.assert_close(sample, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_samples", [1, 2])
def test_samples_of_other_views_than_those_of_the_maps(sweeping, num_samples):
    """A map of one sample is of one view, while whole samples are dealt to all: each is of its own alone."""
    data, views = torch.rand(1, *SHAPE), [View(()), View((0,))]
    options = {"patch_size": PATCH, "blends_laws": False, "num_samples": num_samples}
    (draws,) = draws_of_members(2, 1, views, has_samples=True, blend_views=False)
    samples = sweeping.sweep(Network(2), data, TWO, mirror_axes=(0,), draws=draws, **options).samples
    for draw, sample in zip(draws, samples, strict=True):
        (view,) = draw.views
        alone = sweeping.sweep(Network(2), data, TWO, views=[view], draws=[SampleDraw(draw.index, (view,))], **options)
        torch.testing.assert_close(sample, alone.samples[0], atol=1e-5, rtol=1e-5)


def test_samples_of_all_views_are_drawn_after_one_pass_where_the_maps_have_fewer(draw):
    """Of many classes a map of one sample is of one view, and the samples are still of all four."""
    samples, calls = draw(MANY, 3, num_samples=1)
    assert calls == NUM_TILES * len(VIEWS)
    torch.testing.assert_close(samples, draw(MANY, 3, num_samples=4)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rank", [0, RANK])
def test_samples_of_one_view_each_take_no_pass_of_their_own(sweeping, monkeypatch, rank):
    """As averaged probabilities have them; what has no room is drawn by passes through its own views, bit for bit."""
    data, views = torch.rand(1, *SHAPE), list(VIEWS)
    (draws,) = draws_of_members(40, 1, views, has_samples=True, blend_views=False)

    def draw():
        network, options = Network(2, rank=rank), {"blends_laws": False, "num_samples": 4, "draws": draws}
        swept = sweeping.sweep(network, data, TWO, patch_size=PATCH, mirror_axes=(0, 2), **options)
        return swept.samples, network.calls

    together, calls = draw()
    assert calls == NUM_TILES * len(views)
    monkeypatch.setattr(samples, "BYTES_OF_SAMPLES", 8 * 4 * prod(SHAPE))
    apart, calls = draw()
    assert calls == NUM_TILES * (len(views) + 4)
    assert torch.equal(together, apart)
