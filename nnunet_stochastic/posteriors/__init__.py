"""Distributions over the weights of one network, from which members are drawn: dropout masks and SWAG."""

from nnunet_stochastic.posteriors.dropout import (
    ChannelDropout,
    clear_dropout_masks,
    fix_dropout_masks,
    has_channel_dropout,
    insert_channel_dropout,
)
from nnunet_stochastic.posteriors.swag import SWAG_FILE, SwagPosterior, fit_swag

__all__ = [
    "SWAG_FILE",
    "ChannelDropout",
    "SwagPosterior",
    "clear_dropout_masks",
    "fit_swag",
    "fix_dropout_masks",
    "has_channel_dropout",
    "insert_channel_dropout",
]
