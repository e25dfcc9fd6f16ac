"""nnU-Net's deterministic network under the fine-tuning recipe of the stochastic models."""

from nnunet_stochastic.training import FineTuningTrainer


class nnUNetTrainerDeterministic(FineTuningTrainer):
    """The same further epochs and optimizer, no heads: a gain over it is not due to more training."""
