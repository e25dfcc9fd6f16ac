import math

import pytest
import torch

from nnunet_stochastic.distributions import (
    BasisGaussian,
    DiagonalGaussian,
    LogitDistribution,
    LowRankGaussian,
    PointMass,
    logistic_normal_moments,
)
from nnunet_stochastic.moments import Moments, MomentSums, OutcomeSpace, SampleSums

SPACES = [OutcomeSpace(2), OutcomeSpace(3), OutcomeSpace(1, regions=True), OutcomeSpace(3, regions=True)]
SHAPE = (6, 5)
TILES = [(slice(0, 4), slice(0, 5)), (slice(2, 6), slice(0, 5)), (slice(1, 5), slice(0, 5))]


def names(space: OutcomeSpace) -> str:
    return f"{space.num_logits} {'regions' if space.regions else 'classes'}"


@pytest.mark.parametrize(
    ("space", "probabilities", "expected"),
    [
        (OutcomeSpace(2), [0.5], math.log(2)),
        (OutcomeSpace(2), [0.0], 0.0),
        (OutcomeSpace(2), [0.9], 0.3250829733914482),
        (OutcomeSpace(3), [0.7, 0.2, 0.1], 0.8018185525433373),
        (OutcomeSpace(3), [1 / 3, 1 / 3, 1 / 3], math.log(3)),
        (OutcomeSpace(2, regions=True), [0.5, 1.0], math.log(2) / 2),
        (OutcomeSpace(2, regions=True), [0.9, 0.5], (0.3250829733914482 + math.log(2)) / 2),
    ],
)
def test_entropy_in_nats(space, probabilities, expected):
    entropy = space.entropy(torch.tensor(probabilities)[:, None])
    assert entropy.shape == (1,)
    assert entropy.item() == pytest.approx(expected, abs=1e-6)


def test_probabilities_are_softmax_or_sigmoid():
    logits = torch.randn(3, 4, 5)
    torch.testing.assert_close(OutcomeSpace(3).probabilities(logits), logits.softmax(0))
    torch.testing.assert_close(OutcomeSpace(3, regions=True).probabilities(logits), logits.sigmoid())
    two = OutcomeSpace(2)
    foreground = two.probabilities(logits[:2])
    torch.testing.assert_close(foreground, logits[:2].softmax(0)[1:])
    torch.testing.assert_close(two.all_probabilities(foreground), logits[:2].softmax(0))


def test_one_class_has_no_uncertainty():
    with pytest.raises(ValueError, match="at least one foreground label"):
        OutcomeSpace(1)


def reference(space, logits, weights, *, random):
    """Moments from all probabilities at once. ``logits``: (E, tiles, K, C, *T), float64."""
    num_members = logits.shape[0]
    total_weight = torch.zeros(SHAPE, dtype=torch.float64)
    for tile in TILES:
        total_weight[tile] += weights
    member_means, squares, entropies = [], torch.zeros_like(total_weight), torch.zeros_like(total_weight)
    for member in logits:
        mean = torch.zeros((space.num_channels, *SHAPE), dtype=torch.float64)
        for tile, samples in zip(TILES, member, strict=True):
            for sample in samples:
                if space.regions:
                    p = sample.sigmoid()
                else:
                    p = sample.softmax(0)[1:] if space.num_logits == 2 else sample.softmax(0)
                share = weights / len(samples) / total_weight[tile]
                mean[(slice(None), *tile)] += p * share
                squares[tile] += p.square().sum(0) * share / num_members
                entropies[tile] += entropy(space, p) * share
        member_means.append(mean)
    mean = torch.stack(member_means).mean(0)
    if num_members > 1:
        entropies = torch.stack([entropy(space, p) for p in member_means]).mean(0)
    if not random:
        squares = torch.stack([p.square().sum(0) for p in member_means]).mean(0)
    return mean, entropies, squares


def entropy(space, p):
    binary = -(p * p.log() + (1 - p) * (1 - p).log())
    if space.regions:
        return binary.mean(0)
    return binary[0] if space.num_logits == 2 else -(p * p.log()).sum(0)


def stream(space, logits, weights, *, random, tiles=None, flipped_axes=(), **options) -> Moments:
    sums = MomentSums(space, SHAPE, num_members=len(logits), random=random, **options)
    for member in logits:
        for index in tiles or range(len(TILES)):
            tile_sums = sums.tile_sums()
            for sample in member[index]:
                flipped = sample.flip([axis + 1 for axis in flipped_axes]) if flipped_axes else sample
                tile_sums.add(flipped, flipped_axes=flipped_axes)
            sums.add_tile(TILES[index], tile_sums, weights.float())
        sums.finish_member()
    return sums.moments()


@pytest.mark.parametrize("space", SPACES, ids=names)
@pytest.mark.parametrize(("num_members", "num_samples", "random"), [(1, 4, True), (3, 2, True), (3, 1, False)])
def test_streamed_moments_equal_the_reference(space, num_members, num_samples, random):
    torch.manual_seed(0)
    logits = 2 * torch.randn(num_members, len(TILES), num_samples, space.num_logits, 4, 5, dtype=torch.float64)
    weights = torch.rand(4, 5, dtype=torch.float64) + 0.1
    moments = stream(space, logits, weights, random=random)
    mean, expected_entropy, second_moment = reference(space, logits, weights, random=random)
    torch.testing.assert_close(moments.mean.double(), mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(moments.expected_entropy.double(), expected_entropy, atol=1e-6, rtol=0)
    torch.testing.assert_close(moments.second_moment.double(), second_moment, atol=1e-6, rtol=0)


def test_order_of_tiles_does_not_matter():
    logits, weights = torch.randn(2, len(TILES), 3, 3, 4, 5), torch.rand(4, 5) + 0.1
    first = stream(OutcomeSpace(3), logits, weights, random=True)
    second = stream(OutcomeSpace(3), logits, weights, random=True, tiles=[2, 0, 1])
    torch.testing.assert_close(first.mean, second.mean)
    torch.testing.assert_close(first.expected_entropy, second.expected_entropy)
    torch.testing.assert_close(first.second_moment, second.second_moment)


def test_flipped_views_are_flipped_back():
    logits, weights = torch.randn(1, len(TILES), 3, 3, 4, 5), torch.rand(4, 5) + 0.1
    plain = stream(OutcomeSpace(3), logits, weights, random=True)
    flipped = stream(OutcomeSpace(3), logits, weights, random=True, flipped_axes=(0, 1))
    torch.testing.assert_close(plain.mean, flipped.mean)
    torch.testing.assert_close(plain.second_moment, flipped.second_moment)


def test_a_constant_is_stitched_to_the_constant():
    constant = torch.tensor([0.3, -1.0, 0.7])[:, None, None].expand(3, 4, 5)
    logits = constant.expand(2, len(TILES), 3, 3, 4, 5)
    moments = stream(OutcomeSpace(3), logits, torch.rand(4, 5) + 1e-6, random=True)
    expected = constant[:, 0, 0].softmax(0)
    torch.testing.assert_close(moments.mean, expected[:, None, None].expand(3, *SHAPE))
    torch.testing.assert_close(moments.second_moment, expected.square().sum().expand(SHAPE))


def test_only_what_is_asked_for_is_kept():
    logits, weights = torch.randn(1, len(TILES), 1, 3, 4, 5), torch.ones(4, 5)
    moments = stream(OutcomeSpace(3), logits, weights, random=False, expected_entropy=False, second_moment=False)
    assert moments.expected_entropy is None
    assert moments.second_moment is None


@pytest.mark.parametrize("random", [True, False])
def test_certain_voxels_have_no_entropy_whatever_the_weights(random):
    """Rounding of the weights must not carry a mean of ones above 1."""
    logits = torch.tensor([-60.0, 60.0])[:, None, None].expand(2, len(TILES), 3 if random else 1, 2, 4, 5)
    for seed in range(20):
        weights = torch.rand(4, 5, generator=torch.Generator().manual_seed(seed)) + 1e-6
        moments = stream(OutcomeSpace(2), logits, weights, random=random)
        assert moments.mean.max() <= 1
        torch.testing.assert_close(moments.expected_entropy, torch.zeros(SHAPE), atol=1e-5, rtol=0)


def gaussian(name: str, channels: int) -> LogitDistribution:
    """One tile, (1, C, 4, 5), of a model with random parameters."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    mean, variance = 2 * normal(1, channels, 4, 5), 0.1 + torch.rand(1, channels, 4, 5, generator=generator)
    if name == "point mass":
        return PointMass(mean)
    if name == "diagonal":
        return DiagonalGaussian(mean, variance)
    if name == "low rank":
        return LowRankGaussian(mean, variance, normal(1, channels, 3, 4, 5))
    return BasisGaussian(mean, variance, normal(1, 3, 4, 5), normal(1, 2, 2, channels, 3), noise_scope=name)


def expectation(space: OutcomeSpace, distribution: LogitDistribution, **arguments) -> SampleSums:
    sums = SampleSums(space, square=True, entropy=True)
    sums.add_expectation(distribution, **arguments)
    return sums


MODELS = ["diagonal", "low rank", "voxel", "volume"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("space", [OutcomeSpace(2), OutcomeSpace(3, regions=True)], ids=names)
def test_expectation_is_the_limit_of_samples(space, name):
    distribution, count = gaussian(name, space.num_logits), 2_000
    sums = SampleSums(space, square=True, entropy=True)
    generator = torch.Generator().manual_seed(1)
    for _ in range(count // 500):
        for logits in distribution.rsample(500, generator=generator):
            sums.add(logits[0])
    exact = expectation(space, distribution, weight=7)
    assert exact.count == 7
    # p and H are within [0, 1] and [0, ln 2], so their standard deviations are at most ½ and ½ ln 2; p² sums P terms.
    for moment, deviation in (("probability", 0.5), ("square", 0.5 * space.num_channels), ("entropy", 0.35)):
        drawn, integrated = getattr(sums, moment) / count, getattr(exact, moment) / 7
        assert (drawn - integrated).abs().max() < 5 * deviation / count**0.5
        assert integrated.std() > deviation / count**0.5


@pytest.mark.parametrize("name", MODELS)
def test_expectation_of_two_classes_takes_the_variance_of_their_difference(name):
    distribution = gaussian(name, 2)
    difference = torch.tensor([-1.0, 1.0])
    mean = torch.einsum("i,i...->...", difference, distribution.mean_logits[0])
    variance = torch.einsum("i,j,ij...->...", difference, difference, distribution.voxel_covariance()[0])
    sums = expectation(OutcomeSpace(2), distribution)
    expected = logistic_normal_moments(mean, variance.sqrt())
    for total, moment in zip((sums.probability[0], sums.square, sums.entropy), expected, strict=True):
        torch.testing.assert_close(total, moment)


@pytest.mark.parametrize("space", [OutcomeSpace(2), OutcomeSpace(3, regions=True)], ids=names)
def test_expectation_of_a_point_mass_is_its_sample(space):
    distribution = gaussian("point mass", space.num_logits)
    sample = SampleSums(space, square=True, entropy=True)
    sample.add(distribution.mean_logits[0], flipped_axes=(1,))
    sums = expectation(space, distribution, flipped_axes=(1,))
    assert sums.count == sample.count
    for name in ("probability", "square", "entropy"):
        torch.testing.assert_close(getattr(sums, name), getattr(sample, name), atol=1e-6, rtol=1e-5)


def test_expectations_of_views_add_up():
    space, distribution = OutcomeSpace(2), gaussian("low rank", 2)
    mirrored = LowRankGaussian(
        distribution.mean_logits.flip(2), distribution.diag_var.flip(2), distribution.cov_factor.flip(3)
    )
    once = expectation(space, distribution)
    both = expectation(space, distribution, weight=2)
    both.add_expectation(mirrored, weight=3, flipped_axes=(0,))
    assert both.count == 5
    for name in ("probability", "square", "entropy"):
        torch.testing.assert_close(getattr(both, name), 5 * getattr(once, name))
    sums = MomentSums(space, (4, 5))
    sums.add_tile((slice(0, 4), slice(0, 5)), both, torch.rand(4, 5) + 0.1)
    sums.finish_member()
    moments = sums.moments()
    torch.testing.assert_close(moments.mean, once.probability)
    torch.testing.assert_close(moments.expected_entropy, once.entropy)


def test_expectation_of_logits_that_move_together_has_no_negative_variance():
    factor = 100 * torch.rand(1, 1, 4, 4, 5).expand(1, 2, 4, 4, 5)
    mean = torch.randn(1, 2, 4, 5)
    sums = expectation(OutcomeSpace(2), LowRankGaussian(mean, torch.full((1, 2, 4, 5), 1e-5), factor))
    torch.testing.assert_close(sums.probability, mean[0].softmax(0)[1:], atol=2e-3, rtol=0)


def test_expectation_is_refused_where_there_is_none():
    with pytest.raises(ValueError, match="two classes and for regions, here are 3 exclusive classes"):
        expectation(OutcomeSpace(3), gaussian("diagonal", 3))
    with pytest.raises(ValueError, match=r"mean_logits must be \(1, 3, \*T\)"):
        expectation(OutcomeSpace(3, regions=True), gaussian("diagonal", 2))
    with pytest.raises(ValueError, match="weight must be at least 1, got 0"):
        expectation(OutcomeSpace(2), gaussian("diagonal", 2), weight=0)


def test_misuse_is_an_error():
    space = OutcomeSpace(2)
    with pytest.raises(ValueError, match="one deterministic member"):
        MomentSums(space, SHAPE, num_members=1, random=False)
    sums = MomentSums(space, SHAPE, num_members=2)
    tile_sums = sums.tile_sums()
    tile_sums.add(torch.zeros(2, 4, 5))
    sums.add_tile(TILES[0], tile_sums, torch.ones(4, 5))
    with pytest.raises(ValueError, match="do not cover"):
        sums.finish_member()
    with pytest.raises(ValueError, match="0 of 2 members"):
        sums.moments()
