"""Training with channel dropout, so that dropout masks can be members at inference (see ``posteriors.dropout``)."""

from __future__ import annotations

from torch import nn

from nnunet_stochastic.posteriors import insert_channel_dropout
from nnunet_stochastic.training.base import BaseTrainer

__all__ = ["DropoutTrainer"]


class DropoutTrainer(BaseTrainer):
    """Channel dropout in the network of the trainer that stands behind it: ``class X(DropoutTrainer, TrainerOfX)``.

    Validation during training judges the network without dropout.
    """

    #: Probability of a channel to be dropped.
    dropout_rate = 0.2

    @classmethod
    def build_network_architecture(
        cls, plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision=True
    ) -> nn.Module:
        network = super().build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )
        insert_channel_dropout(network, cls.dropout_rate)
        return network
