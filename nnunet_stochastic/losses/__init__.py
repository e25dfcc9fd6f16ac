"""Losses on distributions over logits. The segmentation loss itself is an argument."""

from nnunet_stochastic.losses.k_sample import k_sample_loss
from nnunet_stochastic.losses.log_mean_exp import log_mean_exp_loss
from nnunet_stochastic.losses.regularizers import basis_entropy_loss, kl_to_unit_variance, orthogonality_loss

__all__ = ["basis_entropy_loss", "k_sample_loss", "kl_to_unit_variance", "log_mean_exp_loss", "orthogonality_loss"]
