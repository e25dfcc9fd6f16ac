import pytest
import torch

from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.sample_sums import SampleSums

TWO, THREE, REGIONS = OutcomeSpace(2), OutcomeSpace(3), OutcomeSpace(3, regions=True)


def names(space: OutcomeSpace) -> str:
    return f"{space.num_logits} {'regions' if space.regions else 'classes'}"


every_space = pytest.mark.parametrize("space", [TWO, THREE, REGIONS], ids=names)


def probabilities_of(space: OutcomeSpace, logits: torch.Tensor) -> torch.Tensor:
    """(K, P, *T) of logits (K, C, *T), written out."""
    if space.regions:
        return 1 / (1 + (-logits).exp())
    exponentials = logits.exp()
    p = exponentials / exponentials.sum(1, keepdim=True)
    return p[:, 1:] if space.num_logits == 2 else p


def entropy(space: OutcomeSpace, p: torch.Tensor) -> torch.Tensor:
    """Of probabilities (..., P, *T) with the channels along axis -3, in nats, written out."""
    binary = -(p * p.log() + (1 - p) * (1 - p).log())
    if space.regions:
        return binary.mean(-3)
    return binary.sum(-3) if space.two_classes else -(p * p.log()).sum(-3)


def summed(space, units, *, flipped_axes=()) -> SampleSums:
    sums = SampleSums(space, square=True, entropy=True, lost_entropy=True)
    for unit in units:
        sums.add(unit, flipped_axes=flipped_axes)
    return sums


@every_space
def test_averages_over_samples(space):
    logits = 2 * torch.randn(7, space.num_logits, 4, 5, dtype=torch.float64)
    moments = summed(space, [logits[:2], logits[2:4], logits[4:6], logits[6:]]).moments()
    p = probabilities_of(space, logits)
    torch.testing.assert_close(moments.mean.double(), p.mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(moments.square.double(), p.square().sum(1).mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(moments.entropy.double(), entropy(space, p).mean(0), atol=1e-6, rtol=0)


def test_flipped_views_are_flipped_back():
    logits = torch.randn(6, 3, 4, 5)
    plain = summed(THREE, logits.split(2)).moments()
    flipped = summed(THREE, logits.flip((2, 3)).split(2), flipped_axes=(0, 1)).moments()
    for name in ("mean", "square", "entropy", "lost_entropy"):
        torch.testing.assert_close(getattr(plain, name), getattr(flipped, name))
    assert not torch.allclose(plain.mean, plain.mean.flip(1))


def test_views_add_up():
    first, second = torch.randn(2, 3, 4, 5), torch.randn(4, 3, 4, 5)
    sums = SampleSums(THREE)
    sums.add(first)
    for unit in second.flip(2).split(2):
        sums.add(unit, flipped_axes=(0,))
    expected = torch.cat([first, second]).softmax(1).mean(0)
    torch.testing.assert_close(sums.moments().mean, expected)


def test_what_is_not_asked_for_is_not_summed():
    sums = SampleSums(THREE)
    sums.add(torch.randn(2, 3, 4, 5))
    moments = sums.moments()
    assert (moments.entropy, moments.square, moments.lost_entropy) == (None, None, None)


def test_one_unit_says_nothing_of_the_variance():
    assert summed(THREE, [torch.randn(2, 3, 4, 5)]).moments().lost_entropy is None


def estimates_of_variance(sizes, truth) -> tuple[torch.Tensor, torch.Tensor]:
    """Means of two classes' foreground from units of these sizes, and the estimate of their variance, from δ."""
    units = []
    for size in sizes:
        noise = truth["sd"] * torch.randn(1, 1, 400, 500, generator=truth["generator"])
        pair = torch.cat([truth["mean"] + noise, truth["mean"] - noise])[:size]
        units.append(torch.cat([torch.zeros_like(pair), pair], 1))
    moments = summed(TWO, units).moments()
    p = moments.mean[0]
    # δ = ½ Var (1 / p̄ + 1 / (1 - p̄))
    return p, 2 * moments.lost_entropy * p * (1 - p)


@pytest.mark.parametrize("sizes", [[1] * 10, [1, 1], [2] * 5, [2, 2], [2, 2, 2, 2, 1], [2] * 12 + [1] * 2])
def test_estimate_of_the_variance_is_unbiased(sizes):
    """Of 200,000 voxels with one law; nearly so where a few units are smaller than the others."""
    truth = {"mean": -1.0, "sd": 1.5, "generator": torch.Generator().manual_seed(3)}
    p, estimate = estimates_of_variance(sizes, truth)
    tolerance = 0.02 if len(set(sizes)) == 1 else 0.25
    assert float(estimate.mean()) == pytest.approx(float(p.var()), rel=tolerance)


def test_antithetic_pairs_are_known_to_err_less():
    truth = {"mean": 0.3, "sd": 1.0, "generator": torch.Generator().manual_seed(0)}
    pairs, singles = (estimates_of_variance(sizes, truth)[1].mean() for sizes in ([2] * 5, [1] * 10))
    assert pairs < 0.2 * singles


@every_space
@pytest.mark.parametrize("size", [1, 2])
def test_corrected_entropy_is_nearer_to_the_truth(space, size):
    """H of the mean of 10 samples, of 10,000 voxels with one law: δ makes up for most of what it lacks on average."""
    generator = torch.Generator().manual_seed(1)
    mean = torch.tensor([1.0, -2.0, 1.5]).view(-1, 1, 1)[: space.num_logits]
    truth = entropy(
        space,
        probabilities_of(space, mean + 2 * torch.randn(1_000_000, space.num_logits, 1, 1, generator=generator)).mean(0),
    )
    noise = 2 * torch.randn(10 // size, 1, space.num_logits, 100, 100, generator=generator)
    units = (mean + (torch.cat([noise, -noise], 1) if size == 2 else noise)).unbind()
    moments = summed(space, units).moments()
    plain = space.entropy(moments.mean).mean()
    corrected = plain + moments.lost_entropy.mean()
    error = abs(float(plain - truth))
    assert error > 0.002
    assert abs(float(corrected - truth)) < 0.25 * error


def test_samples_that_agree_lack_nothing():
    logits = 5 * torch.randn(3, 4, 5)
    lost = summed(THREE, [logits.expand(2, -1, -1, -1)] * 5).moments().lost_entropy
    assert lost.min() >= 0
    assert lost.max() < 1e-5


def test_views_that_disagree_are_no_noise():
    """All samples of a view agree: H(p̄) lacks nothing, however far the views are apart."""
    sums = SampleSums(THREE, lost_entropy=True)
    for view in 4 * torch.randn(4, 3, 4, 5):
        for _ in range(3):
            sums.add([view, view])
        sums.close_view()
    assert sums.moments().lost_entropy.max() < 1e-5


def test_variance_within_views_is_that_of_the_mean():
    """Of 200,000 voxels with one law per view; the last view, of one unit, counts as the others do."""
    generator = torch.Generator().manual_seed(5)
    sums = SampleSums(TWO, lost_entropy=True)
    for mean, units in ((-2.0, 5), (0.0, 5), (-1.0, 1)):
        for _ in range(units):
            logit = mean + torch.randn(1, 400, 500, generator=generator)
            sums.add([torch.cat([torch.zeros_like(logit), logit])])
        sums.close_view()
    moments = sums.moments()
    p = moments.mean[0]
    estimate = 2 * moments.lost_entropy * p * (1 - p)
    assert float(estimate.mean()) == pytest.approx(float(p.var()), rel=0.05)


def test_views_of_one_unit_say_nothing_of_the_variance():
    sums = SampleSums(THREE, lost_entropy=True)
    for view in torch.randn(4, 2, 3, 4, 5):
        sums.add(view)
        sums.close_view()
    assert sums.moments().lost_entropy is None
