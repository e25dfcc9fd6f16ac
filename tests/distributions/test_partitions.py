"""Blocks of nearly equal size, against a loop over voxels."""

from __future__ import annotations

import itertools

import pytest
import torch

from nnunet_stochastic.distributions import apply_per_partition, partition_grid, partition_index


@pytest.mark.parametrize(("length", "blocks"), [(8, 4), (9, 4), (5, 4), (4, 4), (7, 3), (20, 6), (1, 1)])
def test_sizes_differ_by_at_most_one_and_cover_the_axis(length: int, blocks: int) -> None:
    sizes = partition_index(length, blocks).bincount(minlength=blocks)
    assert sizes.sum() == length
    assert sizes.max() - sizes.min() <= 1
    assert sizes.min() >= 1


def test_grid_shrinks_where_an_axis_is_short() -> None:
    assert partition_grid((2, 64, 3), 4) == (2, 4, 3)
    with pytest.raises(ValueError, match="at least 1"):
        partition_grid((4, 4), 0)


@pytest.mark.parametrize(
    ("spatial", "grid"),
    [((8, 4), (4, 2)), ((7, 5), (4, 3)), ((6, 5, 4), (4, 4, 4)), ((5,), (1,)), ((4, 6, 9), (2, 6, 4))],
)
def test_every_voxel_meets_the_matrix_of_its_block(spatial, grid) -> None:
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(2, 3, *spatial, generator=generator)
    matrices = torch.randn(2, *grid, 2, 3, generator=generator)
    result = apply_per_partition(matrices, field)
    for position in itertools.product(*map(range, spatial)):
        block = tuple(i * g // n for i, n, g in zip(position, spatial, grid, strict=True))
        expected = torch.einsum("boi,bi->bo", matrices[(slice(None), *block)], field[(..., *position)])
        torch.testing.assert_close(result[(..., *position)], expected)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        apply_per_partition(torch.ones(1, 2, 2, 3), torch.ones(1, 4, 6))
