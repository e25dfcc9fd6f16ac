"""Lattice samples: even in each coordinate, standard normal one by one, and what averages over them are worth.

The table is the relative bias of what the maps of one member hold, over means of the logit from -6 to 6. For
independent samples of two classes the worst biases of H(p̄) at standard deviations of 1, 2 and 4 are, in percent,

    K = 10: -1.9, -5.8, -9.4      K = 30: -0.8, -2.4, -3.2
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from nnunet_stochastic.distributions import lattice, lattice_normals

VOXELS = 4096


def even_shifts(dimensions: int) -> Tensor:
    """Shifts that fill [0, 1)^D evenly, (D, VOXELS): the mean over them is nearly that over all shifts."""
    steps = torch.tensor([1 / VOXELS, 0.6180339887498949, 0.4142135623730951, 0.7320508075688773], dtype=torch.float64)
    return (steps[:dimensions, None] * (torch.arange(VOXELS) + 0.5)).frac()


def samples(num_samples: int, shift: Tensor) -> Tensor:
    """z, (D, K, *S)."""
    return torch.stack(list(lattice_normals(num_samples, shift)), dim=1)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@pytest.mark.parametrize("num_samples", [1, 2, 5, 6, 10, 30, 97])
def test_each_coordinate_has_one_sample_in_each_interval(num_samples: int, dimensions: int) -> None:
    shift = torch.rand(dimensions, 50, 2, generator=torch.Generator().manual_seed(0))
    u = torch.special.ndtr(samples(num_samples, shift).double())
    # Relative to the shift the samples are 0, 1/K, ...: in the middle of intervals that begin half of one before.
    interval = ((u - shift[:, None] + 0.5 / num_samples) % 1 * num_samples).floor().sort(dim=1).values
    expected = torch.arange(num_samples)[:, None, None].expand(dimensions, -1, 50, 2)
    assert torch.equal(interval, expected.double())


@pytest.mark.parametrize("num_samples", [1, 3, 10])
def test_each_sample_is_standard_normal(num_samples: int) -> None:
    for z in lattice_normals(num_samples, even_shifts(2)):
        assert z.dtype == torch.float32
        assert z.shape == (2, VOXELS)
        for moment, expected, tolerance in ((1, 0, 2e-3), (2, 1, 5e-3), (3, 0, 0.03), (4, 3, 0.08)):
            assert (z**moment).mean(1).tolist() == pytest.approx([expected] * 2, abs=tolerance)
        assert float((z[0] * z[1]).mean()) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("num_samples", "share"), [(10, 1.1), (30, 0.7), (97, 0.5)])
def test_coordinates_of_a_voxel_are_uncorrelated(num_samples: int, share: float) -> None:
    """Over voxels the samples' mean of z_c z_d is 0, its variance a share of the 1/K of independent samples."""
    shift = torch.rand(4, VOXELS, generator=torch.Generator().manual_seed(0))
    z = samples(num_samples, shift)
    for one, other in itertools.combinations(range(4), 2):
        covariance = (z[one] * z[other]).mean(0)
        assert abs(float(covariance.mean())) < 5 * (share / num_samples / VOXELS) ** 0.5
        assert float(covariance.var()) < share / num_samples


def test_voxels_with_the_ends_of_the_range_are_finite_and_symmetric() -> None:
    shift = torch.tensor([[0.0, 2**-24, 0.5, 1 - 2**-24]])
    (z,) = lattice_normals(1, shift)
    assert z.isfinite().all()
    assert z[0].tolist() == pytest.approx([-5.42, -5.29, 0, 5.29], abs=0.02)


def test_normals_are_those_of_the_inverse_distribution_function() -> None:
    shift = torch.linspace(1e-4, 1 - 1e-4, 10_001, dtype=torch.float64)[None]
    (z,) = lattice_normals(1, shift)
    torch.testing.assert_close(z, torch.special.ndtri(shift).float(), atol=5e-5, rtol=0)


@pytest.mark.parametrize(
    ("num_samples", "modulus", "vector"),
    [(5, 5, [1, 2]), (6, 7, [1, 2, 3]), (10, 11, [1, 3, 2, 4]), (30, 30, [1, 11, 7, 13]), (100, 100, [1, 39, 47, 37])],
)
def test_generating_vectors(num_samples: int, modulus: int, vector: list[int]) -> None:
    points = lattice._lattice(num_samples, len(vector))
    assert lattice._generating_vector(modulus, len(vector)) == vector
    left_out = modulus - num_samples
    expected = torch.arange(left_out, modulus)[:, None] * torch.tensor(vector) % modulus - left_out
    assert torch.equal((points * num_samples).round().long(), expected)


def entropy(probabilities: Tensor) -> Tensor:
    """H of (C, *S), (*S)."""
    return torch.special.entr(probabilities).sum(0)


def worst_biases(softmax, shift: Tensor, num_samples: int, laws: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Largest relative biases of H(p̄), of the mean of H and of the variance, over laws N(mean, factor factorᵀ)."""
    dimensions = len(shift)
    grid = torch.arange(-37, 38, dtype=torch.float64) / 5
    nodes = torch.cartesian_prod(*[grid] * dimensions).reshape(-1, dimensions).T
    weights = torch.softmax(-nodes.square().sum(0) / 2, 0)
    z = samples(num_samples, shift).double()
    worst = torch.zeros(3, dtype=torch.float64)
    for mean, factor in laws:
        exact = softmax(mean[:, None] + factor @ nodes)
        expected = exact @ weights
        references = entropy(expected), entropy(exact) @ weights, (exact.square() @ weights - expected.square()).sum()
        p = softmax(mean[:, None, None] + torch.einsum("cd,dkv->ckv", factor, z))
        means = entropy(p.mean(1)), entropy(p), (p.square().mean(1) - p.mean(1).square()).sum(0)
        biases = torch.stack([value.mean() / reference - 1 for value, reference in zip(means, references, strict=True)])
        worst = torch.maximum(worst, biases.abs())
    return worst


@pytest.mark.parametrize(
    ("num_samples", "std", "limits"),
    [
        (10, 1.0, (0.010, 0.001, 0.08)),
        (10, 2.0, (0.042, 0.001, 0.08)),
        (10, 4.0, (0.023, 0.001, 0.03)),
        (30, 1.0, (0.003, 0.001, 0.02)),
        (30, 2.0, (0.012, 0.001, 0.02)),
        (30, 4.0, (0.003, 0.001, 0.004)),
    ],
)
def test_bias_for_two_classes(num_samples: int, std: float, limits: tuple[float, ...]) -> None:
    """Of H(p̄) at most 5 % for K = 10 and 2 % for K = 30."""

    def softmax(x: Tensor) -> Tensor:
        return torch.cat([torch.sigmoid(-x), torch.sigmoid(x)])

    laws = [(torch.tensor([float(mean)]).double(), torch.tensor([[std]]).double()) for mean in range(-6, 7)]
    biases = worst_biases(softmax, even_shifts(1), num_samples, laws)
    assert (biases < torch.tensor(limits)).all(), biases


def test_misuse_is_an_error() -> None:
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        lattice_normals(0, torch.rand(1, 3))
    with pytest.raises(ValueError, match=r"shift must be \(D, \*S\) with at least one number per voxel, got \(0, 3\)"):
        lattice_normals(2, torch.rand(0, 3))
    with pytest.raises(ValueError, match=r"float32 or float64, got torch.float16"):
        lattice_normals(2, torch.rand(1, 3).half())
