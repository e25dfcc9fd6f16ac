"""Regularizers of the parameters of p(η).

Eq. 8-10 of *Structured Covariance Modeling Using Learned Mixture-of-Bases for Uncertainty in 3D Segmentation* (MoB).
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_stochastic.distributions.base import full_precision

__all__ = ["basis_entropy_loss", "kl_to_unit_variance", "orthogonality_loss"]


def kl_to_unit_variance(diag_var: Tensor) -> Tensor:
    """KL(N(μ, I) || N(μ, diag d)), mean over voxels and classes (Eq. 8).

    ½ (1/d - 1 + ln d): 0 at d = 1, and without bound as d -> 0, so variances do not collapse.

    Parameters
    ----------
    diag_var
        Variances d, any shape, positive.

    Returns
    -------
    Tensor
        Scalar, float32 or wider, nats, at least 0.
    """
    variance = full_precision(diag_var)
    return 0.5 * (variance.reciprocal() - 1 + variance.log()).mean()


def orthogonality_loss(bases: Tensor) -> Tensor:
    """Mean squared cosine between different bases, each flattened to a vector (Eq. 9).

    Parameters
    ----------
    bases
        Learned bases B_1 … B_M, shape (M, C, R).

    Returns
    -------
    Tensor
        Scalar in [0, 1], float32 or wider also under autocast; 0 for M = 1.
    """
    num_bases = bases.shape[0]
    with torch.autocast(bases.device.type, enabled=False):
        bases = full_precision(bases)
        if num_bases == 1:
            return bases.new_zeros(())
        directions = torch.nn.functional.normalize(bases.flatten(1), dim=1)
        gram = directions @ directions.T
        off_diagonal = gram - torch.diag(torch.diagonal(gram))
        return off_diagonal.square().sum() / (num_bases * (num_bases - 1))


def basis_entropy_loss(basis_log_weights: Tensor) -> Tensor:
    """Negative entropy of W, mean over the batch and partitions (Eq. 10). Minimising it spreads W over the bases.

    It takes ln W, because the gradient of W ln W in W has no bound: where W has underflowed to 0 it is infinite, and
    times the 0 of the softmax NaN. The gradient in ln W is W (1 + ln W), which goes to 0.

    Parameters
    ----------
    basis_log_weights
        Logarithms ln W of probabilities over M, shape (B, M, *G).

    Returns
    -------
    Tensor
        Scalar in [-ln M, 0], nats.
    """
    log_weights = full_precision(basis_log_weights)
    return (log_weights.exp() * log_weights).sum(dim=1).mean()
