"""Each kernel against the function in plain torch whose numbers it has."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import nnunet_stochastic.kernels
from nnunet_stochastic import voxel_law
from nnunet_stochastic.certain_voxels import certain_class
from nnunet_stochastic.distributions import (
    BasisGaussian,
    LowRankGaussian,
    lattice_nodes,
    lattice_points,
    logistic_normal,
    tail_spread,
)
from nnunet_stochastic.distributions.logistic_normal import logistic_normal_moments
from nnunet_stochastic.inference import blending
from nnunet_stochastic.inference.blending import LawBlend
from nnunet_stochastic.inference.lattice_shifts import LATTICE, lattice_shifts
from nnunet_stochastic.inference.seeds import NoiseKey
from nnunet_stochastic.inference.stitching import Stitching
from nnunet_stochastic.inference.voxel_noise import voxel_noise
from nnunet_stochastic.kernels import use_kernels
from nnunet_stochastic.moments import MomentSums
from nnunet_stochastic.outcomes import OutcomeSpace
from nnunet_stochastic.voxel_law import fields_of_law, num_fields, sampled_moments

pytest.importorskip("triton", reason="Triton is not installed")


@pytest.mark.parametrize("start", [(0, 0, 0), (5, 3, 7), (0, 6, 1)])
def test_noise_is_that_of_torch_to_1e_6_of_itself(device, start):
    from nnunet_stochastic.kernels.voxel_noise import fill_with_voxel_noise

    size, sample, noise = (3, 7, 10), 5, NoiseKey(11, "a")
    tile = tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))
    found = torch.full((2, *size), torch.nan, device=device)
    fill_with_voxel_noise(found, start, sample << 12, noise.words("voxel noise"))
    expected = voxel_noise(tile, 2, noise=noise, sample=sample)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-6, atol=1e-7)


def test_noise_of_keys_with_high_bits(device):
    from nnunet_stochastic.kernels.voxel_noise import fill_with_voxel_noise

    noise = next(NoiseKey(seed) for seed in range(100) if max(NoiseKey(seed).words("voxel noise")) >> 31)
    found = torch.empty((1, 2, 4, 4), device=device)
    fill_with_voxel_noise(found, (0, 0, 0), 0, noise.words("voxel noise"))
    expected = voxel_noise((slice(0, 2), slice(0, 4), slice(0, 4)), 1, noise=noise, sample=0)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-6, atol=1e-7)


def test_moments_of_a_logistic_normal(device):
    """To 2e-6, through all three rules."""
    from nnunet_stochastic.kernels.logistic_normal import fill_logistic_normal_moments

    generator = torch.Generator().manual_seed(0)
    mean = torch.cat([8 * torch.randn(1500, generator=generator), torch.tensor([-60.0, 60.0, 0.0, 0.0, 3.0])])
    std = torch.cat([3 * torch.rand(1500, generator=generator), torch.tensor([0.0, 20.0, 0.0, 20.0, 1.25])])
    moments = [torch.empty_like(mean, device=device) for _ in range(3)]
    tables = logistic_normal._gauss_hermite(12), logistic_normal._kernels(), logistic_normal._NARROW
    fill_logistic_normal_moments(moments, mean.to(device), std.to(device), *tables)
    for found, expected in zip(moments, logistic_normal_moments(mean, std), strict=True):
        torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=2e-6)
    probability, square, _ = moments
    assert ((probability**2 <= square) & (square <= probability)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", [(5, 6, 9), (7, 9)], ids=str)
@pytest.mark.parametrize("model", ["basis", "single basis", "low rank"])
@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_the_law_of_classes(device, monkeypatch, classes, model, shape, dtype):
    """To 1e-6 of itself for two, 5e-5 for several, in whose factor rounding grows; partitions are unequal."""
    generator = torch.Generator().manual_seed(0)

    def normal(*channels):
        return torch.randn(1, *channels, generator=generator)

    mean, variance = normal(classes, *shape), normal(classes, *shape).square() + 0.1
    if model == "low rank":
        parameters = (mean, variance, normal(classes, 3, *shape))
    else:
        partitions = [1 if model == "single basis" else 2] * len(shape)
        parameters = (mean, variance, normal(3, *shape), normal(*partitions, classes, 3))
    parameters = [parameter.to(dtype) for parameter in parameters]
    kind = LowRankGaussian if model == "low rank" else BasisGaussian
    space = OutcomeSpace(classes)
    expected = fields_of_law(kind(*parameters), space)
    monkeypatch.setattr(voxel_law, "use_kernels", lambda tensor: True)
    monkeypatch.setattr(voxel_law, "_factor_of_law", None)
    found = fields_of_law(kind(*(parameter.to(device) for parameter in parameters)), space)
    assert found.dtype == torch.float32
    tolerance = 1e-6 if classes == 2 else 5e-5
    torch.testing.assert_close(found.cpu(), expected, rtol=tolerance, atol=tolerance)


SPACES = [OutcomeSpace(2), OutcomeSpace(3), OutcomeSpace(4), OutcomeSpace(5), OutcomeSpace(3, regions=True)]


@pytest.mark.parametrize("num_samples", [1, 7])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_moments_of_a_lattice(device, space, num_samples):
    """To 1e-5, at voxels that start anywhere, of fields that are a part of longer ones."""
    from nnunet_stochastic.kernels.lattice_moments import lattice_moments

    part, noise, free = range(6, 311), NoiseKey(3, "b"), space.num_log_ratios
    fields = 2 * torch.randn(
        num_fields(space, has_samples=True), 400, generator=torch.Generator().manual_seed(num_samples)
    )
    piece = fields.to(device)[:, part.start : part.stop]
    dimensions = 1 if space.scalar else free
    mean, entropy, square = lattice_moments(
        piece,
        lattice_points(num_samples, dimensions).to(piece),
        spread=tail_spread(num_samples, dimensions),
        first_voxel=part.start,
        key=noise.words(LATTICE),
        scalar=space.scalar,
        regions=space.regions,
    )
    shift = lattice_shifts(part, free, noise=noise)
    nodes = lattice_nodes(num_samples, shift[None] if space.scalar else shift)
    if space.scalar:
        nodes = ((numbers[0], weight) for numbers, weight in nodes)
    expected = sampled_moments(space, fields[:, part.start : part.stop], nodes)
    torch.testing.assert_close(mean.cpu(), expected.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(entropy.cpu(), expected.of_samples("entropy"), rtol=0, atol=1e-5)
    torch.testing.assert_close(square.cpu(), expected.of_samples("square"), rtol=0, atol=1e-5)


def test_kernels_are_for_cuda_alone(monkeypatch):
    assert not use_kernels(torch.zeros(1))
    with FakeTensorMode():
        assert not use_kernels(torch.zeros(1, device="cuda"))


def test_a_lack_of_triton_is_said_once(monkeypatch, capsys):
    monkeypatch.setattr(nnunet_stochastic.kernels, "find_spec", lambda name: None)
    installed = nnunet_stochastic.kernels._triton_is_installed
    installed.cache_clear()
    assert not installed()
    assert not installed()
    assert capsys.readouterr().out.count("Triton is not installed") == 1
    installed.cache_clear()


@pytest.mark.parametrize(
    ("space", "estimator"),
    [(OutcomeSpace(2), "exact"), *((OutcomeSpace(classes), "mc") for classes in (2, 3, 4, 5))],
)
@pytest.mark.parametrize("num_members", [1, 2])
def test_moments_of_a_blended_law(device, monkeypatch, space, estimator, num_members):
    """As those of torch to 1e-5, where the sums of one member adopt them and where they are added."""
    shape, generator = (3, 5, 7), torch.Generator().manual_seed(0)
    fields = 2 * torch.randn(num_fields(space, has_samples=True), *shape, generator=generator)
    fields[space.num_log_ratios :].abs_()
    fields[: space.num_log_ratios, 0] = -12  # voxels that are certain
    fields[space.num_log_ratios :, 0, 0] /= 10
    for k in range(1, space.num_logits):
        fields[: space.num_log_ratios, 1, k] = 24 * torch.eye(space.num_log_ratios)[:, k - 1 : k] - 12
        fields[space.num_log_ratios :, 1, k] /= 10
    if space.num_logits > 2:
        assert set(certain_class(space, fields.flatten(1)).tolist()) == {-1, *range(space.num_logits)}

    def moments(where):
        weights = torch.ones(shape, device=where)
        blend = LawBlend(
            space,
            Stitching(weights, weights),
            num_views=1,
            has_samples=True,
            estimator=estimator,
            num_samples=6,
            noise=NoiseKey(7),
        )
        adopts = blend.hands_over_moments and num_members == 1
        sums = MomentSums(space, shape, num_members=num_members, adopts=adopts, device=where)
        for _ in range(num_members):
            blend.fields.copy_(fields)
            blend.add_moments_to(sums)
        return sums.moments(), adopts

    expected, _ = moments("cpu")
    for module in (blending, logistic_normal):
        monkeypatch.setattr(module, "use_kernels", lambda tensor: True)
    found, adopts = moments(device)
    assert adopts == (num_members == 1)
    for name in ("mean", "expected_entropy", "second_moment"):
        torch.testing.assert_close(getattr(found, name).cpu(), getattr(expected, name), rtol=0, atol=1e-5)
