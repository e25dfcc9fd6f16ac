"""Distributions over the weights of one trained network, of which members are drawn; one file per method."""

from nnunet_stochastic.posteriors.base import LastLayerPosterior, Missing, WeightPosterior, posterior_class
from nnunet_stochastic.posteriors.dropout import (
    ChannelDropout,
    clear_dropout_masks,
    fix_dropout_masks,
    has_channel_dropout,
    insert_channel_dropout,
)
from nnunet_stochastic.posteriors.swag_moments import SWAG_FILE, fit_swag

__all__ = [
    "SWAG_FILE",
    "ChannelDropout",
    "LastLayerPosterior",
    "Missing",
    "WeightPosterior",
    "clear_dropout_masks",
    "fit_swag",
    "fix_dropout_masks",
    "has_channel_dropout",
    "insert_channel_dropout",
    "posterior_class",
]
