"""Voxels of many classes that are all but certain take no samples: bounds, and the same numbers everywhere else."""

from __future__ import annotations

import pytest
import torch

from nnunet_stochastic.certain_voxels import MOST_S, MOST_SH, certain_voxels
from nnunet_stochastic.distributions import (
    BasisGaussian,
    DiagonalGaussian,
    GaussianLogits,
    LowRankGaussian,
    PartOfLaw,
)
from nnunet_stochastic.inference import averaging
from nnunet_stochastic.inference.averaging import ProbabilityAverage
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import View
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.inference.voxel_noise import NoiseOfVoxels, voxel_noise
from nnunet_stochastic.outcomes import OutcomeSpace

CLASSES, SHAPE = 12, (6, 9, 10)
LAWS = ("diagonal", "low rank", "basis, voxel", "basis, volume")


def law(name: str, *, classes: int = CLASSES, share: float = 0.8) -> GaussianLogits:
    """A share of the voxels is certain of some class, the others are of all degrees."""
    generator = torch.Generator().manual_seed(len(name))

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    mean, count = normal(1, classes, *SHAPE), torch.Size(SHAPE).numel()
    height = torch.where(
        torch.rand(count, generator=generator) < share, 15.0, 9 * torch.rand(count, generator=generator)
    )
    mean.flatten(2)[0, torch.arange(count) % 5, torch.arange(count)] += height
    variance = 0.3 * torch.rand(1, classes, *SHAPE, generator=generator)
    if name == "diagonal":
        return DiagonalGaussian(mean, variance)
    if name == "low rank":
        return LowRankGaussian(mean, variance, 0.3 * normal(1, classes, 3, *SHAPE))
    scale, bases = 0.3 * normal(1, 4, *SHAPE), normal(1, 2, 2, 3, classes, 4)
    return BasisGaussian(mean, variance, scale, bases, noise_scope="voxel" if name == "basis, voxel" else "volume")


@pytest.mark.parametrize("name", LAWS)
def test_a_law_at_some_voxels_is_the_law_there(name: str) -> None:
    whole = law(name)
    voxels = torch.randperm(torch.Size(SHAPE).numel(), generator=torch.Generator().manual_seed(0))[:100]
    noise, shared = whole.draw_noise(3), whole.draw_shared_noise(3)
    part = PartOfLaw(whole, voxels)
    found = part.transform(noise.flatten(3)[..., voxels], shared)
    torch.testing.assert_close(found, whole.transform(noise, shared).flatten(3)[..., voxels], atol=2e-6, rtol=1e-5)
    assert torch.equal(part.mean_logits, whole.mean_logits.flatten(2)[..., voxels])
    places = torch.cat([places for places, _ in whole.at(voxels)])
    assert places.sort().values.tolist() == list(range(100))


@pytest.mark.parametrize("name", LAWS)
def test_variance_of_differences_is_that_of_the_covariance(name: str) -> None:
    distribution = law(name)
    for k in (0, 5):
        torch.testing.assert_close(
            distribution.difference_variance(k)[:, [c for c in range(CLASSES) if c != k]],
            GaussianLogits.difference_variance(distribution, k)[:, [c for c in range(CLASSES) if c != k]],
            atol=1e-5,
            rtol=1e-4,
        )


@pytest.mark.parametrize("name", LAWS)
def test_certain_voxels_are_those_of_the_bounds_with_the_moments_of_many_samples(name: str) -> None:
    distribution = law(name)
    mean, covariance = distribution.mean_logits[0].flatten(1).double(), distribution.voxel_covariance()[0].flatten(2)
    found = list(certain_voxels(distribution))
    index = torch.cat([voxels for voxels, _ in found])
    expected = []
    for n in range(mean.shape[1]):
        k = int(mean[:, n].argmax())
        others, entries = [j for j in range(CLASSES) if j != k], covariance[..., n].double()
        m = (mean[:, n] - mean[k, n])[others]
        v = (entries.diagonal() + entries[k, k] - 2 * entries[:, k])[others]
        s, h = (m + v).exp().sum(), ((m + v).exp() * ((m + 2 * v) ** 2 + v).sqrt()).sum()
        if s <= MOST_S and s * h <= MOST_SH:
            expected.append(n)
    assert index.sort().values.tolist() == expected
    assert 0.5 < len(expected) / mean.shape[1] < 0.95
    generator = torch.Generator().manual_seed(0)
    logits = torch.cat([distribution.rsample(500, generator=generator)[:, 0].flatten(2) for _ in range(6)])
    p = logits.double().softmax(1)
    samples = {"mean": p, "square": p.square().sum(1), "entropy": torch.special.entr(p).sum(1)}
    for key, bound in (("mean", 3e-6), ("square", 1.2e-5), ("entropy", 5.2e-5)):
        values = samples[key]
        estimate, error = values.mean(0), values.std(0) / len(values) ** 0.5
        for voxels, moments in found:
            closed = moments.mean if key == "mean" else moments.of_samples(key)
            assert ((estimate[..., voxels] - closed).abs() <= bound + 6 * error[..., voxels]).all(), key
    assert all((moments.mean.sum(0) - 1).abs().max() < 1e-6 for _, moments in found)


def test_voxels_have_the_noise_of_their_tile() -> None:
    for tile in ((slice(3, 9), slice(5, 14), slice(2, 12)), (4, slice(5, 14), slice(2, 12))):
        noise, options = NoiseKey(3), {"sample": 7, "purpose": "test"}
        whole = voxel_noise(tile, 5, noise=noise, **options)
        voxels = torch.randperm(whole[0].numel())[:40]
        assert torch.equal(NoiseOfVoxels(tile, voxels).draw(5, noise=noise, **options), whole.flatten(1)[:, voxels])


def average(distribution: GaussianLogits, *, count: int = 40, estimator: str = "mc"):
    """Two views of one tile, one of them flipped."""
    weights, views = torch.ones(SHAPE), (View(()), View((0, 2)))
    collector = ProbabilityAverage(
        OutcomeSpace(distribution.shape[1]),
        Stitching(weights, weights),
        samples_of_views=dict.fromkeys(views, count),
        num_members=1,
        num_views=2,
        estimator=estimator,
        corrected=True,
        expected_entropy=True,
        second_moment=True,
        noise=NoiseKey(0),
    )
    collector.start("fold_0", 0)
    tile = tuple(slice(0, length) for length in SHAPE)
    for view in views:
        collector.add_view(distribution, tile, view)
    collector.close_tile(tile)
    collector.finish()
    return {
        "mean": collector._mean,
        "entropy": collector._entropy,
        "square": collector._square,
        "lost": collector._lost,
    }


@pytest.mark.parametrize("name", LAWS)
def test_averages_are_those_without_skipping(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    distribution = law(name)
    certain = torch.zeros(SHAPE).flatten()
    certain[torch.cat([voxels for voxels, _ in certain_voxels(distribution)])] = 1
    in_views = certain.view(SHAPE), certain.view(SHAPE).flip((0, 2))
    sampled_alone, skipped = average(distribution, estimator="plug_in"), average(distribution)
    drawn = []
    units = ProbabilityAverage._units

    def counting(self, distribution, *arguments):
        drawn.append(distribution.shape[2:].numel())
        return units(self, distribution, *arguments)

    monkeypatch.setattr(ProbabilityAverage, "_units", counting)
    average(distribution)
    assert drawn == [len(certain) - int(certain.sum())] * 2
    monkeypatch.setattr(averaging, "certain_voxels", lambda _, **options: [])
    everywhere = average(distribution)
    never, always = (in_views[0] + in_views[1] == number for number in (0, 2))
    for key, found in skipped.items():
        torch.testing.assert_close(found[..., never], everywhere[key][..., never], atol=2e-6, rtol=1e-5)
        if key != "lost":
            assert (found - everywhere[key])[..., always].abs().quantile(0.99) < 1e-3
        assert torch.equal(sampled_alone[key], average(distribution, estimator="plug_in")[key])
    assert (skipped["lost"][always] == 0).all()


def test_all_voxels_may_be_certain() -> None:
    found = average(law("diagonal", share=1.0))
    assert (found["mean"].sum(0) - 1).abs().max() < 1e-5
    assert found["entropy"].max() < 1e-2
    assert (found["lost"] == 0).all()


def test_few_certain_voxels_are_sampled_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    distribution = law("low rank", share=0.1)
    assert list(certain_voxels(distribution))
    found = average(distribution)
    monkeypatch.setattr(averaging, "certain_voxels", lambda _, **options: [])
    assert torch.equal(found["mean"], average(distribution)["mean"])
