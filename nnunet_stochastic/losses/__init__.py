"""Losses on distributions over logits. The segmentation loss itself is an argument."""

from nnunet_stochastic.losses.cross_entropy import cross_entropy_loss, voxel_log_likelihood
from nnunet_stochastic.losses.denoising import denoising_loss
from nnunet_stochastic.losses.energy_score import energy_score, energy_score_loss
from nnunet_stochastic.losses.k_sample import k_sample_loss
from nnunet_stochastic.losses.log_mean_exp import log_mean_exp_loss
from nnunet_stochastic.losses.prob_unet import gaussian_kl, prob_unet_loss

__all__ = [
    "cross_entropy_loss",
    "denoising_loss",
    "energy_score",
    "energy_score_loss",
    "gaussian_kl",
    "k_sample_loss",
    "log_mean_exp_loss",
    "prob_unet_loss",
    "voxel_log_likelihood",
]
