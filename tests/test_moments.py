import pytest
import torch

from nnunet_stochastic.moments import Moments, MomentSums
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.voxel_law import VoxelMoments

SPACES = [OutcomeSpace(2), OutcomeSpace(3), OutcomeSpace(1, regions=True), OutcomeSpace(3, regions=True)]
SHAPE = (6, 5)
VOXELS = 30
PARTS = [slice(0, 7), slice(7, 20), slice(20, 30)]


def names(space: OutcomeSpace) -> str:
    return f"{space.num_logits} {'regions' if space.regions else 'classes'}"


every_space = pytest.mark.parametrize("space", SPACES, ids=names)


def probabilities_of(space, logits):
    """(..., P, n) of logits (..., C, n), written out."""
    if space.regions:
        return 1 / (1 + (-logits).exp())
    p = logits.exp() / logits.exp().sum(-2, keepdim=True)
    return p[..., 1:, :] if space.num_logits == 2 else p


def entropy(space, p):
    """(..., n) of probabilities (..., P, n) in nats, written out."""
    binary = -(p * p.log() + (1 - p) * (1 - p).log())
    if space.regions:
        return binary.mean(-2)
    return binary.sum(-2) if space.num_logits == 2 else -(p * p.log()).sum(-2)


def reference(space, logits, *, has_samples):
    """Moments from all probabilities at once. ``logits``: (E, K, C, n), float64."""
    p = probabilities_of(space, logits)
    of_members = p.mean(1)
    entropies = entropy(space, of_members).mean(0) if len(logits) > 1 else entropy(space, p).mean(1)[0]
    squares = (p if has_samples else of_members[:, None]).square().sum(2).mean((0, 1))
    return of_members.mean(0).view(-1, *SHAPE), entropies.view(SHAPE), squares.view(SHAPE)


def voxel_moments(space, logits, *, has_samples):
    """Of one member with logits (K, C, n), float32."""
    p = probabilities_of(space, logits)
    if not has_samples:
        return VoxelMoments(p.mean(0).float())
    return VoxelMoments(p.mean(0).float(), entropy(space, p).mean(0).float(), p.square().sum(1).mean(0).float())


def stream(space, logits, *, has_samples, parts=PARTS, **options) -> Moments:
    sums = MomentSums(space, SHAPE, num_members=len(logits), has_samples=has_samples, **options)
    for member in logits:
        for part in parts:
            sums.add(part, voxel_moments(space, member[..., part], has_samples=has_samples))
    return sums.moments()


@every_space
@pytest.mark.parametrize(("num_members", "num_samples", "has_samples"), [(1, 4, True), (3, 2, True), (3, 1, False)])
def test_streamed_moments_equal_the_reference(space, num_members, num_samples, has_samples):
    torch.manual_seed(0)
    logits = 2 * torch.randn(num_members, num_samples, space.num_logits, VOXELS, dtype=torch.float64)
    moments = stream(space, logits, has_samples=has_samples)
    mean, expected_entropy, second_moment = reference(space, logits, has_samples=has_samples)
    torch.testing.assert_close(moments.mean.double(), mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(moments.expected_entropy.double(), expected_entropy, atol=1e-6, rtol=0)
    torch.testing.assert_close(moments.second_moment.double(), second_moment, atol=1e-6, rtol=0)
    assert moments.samples_stand_in == (num_members == 1)


@every_space
@pytest.mark.parametrize("num_members", [1, 3])
def test_bounds_hold_at_every_voxel(space, num_members):
    """H(p̄) >= E[H] and E[p²] >= p̄²: all averages have one set of convex weights."""
    logits = 4 * torch.randn(num_members, 3, space.num_logits, VOXELS, dtype=torch.float64)
    moments = stream(space, logits, has_samples=True)
    assert (space.entropy(moments.mean) >= moments.expected_entropy - 1e-6).all()
    assert (moments.second_moment >= moments.mean.square().sum(0) - 1e-6).all()


def test_order_of_parts_and_members_does_not_matter():
    logits = torch.randn(2, 3, 3, VOXELS)
    first = stream(OutcomeSpace(3), logits, has_samples=True)
    second = stream(OutcomeSpace(3), logits.flip(0), has_samples=True, parts=[PARTS[2], PARTS[0], PARTS[1]])
    torch.testing.assert_close(first.mean, second.mean)
    torch.testing.assert_close(first.expected_entropy, second.expected_entropy)
    torch.testing.assert_close(first.second_moment, second.second_moment)


def test_lost_entropy_is_the_mean_over_the_members():
    sums = MomentSums(OutcomeSpace(2), SHAPE, num_members=2, lost_entropy=True)
    lost = torch.rand(2, VOXELS)
    for each in lost:
        mean = torch.rand(1, VOXELS)
        sums.add(slice(0, VOXELS), VoxelMoments(mean, torch.zeros(VOXELS), mean.square().sum(0), each))
    torch.testing.assert_close(sums.moments().lost_entropy, lost.mean(0).view(SHAPE))


def test_only_what_is_asked_for_is_kept():
    logits = torch.randn(1, 1, 3, VOXELS)
    moments = stream(OutcomeSpace(3), logits, has_samples=False, expected_entropy=False, second_moment=False)
    assert moments.expected_entropy is None
    assert moments.second_moment is None
    assert moments.lost_entropy is None
    torch.testing.assert_close(moments.mean.flatten(1), logits[0, 0].softmax(0))


@pytest.mark.parametrize("has_samples", [True, False])
def test_certain_voxels_have_no_entropy(has_samples):
    """Rounding of the sums must not carry a mean of ones above 1."""
    for num_members in range(2, 20):
        sums = MomentSums(OutcomeSpace(2), SHAPE, num_members=num_members, has_samples=has_samples)
        ones = torch.ones(1, VOXELS) - torch.rand(1, VOXELS) * 1e-7
        for _ in range(num_members):
            sums.add(slice(0, VOXELS), VoxelMoments(ones, torch.zeros(VOXELS), ones.square().sum(0)))
        moments = sums.moments()
        assert moments.mean.max() <= 1
        assert moments.mean.min() > 1 - 1e-6
        torch.testing.assert_close(moments.expected_entropy, torch.zeros(SHAPE), atol=1e-5, rtol=0)


@every_space
def test_the_mean_is_given_by_probabilities_or_by_log_ratios(space):
    logits = torch.randn(space.num_logits, *SHAPE)
    log_ratios = logits if space.regions else logits[1:] - logits[:1]
    probabilities = probabilities_of(space, logits.flatten(1)).view(-1, *SHAPE)
    by_ratios, by_probabilities = Moments(space, log_ratios=log_ratios), Moments(space, probabilities=probabilities)
    torch.testing.assert_close(by_ratios.mean, probabilities)
    assert by_ratios.mean_log_ratios is log_ratios
    torch.testing.assert_close(by_probabilities.mean_log_ratios, log_ratios, atol=1e-5, rtol=1e-5)
    assert by_probabilities.mean is probabilities
    with pytest.raises(ValueError, match="one of the two"):
        Moments(space)
    with pytest.raises(ValueError, match="one of the two"):
        Moments(space, probabilities=probabilities, log_ratios=log_ratios)


def test_cropping_takes_the_same_part_of_everything():
    space = OutcomeSpace(3)
    fields = {name: torch.rand(SHAPE) for name in ("expected_entropy", "second_moment", "lost_entropy")}
    moments = Moments(space, probabilities=torch.rand(3, *SHAPE), samples_stand_in=True, **fields)
    part = (slice(1, 4), slice(2, 5))
    cropped = moments.cropped(part)
    assert torch.equal(cropped.probabilities, moments.probabilities[:, 1:4, 2:5])
    for name, field in fields.items():
        assert torch.equal(getattr(cropped, name), field[1:4, 2:5])
    assert cropped.samples_stand_in
    ratios = Moments(space, log_ratios=torch.rand(2, *SHAPE)).cropped(part)
    assert ratios.log_ratios.shape == (2, 3, 3)
    assert ratios.expected_entropy is None


def test_misuse_is_an_error():
    space = OutcomeSpace(2)
    with pytest.raises(ValueError, match="one deterministic member"):
        MomentSums(space, SHAPE, num_members=1, has_samples=False)
    with pytest.raises(ValueError, match="num_members must be at least 1, got 0"):
        MomentSums(space, SHAPE, num_members=0)
    sums = MomentSums(space, SHAPE, num_members=2)
    sums.add(slice(0, 7), VoxelMoments(torch.rand(1, 7), torch.rand(7), torch.rand(7)))
    with pytest.raises(ValueError, match="7 voxels of members were added, and 60 are needed"):
        sums.moments()


def test_a_mean_in_half_precision_is_adopted_and_normalised():
    """Numbers in proportion to the probabilities; what is 0 stands for the least number of half precision."""
    space, shape = OutcomeSpace(6), (1, 2, 1)
    parts = torch.tensor([[16384, 8192, 8192, 0, 0, 0], [1024, 0, 0, 0, 0, 0.25]]).T.half()
    sums = MomentSums(space, shape, adopts=True)
    with pytest.raises(ValueError, match="adopt"):
        sums.add(slice(0, 2), VoxelMoments(parts.float(), torch.zeros(2), torch.zeros(2)))
    sums.adopt(VoxelMoments(parts, torch.tensor([0.5, 0.25]), torch.tensor([0.75, 1.0])))
    moments = sums.moments()
    assert moments.in_half_precision
    assert moments.shape == shape
    assert moments.probabilities.data_ptr() == parts.data_ptr()
    mean = moments.mean[:, 0, :, 0]
    torch.testing.assert_close(mean[:3, 0], torch.tensor([0.5, 0.25, 0.25]))
    assert float(mean[5, 1]) == pytest.approx(0.25 / 1024.25, rel=1e-5)
    torch.testing.assert_close(mean.sum(0), torch.ones(2))
    assert moments.mean_log_ratios.isfinite().all()
    assert moments.expected_entropy.flatten().tolist() == [0.5, 0.25]
    assert moments.second_moment.flatten().tolist() == [0.75, 1.0]
    with pytest.raises(ValueError, match="one member"):
        MomentSums(space, shape).adopt(VoxelMoments(parts))
