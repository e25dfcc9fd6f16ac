"""The written-out factor against torch.linalg."""

from __future__ import annotations

import pytest
import torch

from nnunet_stochastic.distributions.cholesky import cholesky_of_field


@pytest.mark.parametrize("classes", [1, 2, 3, 5])
def test_factor_of_every_voxel(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    root = torch.randn(4, 3, classes, classes + 2, generator=generator, dtype=torch.float64)
    covariance = root @ root.mT
    triangle = [[covariance[..., i, j] for j in range(i + 1)] for i in range(classes)]
    factor = cholesky_of_field(triangle)
    expected = torch.linalg.cholesky(covariance)
    for i in range(classes):
        for j in range(i + 1):
            torch.testing.assert_close(factor[i][j], expected[..., i, j])
