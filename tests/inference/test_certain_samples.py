"""Samples of the classes that matter at a voxel: bounds, and the same numbers as samples of all."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nnunet_stochastic.certain_voxels import MOST_S, MOST_SH, MOST_V, are_certain, differences, moments_of_differences
from nnunet_stochastic.distributions import BasisGaussian, DiagonalGaussian, GaussianLogits, LowRankGaussian
from nnunet_stochastic.inference import view_samples
from nnunet_stochastic.inference.averaging import ProbabilityAverage
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.sliding_window import View
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.inference.voxel_noise import NoiseOfVoxels, voxel_noise
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.relevant_classes import MOST_LEFT_OUT, relevant_classes

CLASSES, SHAPE = 12, (6, 9, 10)
VOXELS = torch.Size(SHAPE).numel()
LAWS = ("diagonal", "low rank", "basis, voxel", "basis, volume", "basis, factor")


def law(name: str, *, classes: int = CLASSES, share: float = 0.8, apart: float = 0.0) -> GaussianLogits:
    """A share of the voxels is certain of some class, the others are of all degrees; beyond y = 4 classes lie apart."""
    generator = torch.Generator().manual_seed(len(name))

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    mean, count = normal(1, classes, *SHAPE), torch.Size(SHAPE).numel()
    height = torch.where(
        torch.rand(count, generator=generator) < share, 15.0, 9 * torch.rand(count, generator=generator)
    )
    mean.flatten(2)[0, torch.arange(count) % 5, torch.arange(count)] += height
    mean[:, 1::2, :, 5:] -= apart * torch.rand(mean[:, 1::2, :, 5:].shape, generator=generator)
    variance = 0.3 * torch.rand(1, classes, *SHAPE, generator=generator)
    if name == "diagonal":
        return DiagonalGaussian(mean, variance)
    if name == "low rank":
        return LowRankGaussian(mean, variance, 0.3 * normal(1, classes, 3, *SHAPE))
    rank = classes**2 if name == "basis, factor" else 4
    scale, bases = 0.6 / rank**0.5 * normal(1, rank, *SHAPE), normal(1, 2, 2, 3, classes, rank)
    return BasisGaussian(mean, variance, scale, bases, noise_scope="volume" if name == "basis, volume" else "voxel")


def of_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample the whole law, as those do that have no law of some logits."""
    for kind in (DiagonalGaussian, LowRankGaussian, BasisGaussian):
        monkeypatch.setattr(kind, "at", lambda self, voxels, classes: None)


def joined(distribution: GaussianLogits) -> tuple[Tensor, Tensor, Tensor]:
    """m, v and k of all voxels."""
    parts = [(mean, variance, classes) for _, mean, variance, classes in differences(distribution)]
    mean, variance, classes = zip(*parts, strict=True)
    return torch.cat(mean, 1), torch.cat(variance, 1), torch.cat(classes)


@pytest.mark.parametrize("name", LAWS)
def test_some_logits_are_those_of_the_whole_by_its_noise(name: str) -> None:
    whole, generator = law(name), torch.Generator().manual_seed(0)
    voxels = torch.randint(VOXELS, (200,), generator=generator)
    classes = torch.randint(CLASSES, (200,), generator=generator)
    noise, shared = whole.draw_noise(3), whole.draw_shared_noise(3)
    expected = whole.transform(noise, shared)[:, 0].flatten(2)[:, classes, voxels]
    some, own = whole.at(voxels, classes), noise[:, 0].flatten(2)
    found = some.mean.expand(3, -1)
    if some.std is not None:
        found = found + some.std * own[:, classes, voxels]
    if some.first_channel is None:
        found = found + shared[:, 0] @ some.factor
    else:
        channels = slice(some.first_channel, some.first_channel + len(some.factor))
        found = found + (own[:, channels][..., voxels] * some.factor).sum(1)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    assert (some.std is None) == (name == "basis, factor")
    assert (some.first_channel is None) == (name in ("diagonal", "low rank", "basis, volume"))


@pytest.mark.parametrize("name", LAWS)
def test_variance_of_differences_is_that_of_the_covariance(name: str) -> None:
    distribution = law(name)
    classes = torch.randint(CLASSES, (1, *SHAPE), generator=torch.Generator().manual_seed(0))
    found = distribution.difference_variance(classes)
    torch.testing.assert_close(found, GaussianLogits.difference_variance(distribution, classes), atol=1e-5, rtol=1e-4)
    covariance = distribution.voxel_covariance()[0].flatten(2)
    n, k = 17, int(classes.flatten()[17])
    for j in range(CLASSES):
        expected = covariance[j, j, n] + covariance[k, k, n] - 2 * covariance[j, k, n]
        assert float(found[0, j].flatten()[n]) == pytest.approx(float(expected), abs=1e-5, rel=1e-4)


@pytest.mark.parametrize("name", LAWS)
def test_certain_voxels_are_those_of_the_bounds_with_the_moments_of_many_samples(name: str) -> None:
    distribution = law(name)
    mean, covariance = distribution.mean_logits[0].flatten(1).double(), distribution.voxel_covariance()[0].flatten(2)
    m_found, v_found, k_found = joined(distribution)
    expected = []
    for n in range(VOXELS):
        k = int(mean[:, n].argmax())
        assert k == k_found[n]
        others, entries = [j for j in range(CLASSES) if j != k], covariance[..., n].double()
        m = (mean[:, n] - mean[k, n])[others]
        v = (entries.diagonal() + entries[k, k] - 2 * entries[:, k])[others]
        s, h = (m + v).exp().sum(), ((m + v).exp() * ((m + 2 * v) ** 2 + v).sqrt()).sum()
        if s <= MOST_S and s * h <= MOST_SH and v.max() <= MOST_V:
            expected.append(n)
    voxels = are_certain(m_found, v_found).nonzero().squeeze(1)
    assert voxels.tolist() == expected
    assert 0.5 < len(expected) / VOXELS < 0.95
    found = moments_of_differences(m_found[:, voxels], v_found[:, voxels], k_found[voxels])
    generator = torch.Generator().manual_seed(0)
    logits = torch.cat([distribution.rsample(500, generator=generator)[:, 0].flatten(2) for _ in range(6)])
    p = logits.double().softmax(1)
    samples = {"mean": p, "square": p.square().sum(1), "entropy": torch.special.entr(p).sum(1)}
    for key, bound in (("mean", 3e-6), ("square", 1.2e-5), ("entropy", 5.2e-5)):
        values = samples[key]
        estimate, error = values.mean(0)[..., voxels], values.std(0)[..., voxels] / len(values) ** 0.5
        closed = found.mean if key == "mean" else found.of_samples(key)
        assert ((estimate - closed).abs() <= bound + 6 * error).all(), key
    assert (found.mean.sum(0) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("name", LAWS)
def test_what_is_left_out_has_the_probability_of_the_bound(name: str) -> None:
    """Samples with and without the classes that are left out, to which their first-order terms are added."""
    distribution = law(name, share=0.0, apart=40.0)
    mean, variance, classes = joined(distribution)
    relevant, terms = relevant_classes(mean, variance, classes)
    assert torch.equal(terms, torch.where(relevant, 0, (mean + variance / 2).exp()))
    assert terms.sum(0).max() <= MOST_LEFT_OUT
    assert relevant.T[torch.arange(VOXELS), classes].all()
    assert 2 < relevant.sum(0).float().mean() < CLASSES - 1
    # A class that is left in is wide, or would have been too much by the steps of the limit.
    assert relevant[variance > MOST_V].all()
    narrow = relevant & (variance <= MOST_V)
    least = torch.where(narrow, (mean + variance / 2).exp(), math.inf).scatter_(0, classes[None], math.inf).amin(0)
    beyond = least.isfinite()
    assert (least[beyond] > MOST_LEFT_OUT / 4 / CLASSES).all()
    logits = distribution.rsample(400, generator=torch.Generator().manual_seed(0))[:, 0].flatten(2).double()
    p, q = logits.softmax(1), logits.masked_fill(~relevant, -math.inf).softmax(1)
    entropies = [torch.special.entr(values).sum(1) for values in (p, q)]
    p_k = q.mean(0).gather(0, classes[None])
    of_left_out = terms * p_k
    mean_of_q = q.mean(0).scatter_add(0, classes[None], -of_left_out.sum(0, keepdim=True)) + of_left_out
    added = (of_left_out * (1 - entropies[1].mean(0)) + torch.special.entr(of_left_out)).sum(0)
    distance, epsilon = 1.5 * MOST_LEFT_OUT, MOST_LEFT_OUT
    of_mean = distance * (1 + math.log(CLASSES / distance))
    of_samples = epsilon * (1 + 2 * math.log(CLASSES / epsilon) - math.log(1 / epsilon))
    assert max(of_mean, of_samples) < 5e-5

    def excess(values: Tensor, expected: Tensor | float) -> Tensor:
        """What the mean over samples is further from a number than five times its error."""
        return (values.mean(0) - expected).abs() - 5 * values.std(0) / len(values) ** 0.5

    assert excess(p - q, mean_of_q - q.mean(0)).max() <= distance
    assert excess(p.square().sum(1) - q.square().sum(1), 0).max() <= 2 * epsilon
    assert excess(entropies[0] - entropies[1], added).max() <= of_samples
    typical = (torch.special.entr(p.mean(0)).sum(0) - torch.special.entr(mean_of_q).sum(0)).abs()
    assert typical.quantile(0.9) <= of_mean
    # The terms are worth adding: without them logarithms of probabilities would be of none.
    seen = ~relevant & (p.mean(0) > 1e-9)
    assert int(seen.sum()) > 50
    assert (mean_of_q[seen].log() - p.mean(0)[seen].log()).abs().median() < 0.2


def test_wide_classes_are_sampled_beside_samples() -> None:
    """The expectation of e^d is carried by values that few samples reach: its logarithm stands out from theirs."""
    mean = torch.tensor([-1e4, -40.0, -40.0, -40.0])[:, None]
    variance = torch.tensor([0.0, 1.0, MOST_V, MOST_V + 0.01])[:, None]
    relevant, terms = relevant_classes(mean, variance, torch.tensor([0]))
    assert relevant[:, 0].tolist() == [True, False, False, True]
    assert float(terms[3]) == 0
    assert not are_certain(mean, variance)[0]
    assert are_certain(mean[:3], variance[:3])[0]


def test_logits_that_are_no_numbers_are_not_left_out() -> None:
    distribution = law("diagonal", apart=40.0)
    distribution.mean_logits[0, 7, 2, 3, 4] = math.nan
    found = average(distribution)
    assert found["mean"][:, 2, 3, 4].isnan().all()
    assert int(found["mean"].isnan().any(0).sum()) <= 2  # itself, and where the flipped view has it


def test_voxels_have_the_noise_of_their_tile() -> None:
    for tile in ((slice(3, 9), slice(5, 14), slice(2, 12)), (4, slice(5, 14), slice(2, 12))):
        noise, options = NoiseKey(3), {"purpose": "test"}
        whole = torch.stack([voxel_noise(tile, 9, noise=noise, sample=n, **options) for n in (7, 8)]).flatten(2)
        voxels = torch.randperm(whole.shape[-1], generator=torch.Generator().manual_seed(0))[:40]
        drawn = NoiseOfVoxels(tile, voxels).draw(range(2, 5), range(7, 9), noise=noise, **options)
        assert torch.equal(drawn, whole[:, 2:5, voxels])
        classes = torch.arange(40) % 7
        drawn = NoiseOfVoxels(tile, voxels, classes).draw(range(1, 3), range(7, 9), noise=noise, **options)
        assert torch.equal(drawn[:, 0], whole[:, classes + 1, voxels])
        assert torch.equal(drawn[:, 1], whole[:, classes + 2, voxels])
        with pytest.raises(ValueError, match="at most 4096 channels"):
            NoiseOfVoxels(tile, voxels, classes + 4090).draw(range(1), range(1), noise=noise)


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


@pytest.mark.parametrize(
    ("name", "count"), [*((name, 40) for name in LAWS), ("basis, voxel", 5), ("low rank", 2), ("diagonal", 1)]
)
def test_averages_are_those_of_all_classes(monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> None:
    distribution = law(name, apart=40.0)
    mean, variance, classes = joined(distribution)
    certain = are_certain(mean, variance).view(SHAPE)
    needed = relevant_classes(mean, variance, classes)[0].all(0).view(SHAPE) & ~certain
    monkeypatch.setattr(view_samples, "_SAMPLES_TO_PICK", 0)  # picked out, whatever that costs
    alone, found = average(distribution, estimator="plug_in", count=count), average(distribution, count=count)
    monkeypatch.setattr(view_samples, "_LOGITS_AT_ONCE", 2000)  # several groups
    in_groups = average(distribution, count=count)
    of_all_classes(monkeypatch)
    expected = average(distribution, count=count)
    never, always = ~(certain | certain.flip((0, 2))), certain & certain.flip((0, 2))
    whole = needed & needed.flip((0, 2))
    assert 5 < int(whole.sum()) < int(never.sum())
    for key, values in found.items():
        torch.testing.assert_close(in_groups[key], values, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(values[..., whole], expected[key][..., whole], atol=3e-6, rtol=1e-4)
        if key != "lost":
            assert (values - expected[key])[..., never].abs().max() < 2e-4  # of some samples: no bound holds
            assert (values - expected[key])[..., never].abs().mean() < 1e-5
            if count == 40:
                assert (values - expected[key])[..., always].abs().quantile(0.99) < 1e-3
        assert torch.equal(alone[key], average(distribution, estimator="plug_in", count=count)[key])
    assert (found["lost"][always] == 0).all()


@pytest.mark.parametrize("name", LAWS)
def test_logarithms_of_the_mean_are_those_of_all_classes(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A mean is resampled, and calibrated, by its logarithms: no class may have a probability of 0 there."""
    distribution = law(name, share=0.0, apart=20.0)
    mean, variance, classes = joined(distribution)
    relevant = relevant_classes(mean, variance, classes)[0].view(-1, *SHAPE)
    found = average(distribution, count=400)["mean"].log()
    of_all_classes(monkeypatch)
    expected = average(distribution, count=400)["mean"].log()
    left_out = ~relevant & ~relevant.flip((1, 3))
    assert int(left_out.sum()) > 20
    assert (found - expected)[left_out].abs().max() < 4
    assert (found - expected)[left_out].abs().median() < 0.25


def test_all_logits_are_sampled_where_that_is_cheaper(monkeypatch: pytest.MonkeyPatch) -> None:
    distribution, units = law("low rank", share=0.0), []
    drawn = ProbabilityAverage._units
    monkeypatch.setattr(ProbabilityAverage, "_units", lambda *arguments: units.append(1) or drawn(*arguments))
    average(distribution, count=40)
    assert not units
    found = average(distribution, count=4)
    assert len(units) == 2
    of_all_classes(monkeypatch)
    assert torch.equal(found["mean"], average(distribution, count=4)["mean"])


@pytest.mark.parametrize("name", LAWS)
def test_parameters_may_be_of_other_widths(name: str) -> None:
    narrow = law(name)
    wide = law(name)
    for field in ("_mean_logits", "diag_var", "_std", "cov_factor", "basis_scale", "partition_bases"):
        if hasattr(wide, field):
            setattr(wide, field, getattr(wide, field).double())
    wide.dtype = torch.float64
    vars(wide).pop("_cholesky", None)
    for key, values in average(wide).items():
        torch.testing.assert_close(values.float(), average(narrow)[key], atol=2e-5, rtol=1e-4)


def test_only_classes_that_matter_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    distribution, drawn = law("low rank", apart=40.0), []
    mean, variance, classes = joined(distribution)
    uncertain = ~are_certain(mean, variance)
    at = LowRankGaussian.at
    monkeypatch.setattr(
        LowRankGaussian, "at", lambda self, voxels, classes: drawn.append(len(voxels)) or at(self, voxels, classes)
    )
    average(distribution)
    drawn = [number for number in drawn if number]  # it was asked whether it has such a law
    assert drawn == [int(relevant_classes(mean, variance, classes)[0][:, uncertain].sum())] * 2
    assert drawn[0] < CLASSES * int(uncertain.sum()) * 0.8


def test_all_voxels_may_be_certain() -> None:
    found = average(law("diagonal", share=1.0))
    assert (found["mean"].sum(0) - 1).abs().max() < 1e-5
    assert found["entropy"].max() < 1e-2
    assert (found["lost"] == 0).all()
