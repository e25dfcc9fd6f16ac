"""One contract for all distributions, against dense covariances in float64."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from nnunet_stochastic.distributions import DiagonalGaussian, PointMass

NUM_SAMPLES = 50_000


def test_samples_have_the_mean_and_the_dense_covariance(case) -> None:
    distribution = case.distribution()
    samples = case.samples(NUM_SAMPLES)
    mean, dense = distribution.mean_logits.flatten(), case.dense_covariance
    variance = dense.diagonal()
    assert ((samples.mean(0) - mean).abs() < 5.5 * (variance / NUM_SAMPLES).sqrt()).all()
    # Standard error of an entry of the covariance of a Gaussian (Isserlis).
    error = ((variance[:, None] * variance + dense**2) / NUM_SAMPLES).sqrt()
    assert ((samples.T.cov() - dense).abs() < 5.5 * error).all()


def test_voxel_covariance_is_the_block_of_the_dense_covariance(case) -> None:
    distribution = case.distribution()
    _, classes, *spatial = distribution.mean_logits.shape
    dense = case.dense_covariance.reshape(classes, -1, classes, torch.Size(spatial).numel())
    expected = dense.diagonal(dim1=1, dim2=3).reshape(classes, classes, *spatial)
    torch.testing.assert_close(distribution.voxel_covariance()[0], expected)
    torch.testing.assert_close(distribution.voxel_variance()[0], expected.diagonal(dim1=0, dim2=1).movedim(-1, 0))
    # Of the differences to the first logit, by the matrix that takes them.
    matrix = torch.eye(classes, dtype=expected.dtype)[1:]
    matrix[:, 0] = -1
    differences = torch.einsum("ic,cd...,jd->ij...", matrix, expected, matrix)
    for i, row in enumerate(distribution.difference_covariance()):
        assert len(row) == i + 1
        for j, entry in enumerate(row):
            torch.testing.assert_close(entry[0], differences[i, j], msg=f"entry {i}, {j}")


def test_diagonal_noise_has_its_factors(case) -> None:
    """η = μ + σ ∘ z1 + P z2."""
    distribution = case.distribution(batch=2)
    shares_noise = distribution.shared_noise_channels > 0
    assert distribution.has_diagonal_noise == (shares_noise or isinstance(distribution, DiagonalGaussian))
    if not distribution.has_diagonal_noise:
        with pytest.raises(ValueError, match="BasisGaussian moves several logits"):
            distribution.noise_factors()
        return
    std, factor = distribution.noise_factors()
    noise, shared = distribution.draw_noise(3), distribution.draw_shared_noise(3)
    expected = distribution.mean_logits + std * noise + torch.einsum("bcm...,kbm->kbc...", factor, shared)
    torch.testing.assert_close(distribution.transform(noise, shared), expected)


def test_given_shared_noise_the_noise_of_voxels_is_left(case) -> None:
    """p(η | z2) has the samples of p(η) with that z2."""
    distribution = case.distribution(batch=2)
    noise, shared = distribution.draw_noise(3), distribution.draw_shared_noise(3)
    laws = distribution.given_shared_noise(shared)
    assert len(laws) == 3
    for law, numbers, expected in zip(laws, noise, distribution.transform(noise, shared), strict=True):
        assert law.shared_noise_channels == 0
        torch.testing.assert_close(law.transform(numbers[None], shared[:1, :, :0])[0], expected)


def test_samples_are_differentiable_in_every_parameter(case) -> None:
    names = list(case.tensors)
    tensors = [case.tensors[name].clone().requires_grad_() for name in names]

    def sample(*values: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(3)
        return case.build(**dict(zip(names, values, strict=True))).rsample(2, generator=generator)

    assert gradcheck(sample, tensors)


def test_a_seed_gives_the_same_samples_one_by_one_or_together(case) -> None:
    distribution = case.distribution()
    again = distribution.rsample(3, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(
        distribution.rsample(3, generator=torch.Generator().manual_seed(5)), again, rtol=0, atol=0
    )
    assert (again[0] != again[1]).any()


def test_shared_noise_is_what_all_voxels_have_in_common(case) -> None:
    """Samples with the same shared noise differ by the noise of voxels alone: their difference has variance 2 d."""
    distribution = case.distribution()
    difference = (case.samples(4_000, seed=1, shared_seed=9) - case.samples(4_000, seed=2, shared_seed=9)).var(0)
    has_shared_noise = "cov_factor" in case.tensors or getattr(distribution, "noise_scope", "voxel") == "volume"
    own = case.tensors["diag_var"].flatten() if has_shared_noise else case.dense_covariance.diagonal()
    torch.testing.assert_close(difference, 2 * own, rtol=0.15, atol=0)


def test_batch_entries_are_independent_images(case) -> None:
    other = {name: tensor.flip(-3) + 0.5 * tensor for name, tensor in case.tensors.items()}
    both = case.build(**{name: torch.cat([case.tensors[name], other[name]]) for name in other})
    expected = torch.cat([case.distribution().voxel_covariance(), case.build(**other).voxel_covariance()])
    torch.testing.assert_close(both.voxel_covariance(), expected)
    samples = both.rsample(1_000, generator=torch.Generator().manual_seed(1)) - both.mean_logits
    first, second = samples[:, 0].flatten(1), samples[:, 1].flatten(1)
    correlation = torch.corrcoef(torch.cat([first, second], 1).T)[: first.shape[1], first.shape[1] :]
    assert correlation.abs().max() < 5.5 / 1_000**0.5


def test_half_precision_parameters_of_autocast_are_accepted(case) -> None:
    halves = {
        name: tensor.to(torch.bfloat16) if name in {"cov_factor", "basis_scale"} else tensor.float()
        for name, tensor in case.tensors.items()
    }
    distribution = case.build(**halves)
    assert distribution.rsample(2).dtype == torch.float32
    covariance = distribution.voxel_covariance()
    torch.testing.assert_close(covariance, case.distribution().voxel_covariance().float(), rtol=0.05, atol=0.05)
    variance = distribution.voxel_variance()
    assert variance.dtype == torch.float32
    torch.testing.assert_close(variance, covariance.diagonal(dim1=1, dim2=2).movedim(-1, 1))


def test_fields_of_another_shape_are_refused(case) -> None:
    for name in case.tensors.keys() - {"mean_logits", "partition_bases"}:
        with pytest.raises(ValueError, match=name):
            case.build(**(case.tensors | {name: case.tensors[name][..., :1, :]}))


def test_point_mass_repeats_the_mean() -> None:
    logits = torch.randn(2, 3, 4, 4)
    distribution = PointMass(logits)
    assert not distribution.has_samples
    torch.testing.assert_close(distribution.rsample(3), logits.expand(3, *logits.shape))
    assert distribution.voxel_covariance().shape == (2, 3, 3, 4, 4)
    assert not distribution.voxel_covariance().any()
    assert distribution.voxel_variance().shape == logits.shape
    assert not distribution.voxel_variance().any()


def test_logits_without_spatial_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one spatial axis"):
        PointMass(torch.zeros(2, 3))


def test_another_mean_leaves_the_covariance(case) -> None:
    """And the distribution as it was."""
    distribution = case.distribution()
    before = distribution.mean_logits.clone()
    moved = distribution.with_mean(before + 3)
    assert torch.equal(moved.mean_logits, before + 3)
    assert torch.equal(distribution.mean_logits, before)
    assert torch.equal(moved.voxel_covariance(), distribution.voxel_covariance())
    found, expected = (each.rsample(2, generator=torch.Generator().manual_seed(0)) for each in (moved, distribution))
    torch.testing.assert_close(found, expected + 3)
