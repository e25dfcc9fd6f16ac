import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from nnunet_stochastic.maps import decompose_total, epistemic_map, variance_map
from nnunet_stochastic.moments import Moments
from nnunet_stochastic.outcomes import OutcomeSpace


def moments_of(space: OutcomeSpace, members: torch.Tensor) -> Moments:
    """Moments of members (E, P, *S)."""
    return Moments(
        space,
        probabilities=members.mean(0),
        expected_entropy=torch.stack([space.entropy(member) for member in members]).mean(0),
        second_moment=members.square().sum(1).mean(0),
    )


def random_members(space: OutcomeSpace, *shape: int) -> torch.Tensor:
    logits = 3 * torch.randn(5, space.num_logits, *shape)
    return torch.stack([space.probabilities(space.log_ratios(member)) for member in logits])


def resample(field: torch.Tensor) -> torch.Tensor:
    """Linear resampling of (channels, z, y, x) to another grid."""
    return F.interpolate(field[None], size=(9, 14, 5), mode="trilinear", align_corners=False)[0]


def test_members_that_disagree_surely():
    moments = moments_of(OutcomeSpace(2), torch.tensor([[[0.0, 0.2]], [[1.0, 0.2]]]))
    epistemic, variance = epistemic_map(moments), variance_map(moments)
    torch.testing.assert_close(epistemic, torch.tensor([math.log(2), 0.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(variance, torch.tensor([0.25, 0.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "space", [OutcomeSpace(2), OutcomeSpace(4), OutcomeSpace(3, regions=True)], ids=["2", "4", "regions"]
)
class TestIdentities:
    def test_variance_is_the_sum_of_variances(self, space):
        members = random_members(space, 6, 5, 4)
        expected = members.var(0, correction=0).sum(0)
        torch.testing.assert_close(variance_map(moments_of(space, members)), expected, atol=1e-6, rtol=0)

    def test_epistemic_is_the_mean_divergence_from_the_mean(self, space):
        members = random_members(space, 6, 5, 4).double()
        mean = members.mean(0)
        divergence = members * (members / mean).log()
        if space.regions or space.two_classes:
            divergence = divergence + (1 - members) * ((1 - members) / (1 - mean)).log()
        expected = divergence.sum(1).mean(0) / (space.num_channels if space.regions else 1)
        torch.testing.assert_close(epistemic_map(moments_of(space, members)), expected, atol=1e-6, rtol=0)

    def test_identical_members_have_neither(self, space):
        members = random_members(space, 6, 5, 4)[:1].expand(5, -1, -1, -1, -1)
        moments = moments_of(space, members)
        assert epistemic_map(moments).max() < 2e-6
        assert variance_map(moments).max() < 2e-6

    def test_after_resampling(self, space):
        members = random_members(space, 6, 5, 4)
        moments = moments_of(space, members)
        total = space.entropy(resample(moments.mean))
        resampled_epistemic = resample(epistemic_map(moments)[None])[0]
        assert (resampled_epistemic <= total + 1e-6).all()
        aleatoric, epistemic = decompose_total(total, resampled_epistemic)
        torch.testing.assert_close(aleatoric + epistemic, total)
        torch.testing.assert_close(epistemic, resampled_epistemic, atol=1e-6, rtol=0)
        assert (aleatoric >= 0).all()
        assert (aleatoric <= total).all()
        assert aleatoric.mean() > 0.01

    def test_resampled_log_ratios_leave_identical_members_without_epistemic(self, space):
        """The total is the entropy of the resampled mean, of which a sharp border has much; none of it is epistemic."""
        log_ratios = 3 * torch.randn(space.num_log_ratios, 6, 5, 4)
        members = space.probabilities(log_ratios)[None].expand(5, -1, -1, -1, -1)
        moments = moments_of(space, members)
        total = space.entropy(space.probabilities(resample(moments.mean_log_ratios)))
        aleatoric, epistemic = decompose_total(total, resample(epistemic_map(moments)[None])[0])
        assert epistemic.max() < 2e-6
        torch.testing.assert_close(aleatoric, total, atol=2e-6, rtol=0)
        assert (total - resample(moments.expected_entropy[None])[0]).abs().max() > 0.05

    def test_what_the_entropy_of_few_samples_lacks_is_added_where_samples_stand_in(self, space):
        """One member: E[H] is right on average, and H(p̄) too small. Several: all H(p̄_e) lack as much as H(p̄)."""
        members = random_members(space, 6, 5, 4)
        moments = moments_of(space, members)
        lost = 0.1 * torch.rand(6, 5, 4)
        one = replace(moments, lost_entropy=lost, samples_stand_in=True)
        torch.testing.assert_close(epistemic_map(one), epistemic_map(moments) + lost, atol=1e-6, rtol=0)
        several = replace(moments, lost_entropy=lost)
        assert torch.equal(epistemic_map(several), epistemic_map(moments))

    def test_mean_given_by_log_ratios(self, space):
        members = random_members(space, 6, 5, 4)
        moments = moments_of(space, members)
        by_ratios = replace(moments, probabilities=None, log_ratios=moments.mean_log_ratios)
        torch.testing.assert_close(epistemic_map(by_ratios), epistemic_map(moments), atol=1e-5, rtol=0)
        torch.testing.assert_close(variance_map(by_ratios), variance_map(moments), atol=1e-5, rtol=0)

    def test_resampling_bounds_the_resampled_members(self, space):
        members = random_members(space, 6, 5, 4)
        moments = moments_of(space, members)
        resampled = moments_of(space, torch.stack([resample(member) for member in members]))
        assert (epistemic_map(resampled) <= resample(epistemic_map(moments)[None])[0] + 1e-6).all()
        assert (variance_map(resampled) <= resample(variance_map(moments)[None])[0] + 1e-6).all()


def test_missing_moments_are_an_error():
    moments = Moments(OutcomeSpace(2), probabilities=torch.full((1, 3), 0.5))
    with pytest.raises(ValueError, match="expected_entropy"):
        epistemic_map(moments)
    with pytest.raises(ValueError, match="second_moment"):
        variance_map(moments)
