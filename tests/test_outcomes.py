import math

import pytest
import torch

from nnunet_stochastic.outcomes import OutcomeSpace

SPACES = [
    OutcomeSpace(2),
    OutcomeSpace(3),
    OutcomeSpace(6),
    OutcomeSpace(1, regions=True),
    OutcomeSpace(3, regions=True),
]


def names(space: OutcomeSpace) -> str:
    return f"{space.num_logits} {'regions' if space.regions else 'classes'}"


every_space = pytest.mark.parametrize("space", SPACES, ids=names)


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


@every_space
def test_greatest_entropy_is_that_of_equal_probabilities(space):
    equal = torch.full((space.num_channels, 1), 0.5 if space.scalar else 1 / space.num_logits)
    assert space.entropy(equal).item() == pytest.approx(space.greatest_entropy, abs=1e-6)


@every_space
def test_greatest_variance_is_that_of_certain_samples_that_disagree(space):
    certain = torch.eye(space.num_channels) if not space.scalar else torch.tensor([[0.0], [1.0]])
    assert certain.var(0, unbiased=False).sum().item() == pytest.approx(
        space.greatest_variance / (space.num_channels if space.scalar else 1), abs=1e-6
    )


def test_probabilities_are_softmax_or_sigmoid():
    logits = torch.randn(3, 4, 5)
    for space, expected in ((OutcomeSpace(3), logits.softmax(0)), (OutcomeSpace(3, regions=True), logits.sigmoid())):
        torch.testing.assert_close(space.probabilities(space.log_ratios(logits)), expected)
    two = OutcomeSpace(2)
    foreground = two.probabilities(two.log_ratios(logits[:2]))
    torch.testing.assert_close(foreground, logits[:2].softmax(0)[1:])
    torch.testing.assert_close(two.all_probabilities(foreground), logits[:2].softmax(0))


@pytest.mark.parametrize(
    ("space", "channels", "log_ratios"),
    [
        (OutcomeSpace(2), 1, 1),
        (OutcomeSpace(5), 5, 4),
        (OutcomeSpace(1, regions=True), 1, 1),
        (OutcomeSpace(2, regions=True), 2, 2),
    ],
)
def test_numbers_of_channels(space, channels, log_ratios):
    assert (space.num_channels, space.num_log_ratios) == (channels, log_ratios)
    logits = torch.randn(space.num_logits, 7)
    ratios = space.log_ratios(logits)
    assert ratios.shape == (log_ratios, 7)
    assert space.probabilities(ratios).shape == (channels, 7)
    assert space.all_probabilities(space.probabilities(ratios)).shape == (space.num_logits, 7)


@every_space
def test_log_ratios_of_logits_in_half_precision_are_differences_of_what_was_stored(space):
    logits = (30 * torch.randn(space.num_logits, 50)).half()
    expected = logits.double() if space.regions else logits.double()[1:] - logits.double()[:1]
    ratios = space.log_ratios(logits)
    assert ratios.dtype == torch.float32
    torch.testing.assert_close(ratios.double(), expected, rtol=1e-6, atol=0)


@every_space
def test_probabilities_come_back_from_their_log_ratios(space):
    log_ratios = 4 * torch.randn((space.num_log_ratios, 500), generator=torch.Generator().manual_seed(0))
    probabilities = space.probabilities(log_ratios)
    again = space.log_ratios_of_probabilities(probabilities)
    torch.testing.assert_close(space.probabilities(again), probabilities, atol=1e-6, rtol=1e-5)
    surely = (probabilities > 1e-3).all(0) & (probabilities < 0.999).all(0)
    assert surely.sum() > 50
    torch.testing.assert_close(again[:, surely], log_ratios[:, surely], atol=1e-3, rtol=0)


@every_space
def test_probabilities_of_0_and_1_have_finite_log_ratios(space):
    certain = torch.eye(space.num_channels)
    certain = torch.cat([certain, torch.zeros(space.num_channels, 1)], 1) if space.scalar else certain
    if space.scalar:
        certain = torch.cat([certain, torch.ones(space.num_channels, 1)], 1)
    before = certain.clone()
    log_ratios = space.log_ratios_of_probabilities(certain)
    assert log_ratios.isfinite().all()
    torch.testing.assert_close(space.probabilities(log_ratios), certain, atol=1e-6, rtol=0)
    assert torch.equal(certain, before)


def test_log_ratios_keep_small_probabilities_apart():
    """Else resampling would move the border of a structure that is nearly certain."""
    small = torch.logspace(-28, -1, 28, dtype=torch.float64)
    for space in (OutcomeSpace(2), OutcomeSpace(1, regions=True)):
        found = space.log_ratios_of_probabilities(small[None].float())[0]
        torch.testing.assert_close(found.double(), (small / (1 - small)).log(), rtol=1e-5, atol=0)
    three = torch.stack([1 - 2 * small, small, small]).float()
    found = OutcomeSpace(3).log_ratios_of_probabilities(three)
    torch.testing.assert_close(found.double(), (small / (1 - 2 * small)).log().expand(2, -1), rtol=1e-5, atol=1e-5)


def test_one_class_has_no_uncertainty():
    with pytest.raises(ValueError, match="at least one foreground label"):
        OutcomeSpace(1)
    with pytest.raises(ValueError, match="at least one foreground label"):
        OutcomeSpace(0, regions=True)


@pytest.mark.parametrize("count", [20, 80])
@pytest.mark.parametrize(
    ("space", "truth"),
    [
        (OutcomeSpace(2), [0.3]),
        (OutcomeSpace(3), [0.2, 0.3, 0.5]),
        (OutcomeSpace(4), [0.1, 0.2, 0.3, 0.4]),
        (OutcomeSpace(2, regions=True), [0.2, 0.6]),
    ],
    ids=lambda value: names(value) if isinstance(value, OutcomeSpace) else "",
)
def test_entropy_lost_is_the_measured_bias_of_a_mean_of_samples(space, truth, count):
    """Of K outcomes that are drawn one by one: H(truth) - E[H(mean of K)], with Var[p̄_c] = p_c (1 - p_c) / K."""
    generator, repetitions = torch.Generator().manual_seed(0), 400_000
    truth = torch.tensor(truth, dtype=torch.float64)
    if space.scalar:
        means = (
            torch.stack(
                [
                    torch.binomial(
                        torch.full((repetitions,), float(count)),
                        torch.full((repetitions,), float(p)),
                        generator=generator,
                    )
                    for p in truth
                ]
            ).double()
            / count
        )
    else:
        drawn = torch.multinomial(truth.float(), count * repetitions // 4, replacement=True, generator=generator)
        means = torch.nn.functional.one_hot(drawn, len(truth)).view(-1, count, len(truth)).sum(1).T.double() / count
    entropies = space.entropy(means)
    measured = float(space.entropy(truth[:, None]) - entropies.mean())
    expected = space.entropy_lost_by_sampling(truth[:, None], (truth * (1 - truth) / count)[:, None]).item()
    error = 4 * float(entropies.std()) / len(entropies) ** 0.5
    assert abs(measured - expected) < error + 0.06 * measured * 50 / count  # what is left is of second order
    assert measured > 10 * error
    classes = space.num_logits
    assert expected == pytest.approx((1 if space.regions else classes - 1) / (2 * count))  # Miller's (C - 1) / 2 K


@every_space
def test_entropy_lost_is_finite_and_at_least_0_where_means_are_certain(space):
    certain = torch.cat([torch.eye(space.num_channels), torch.zeros(space.num_channels, 1)], 1)
    lost = space.entropy_lost_by_sampling(certain, torch.zeros_like(certain))
    torch.testing.assert_close(lost, torch.zeros_like(lost))
    assert space.entropy_lost_by_sampling(certain, torch.full_like(certain, 1e-12)).isfinite().all()
