import math

import pytest
import torch

from nnunet_stochastic.moments import Moments, MomentSums, OutcomeSpace

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
