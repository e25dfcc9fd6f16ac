"""Cholesky factor of a field of small symmetric positive definite matrices, written out channel by channel.

Σ_n = L_n L_nᵀ with L_n lower triangular; for C = 2: L_11 = √Σ_11, L_21 = Σ_21 / L_11, L_22 = √(Σ_22 - L_21²).
One matrix per voxel means millions of matrices of a few rows. ``torch.linalg.cholesky`` wants them contiguous and
factorises them one after the other; here each entry is an image, and every step is one elementwise operation over all
voxels.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["cholesky_of_field"]


def cholesky_of_field(covariance: list[list[Tensor]]) -> list[list[Tensor]]:
    """Factorise Σ_n at every voxel.

    Parameters
    ----------
    covariance
        Lower triangle of Σ: entry [i][j], j <= i, holds Σ_ij at all voxels, any shape, float32 or float64.

    Returns
    -------
    list of list of Tensor
        Lower triangle of L in the same layout.
    """
    factor: list[list[Tensor]] = []
    for i, row in enumerate(covariance):
        factor.append([])
        for j in range(i + 1):
            entry = row[j]
            for k in range(j):
                entry = entry.addcmul(factor[i][k], factor[j][k], value=-1)
            if i == j:
                # Σ = B̂ diag(a²) B̂ᵀ + diag(d) makes every pivot at least d_i; rounding may take it below for large a.
                factor[i].append(entry.clamp_min(1e-6).sqrt())
            else:
                factor[i].append(entry / factor[j][j])
    return factor
