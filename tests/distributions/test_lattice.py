"""Lattice samples: even in each coordinate, standard normal one by one, and what averages over them are worth.

The tables are the relative biases of what the maps of one member hold, the largest over means of the logits from -6 to
6. That of H(p̄), the aleatoric uncertainty, is to be at most 5 % for K = 10 and 2 % for K = 30. In percent, for logits
with standard deviations of 1, 2 and 4:

                                     K = 10                K = 30
    two classes      independent     -1.5  -7.1  -9.6      -0.6  -2.9  -3.3
                     normals         -0.5  -4.0  -2.1      -0.1  -1.0  -0.2
                     nodes            0.0   0.0   0.0       0.0   0.0   0.0
    three classes    independent     -4.9 -11.4 -12.2      -2.3  -5.2  -4.7
                     normals         -3.0  -7.8  -6.0      -0.8  -2.4  -1.6
                     nodes           -0.3  -1.6  -3.4       0.0   0.0  -0.2
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from nnunet_stochastic.distributions import lattice, lattice_nodes, lattice_normals

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
    points = lattice.lattice_points(num_samples, len(vector))
    assert lattice._generating_vector(modulus, len(vector)) == vector
    left_out = modulus - num_samples
    expected = torch.arange(left_out, modulus)[:, None] * torch.tensor(vector) % modulus - left_out
    assert torch.equal((points * num_samples).round().long(), expected)


def entropy(probabilities: Tensor) -> Tensor:
    """H of (C, *S), (*S)."""
    return torch.special.entr(probabilities).sum(0)


def unweighted(num_samples: int, shift: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """``lattice_normals`` with a weight of 1 each."""
    return ((z, torch.ones_like(z[0])) for z in lattice_normals(num_samples, shift))


def laws(classes: int, std: float) -> list[tuple[Tensor, Tensor]]:
    """Mean (C,) and factor (C, C - 1) of logits relative to the first class's, their correlation from -0.9 to 0.9."""
    free = classes - 1
    means = itertools.product(range(-6, 7), repeat=1) if free == 1 else itertools.product(range(-6, 7, 3), repeat=free)
    found = []
    for mean, correlation in itertools.product(means, [0.0] if free == 1 else [-0.9 / (free - 1), 0.0, 0.9]):
        covariance = torch.full((free, free), correlation, dtype=torch.float64).fill_diagonal_(1)
        factor = std * torch.linalg.cholesky(covariance)
        logits = torch.tensor([0, *mean], dtype=torch.float64)
        found.append((logits, torch.cat([torch.zeros(1, free, dtype=torch.float64), factor])))
    return found


def worst_biases(sampler: Callable, classes: int, std: float, num_samples: int) -> list[float]:
    """Largest relative bias, of either sign, of H(p̄), of the mean of H and of the variance, in percent."""
    grid = torch.arange(-35, 36, dtype=torch.float64) / 5
    grid = torch.cartesian_prod(*[grid] * (classes - 1)).reshape(-1, classes - 1).T
    density = torch.softmax(-grid.square().sum(0) / 2, 0)
    pairs = list(sampler(num_samples, even_shifts(classes - 1)))
    z, weights = (torch.stack(each).double() for each in zip(*pairs, strict=True))
    weights = weights / weights.sum(0)
    biases = []
    for mean, factor in laws(classes, std):
        p = torch.softmax(mean[:, None] + factor @ grid, 0)
        average = p @ density
        exact = entropy(average), entropy(p) @ density, (p.square() @ density - average.square()).sum()
        p = torch.softmax(mean[:, None, None] + torch.einsum("cd,kdv->ckv", factor, z), 0)
        average = (weights * p).sum(1)
        variance = (weights * p.square()).sum(1) - average.square()
        sampled = entropy(average), (weights * entropy(p)).sum(0), variance.sum(0)
        ratios = [value.mean() / reference for value, reference in zip(sampled, exact, strict=True)]
        biases.append([100 * (float(ratio) - 1) for ratio in ratios])
    return [max(values, key=abs) for values in zip(*biases, strict=True)]


@pytest.mark.parametrize(
    ("sampler", "classes", "num_samples", "std", "expected"),
    [
        (unweighted, 2, 10, 1.0, (-0.5, 0.0, -5.1)),
        (unweighted, 2, 10, 2.0, (-4.0, 0.0, -6.3)),
        (unweighted, 2, 10, 4.0, (-2.1, 0.0, -2.2)),
        (unweighted, 2, 30, 1.0, (-0.1, 0.0, -1.2)),
        (unweighted, 2, 30, 2.0, (-1.0, 0.0, -1.3)),
        (unweighted, 2, 30, 4.0, (-0.2, 0.0, -0.2)),
        (unweighted, 3, 10, 2.0, (-7.8, 0.0, -7.8)),
        (unweighted, 3, 30, 2.0, (-2.4, 0.0, -2.1)),
        (lattice_nodes, 2, 10, 1.0, (0.0, 0.0, 0.0)),
        (lattice_nodes, 2, 10, 2.0, (0.0, 0.0, 0.0)),
        (lattice_nodes, 2, 10, 4.0, (0.0, 0.0, 0.0)),
        (lattice_nodes, 3, 10, 1.0, (-0.3, -0.1, -0.4)),
        (lattice_nodes, 3, 10, 2.0, (-1.6, -0.3, -1.1)),
        (lattice_nodes, 3, 10, 4.0, (-3.4, -0.8, -2.7)),
        (lattice_nodes, 3, 30, 1.0, (0.0, 0.0, 0.0)),
        (lattice_nodes, 3, 30, 2.0, (0.0, 0.0, 0.0)),
        (lattice_nodes, 3, 30, 4.0, (-0.2, 0.0, -0.4)),
    ],
)
def test_biases_of_the_maps(
    sampler: Callable, classes: int, num_samples: int, std: float, expected: tuple[float, ...]
) -> None:
    assert worst_biases(sampler, classes, std, num_samples) == pytest.approx(expected, abs=0.1)


def test_nodes_are_spread_samples_with_the_weights_of_their_density() -> None:
    shift = torch.rand(2, 40, generator=torch.Generator().manual_seed(0))
    spread = 16**0.15
    for z, (node, weight) in zip(lattice_normals(16, shift), lattice_nodes(16, shift), strict=True):
        torch.testing.assert_close(node, spread * z)
        torch.testing.assert_close(weight.log(), (z.square().sum(0) - node.square().sum(0)) / 2, atol=1e-5, rtol=1e-5)
    ((node, weight),) = lattice_nodes(1, shift)
    assert torch.equal(node, next(lattice_normals(1, shift)))
    assert torch.equal(weight, torch.ones(40))


@pytest.mark.parametrize(("dimensions", "num_samples"), [(1, 2), (1, 100), (2, 3), (4, 2), (4, 1000)])
def test_weights_never_vanish_at_a_voxel(dimensions: int, num_samples: int) -> None:
    total = sum(weight for _, weight in lattice_nodes(num_samples, even_shifts(dimensions)))
    assert float(total.min()) > 0.05


@pytest.mark.parametrize("sampler", [lattice_normals, lattice_nodes])
def test_misuse_is_an_error(sampler: Callable) -> None:
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        sampler(0, torch.rand(1, 3))
    with pytest.raises(ValueError, match=r"shift must be \(D, \*S\) with at least one number per voxel, got \(0, 3\)"):
        sampler(2, torch.rand(0, 3))
    with pytest.raises(ValueError, match=r"float32 or float64, got torch.float16"):
        sampler(2, torch.rand(1, 3).half())
