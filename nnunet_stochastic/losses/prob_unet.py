"""The loss of the Probabilistic U-Net: the negative evidence lower bound with the two terms weighted.

    L = CE(g(u(x), z), y) + β KL(q(z | x, y) || p(z | x)),    z ~ q

(Kohl et al. 2018, https://arxiv.org/abs/1806.05034, Eq. 4.) CE is a mean over voxels, not their sum: a β of 5e-4 then
weighs as much as 8 does at 128 x 128 voxels (Christensen et al., Rethinking Uncertainty Quantification and Entanglement
in Image Segmentation, 3.2). Both Gaussians are axis-aligned, and their divergence has a closed form.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from nnunet_stochastic.losses.cross_entropy import cross_entropy_loss
from nnunet_stochastic.targets import Target

__all__ = ["gaussian_kl", "prob_unet_loss"]


def gaussian_kl(mean: Tensor, std: Tensor, other_mean: Tensor, other_std: Tensor) -> Tensor:
    """KL(N(mean, diag std²) || N(other_mean, diag other_std²)).

    Parameters
    ----------
    mean, std, other_mean, other_std
        Means and standard deviations, each (B, M); the latter positive.

    Returns
    -------
    Tensor
        Shape (B,), nats, at least 0.
    """
    ratio = std / other_std
    distance = (mean - other_mean) / other_std
    return 0.5 * (ratio.square() + distance.square() - 1 - 2 * ratio.log()).sum(1)


def prob_unet_loss(outputs: Mapping[str, Tensor], target: Target, *, beta: float, regions: bool = False) -> Tensor:
    """L, mean over the batch.

    Parameters
    ----------
    outputs
        ``logits`` of a posterior sample, shape (B, C, *S); ``posterior_mean``, ``posterior_std``, ``prior_mean`` and
        ``prior_std``, each (B, M).
    target
        Annotation y.
    beta
        Weight β of the divergence, at least 0.
    regions
        Whether the logits are of regions rather than exclusive classes.

    Returns
    -------
    Tensor
        Scalar.
    """
    if beta < 0:
        raise ValueError(f"beta must be at least 0, got {beta}")
    divergence = gaussian_kl(
        outputs["posterior_mean"], outputs["posterior_std"], outputs["prior_mean"], outputs["prior_std"]
    )
    return cross_entropy_loss(outputs["logits"], target, regions=regions) + beta * divergence.mean()
