import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss

from nnunet_stochastic.distributions import (
    BasisGaussian,
    DiagonalGaussian,
    GaussianLogits,
    LowRankGaussian,
    PointMass,
    logistic_normal_moments,
)
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.voxel_law import (
    MAX_CLASSES,
    exact_moments,
    fields_of_law,
    law_with_noise,
    noise_free_moments,
    num_fields,
    sampled_moments,
)

MODELS = ["diagonal", "low rank", "voxel", "volume"]
SPACES = [
    OutcomeSpace(2),
    OutcomeSpace(3),
    OutcomeSpace(5),
    OutcomeSpace(1, regions=True),
    OutcomeSpace(3, regions=True),
]
SHAPE = (4, 5)


def names(space: OutcomeSpace) -> str:
    return f"{space.num_logits} {'regions' if space.regions else 'classes'}"


def gaussian(name: str, channels: int, *, dtype=torch.float32) -> GaussianLogits:
    """One tile, (1, C, 4, 5), of a model with random parameters."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    mean = 2 * normal(1, channels, *SHAPE)
    variance = 0.1 + torch.rand(1, channels, *SHAPE, generator=generator, dtype=dtype)
    if name == "point mass":
        return PointMass(mean)
    if name == "diagonal":
        return DiagonalGaussian(mean, variance)
    if name == "low rank":
        return LowRankGaussian(mean, variance, normal(1, channels, 3, *SHAPE))
    return BasisGaussian(mean, variance, normal(1, 3, *SHAPE), normal(1, 2, 2, channels, 3), noise_scope=name)


def covariance_of(distribution: GaussianLogits) -> torch.Tensor:
    """Σ_n at each voxel, (C, C, *S), written out from the parameters in float64."""
    covariance = torch.einsum(
        "ij,i...->ij...", torch.eye(distribution.shape[1]).double(), distribution.diag_var[0].double()
    )
    if isinstance(distribution, LowRankGaussian):
        factor = distribution.cov_factor[0].double()
        covariance = covariance + torch.einsum("ir...,jr...->ij...", factor, factor)
    if isinstance(distribution, BasisGaussian):
        rows, columns = (torch.arange(size) * 2 // size for size in SHAPE)
        bases = distribution.partition_bases[0].double()[rows][:, columns]  # (*S, C, R)
        factor = torch.einsum("yxcr,ryx->cryx", bases, distribution.basis_scale[0].double())
        covariance = covariance + torch.einsum("ir...,jr...->ij...", factor, factor)
    return covariance


def factor_of(space: OutcomeSpace, fields: torch.Tensor) -> torch.Tensor:
    """L as a dense matrix, (D, D, *S)."""
    free = space.num_log_ratios
    factor = torch.zeros(free, free, *fields.shape[1:], dtype=fields.dtype)
    entries = iter(fields[free:])
    for i in range(free):
        for j in [i] if space.scalar else range(i + 1):
            factor[i, j] = next(entries)
    assert next(entries, None) is None
    return factor


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("space", SPACES, ids=names)
def test_fields_are_mean_and_factor_of_the_differences(space, name):
    distribution = gaussian(name, space.num_logits)
    fields = fields_of_law(distribution, space)
    free = space.num_log_ratios
    assert fields.shape == (num_fields(space, has_samples=True), *SHAPE)
    assert fields.dtype == torch.float32
    difference = torch.eye(space.num_logits).double()
    if not space.regions:
        difference = difference[1:] - difference[:1]
    mean = torch.einsum("dc,c...->d...", difference, distribution.mean_logits[0].double())
    torch.testing.assert_close(fields[:free].double(), mean, atol=1e-5, rtol=0)
    covariance = torch.einsum("di,ij...,ej->de...", difference, covariance_of(distribution), difference)
    factor = factor_of(space, fields.double())
    product = torch.einsum("dk...,ek...->de...", factor, factor)
    if space.regions:  # each is looked at alone
        covariance = torch.einsum("dd...->d...", covariance)
        product = torch.einsum("dd...->d...", product)
    torch.testing.assert_close(product, covariance, atol=1e-5, rtol=1e-5)
    assert covariance.std() > 0.1


@pytest.mark.parametrize("space", SPACES, ids=names)
def test_fields_of_half_precision_are_those_of_the_same_numbers_in_float32(space):
    """What heads predict under autocast; a large factor's covariance is beyond the range of half precision."""
    numbers = gaussian("low rank", space.num_logits)
    mean, variance, factor = (
        tensor.half() for tensor in (numbers.mean_logits, numbers.diag_var, 300 * numbers.cov_factor)
    )
    fields = fields_of_law(LowRankGaussian(mean, variance, factor), space)
    assert fields.dtype == torch.float32
    expected = fields_of_law(LowRankGaussian(mean.float(), variance.float(), factor.float()), space)
    torch.testing.assert_close(fields, expected)
    assert expected[space.num_log_ratios :].max() > 300


@pytest.mark.parametrize("space", [*SPACES, OutcomeSpace(8)], ids=names)
def test_law_of_a_point_mass_is_its_logits(space):
    distribution = gaussian("point mass", space.num_logits)
    fields = fields_of_law(distribution, space)
    assert fields.shape == (num_fields(space, has_samples=False), *SHAPE)
    assert torch.equal(law_with_noise(space, fields, None), fields)
    moments = noise_free_moments(space, fields.flatten(1))
    logits = distribution.mean_logits[0].flatten(1)
    expected = logits.sigmoid() if space.regions else logits.softmax(0)
    torch.testing.assert_close(moments.mean, expected[1:] if space.two_classes else expected)
    assert (moments.entropy, moments.square, moments.lost_entropy) == (None, None, None)


@pytest.mark.parametrize(
    ("space", "number"),
    [
        (OutcomeSpace(2), 2),
        (OutcomeSpace(3), 5),
        (OutcomeSpace(5), 14),
        (OutcomeSpace(1, regions=True), 2),
        (OutcomeSpace(4, regions=True), 8),
    ],
    ids=lambda value: names(value) if isinstance(value, OutcomeSpace) else "",
)
def test_numbers_of_fields(space, number):
    assert num_fields(space, has_samples=True) == number
    assert num_fields(space, has_samples=False) == space.num_log_ratios


def test_the_law_of_many_classes_is_not_kept():
    with pytest.raises(ValueError, match=f"up to {MAX_CLASSES} classes, here are 6"):
        fields_of_law(gaussian("diagonal", 6), OutcomeSpace(6))


@pytest.mark.parametrize("space", SPACES, ids=names)
def test_law_with_noise_is_mean_plus_factor_times_noise(space):
    fields = fields_of_law(gaussian("low rank", space.num_logits), space)
    free = space.num_log_ratios
    noise = torch.randn(free, *SHAPE)
    expected = fields[:free] + torch.einsum("dk...,k...->d...", factor_of(space, fields), noise)
    torch.testing.assert_close(law_with_noise(space, fields, noise), expected)


@pytest.mark.parametrize("space", SPACES, ids=names)
def test_blending_is_linear(space):
    """Of a blend of laws with one noise: what the blend of their log-ratios is."""
    laws = [fields_of_law(gaussian(name, space.num_logits), space) for name in MODELS]
    weights, noise = torch.rand(len(laws), *SHAPE), torch.randn(space.num_log_ratios, *SHAPE)
    weights /= weights.sum(0)
    blend = sum(weight * law for weight, law in zip(weights, laws, strict=True))
    expected = sum(weight * law_with_noise(space, law, noise) for weight, law in zip(weights, laws, strict=True))
    torch.testing.assert_close(law_with_noise(space, blend, noise), expected)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("space", [OutcomeSpace(2), OutcomeSpace(3, regions=True)], ids=names)
def test_exact_moments_are_the_limit_of_samples_of_the_logits(space, name):
    """Of the distribution's own samples, which know nothing of laws per voxel."""
    distribution, count = gaussian(name, space.num_logits), 4_000
    generator = torch.Generator().manual_seed(1)
    logits = torch.cat([distribution.rsample(500, generator=generator)[:, 0] for _ in range(count // 500)]).double()
    p = logits.sigmoid() if space.regions else logits.softmax(1)[:, 1:]
    binary = torch.special.entr(p) + torch.special.entr(1 - p)
    drawn = {"mean": p, "square": p.square().sum(1), "entropy": binary.mean(1)}
    moments = exact_moments(space, fields_of_law(distribution, space).flatten(1))
    for moment, samples in drawn.items():
        samples = samples.flatten(-2)
        error = 5 * samples.std(0) / count**0.5 + 1e-4
        assert ((samples.mean(0) - getattr(moments, moment)).abs() < error).all(), moment
        assert getattr(moments, moment).std() > error.mean(), moment


@pytest.mark.parametrize("name", MODELS)
def test_exact_moments_of_two_classes_take_the_standard_deviation_of_their_difference(name):
    distribution = gaussian(name, 2)
    difference = torch.tensor([-1.0, 1.0]).double()
    mean = torch.einsum("i,i...->...", difference, distribution.mean_logits[0].double())
    variance = torch.einsum("i,j,ij...->...", difference, difference, covariance_of(distribution))
    moments = exact_moments(OutcomeSpace(2), fields_of_law(distribution, OutcomeSpace(2)).flatten(1))
    expected = logistic_normal_moments(mean.float().flatten(), variance.sqrt().float().flatten())
    for found, moment in zip((moments.mean[0], moments.square, moments.entropy), expected, strict=True):
        torch.testing.assert_close(found, moment, atol=2e-5, rtol=0)


def test_exact_moments_of_regions_are_means_and_sums_over_them():
    space = OutcomeSpace(3, regions=True)
    fields = fields_of_law(gaussian("low rank", 3), space).flatten(1)
    moments = exact_moments(space, fields)
    alone = [exact_moments(OutcomeSpace(1, regions=True), fields[[index, 3 + index]]) for index in range(3)]
    torch.testing.assert_close(moments.mean, torch.cat([each.mean for each in alone]), atol=2e-6, rtol=0)
    torch.testing.assert_close(moments.square, sum(each.square for each in alone), atol=5e-6, rtol=0)
    torch.testing.assert_close(moments.entropy, sum(each.entropy for each in alone) / 3, atol=5e-6, rtol=0)


def test_logits_that_move_together_have_no_negative_variance():
    factor = 100 * torch.rand(1, 1, 4, *SHAPE).expand(1, 2, 4, *SHAPE)
    mean = torch.randn(1, 2, *SHAPE)
    fields = fields_of_law(LowRankGaussian(mean, torch.full((1, 2, *SHAPE), 1e-5), factor), OutcomeSpace(2))
    assert (fields[1] >= 0).all()
    moments = exact_moments(OutcomeSpace(2), fields.flatten(1))
    torch.testing.assert_close(moments.mean.view(SHAPE), mean[0].softmax(0)[1], atol=2e-3, rtol=0)


def test_exact_moments_are_refused_where_there_are_none():
    fields = fields_of_law(gaussian("diagonal", 3), OutcomeSpace(3))
    with pytest.raises(ValueError, match="two classes and for regions, here are 3 exclusive classes"):
        exact_moments(OutcomeSpace(3), fields.flatten(1))


@pytest.mark.parametrize("weights", ["equal", "of voxels", "of channels"])
@pytest.mark.parametrize("space", SPACES, ids=names)
def test_sampled_moments_are_weighted_averages_over_the_noise(space, weights):
    if weights == "of channels" and not space.scalar:
        pytest.skip("its channels depend on all log-ratios")
    fields = fields_of_law(gaussian("low rank", space.num_logits), space).flatten(1)
    voxels = fields.shape[1]
    noise = torch.randn(6, space.num_log_ratios, voxels)
    shape = {"equal": (), "of voxels": (voxels,), "of channels": (space.num_channels, voxels)}[weights]
    weights = 0.5 + torch.rand(6, *shape) if shape else torch.ones(6)
    moments = sampled_moments(space, fields, zip(noise, weights, strict=True))
    p = torch.stack([space.probabilities(law_with_noise(space, fields, numbers)) for numbers in noise]).double()
    entropies = torch.special.entr(p)
    if space.scalar:
        entropies = entropies + torch.special.entr(1 - p)
    shares = (weights / weights.sum(0)).double().reshape(6, *[1] * (2 - len(shape)), *shape)
    mean, square, entropy = ((shares * moment).sum(0) for moment in (p, p.square(), entropies))
    torch.testing.assert_close(moments.mean.double(), mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(moments.square.double(), square.sum(0), atol=1e-6, rtol=0)
    expected = entropy.mean(0) if space.regions else entropy.sum(0)
    torch.testing.assert_close(moments.entropy.double(), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", ["diagonal", "low rank"])
@pytest.mark.parametrize("space", [OutcomeSpace(2), OutcomeSpace(2, regions=True)], ids=names)
def test_exact_moments_are_sampled_moments_at_the_nodes_of_a_quadrature(space, name):
    fields = fields_of_law(gaussian(name, 2), space).flatten(1)
    fields[space.num_log_ratios :] *= 0.5  # 40 nodes are enough
    nodes = [(torch.full((space.num_log_ratios, 1), z), weight) for z, weight in zip(*hermegauss(40), strict=True)]
    quadrature = sampled_moments(space, fields.double(), nodes)
    exact = exact_moments(space, fields)
    for moment in ("mean", "square", "entropy"):
        expected = getattr(quadrature, moment)
        torch.testing.assert_close(getattr(exact, moment).double(), expected, atol=1e-4, rtol=0)


def test_a_mean_of_ones_is_not_above_1():
    fields = torch.stack([torch.full((50,), 60.0), torch.rand(50)])
    moments = sampled_moments(OutcomeSpace(2), fields, zip(torch.randn(7, 1, 50), torch.rand(7), strict=True))
    assert moments.mean.max() <= 1
    assert OutcomeSpace(2).entropy(moments.mean).isfinite().all()
