"""nnU-Net's deterministic network under the fine-tuning recipe of the stochastic models."""

from nnunet_stochastic.training import CyclicTrainer, DropoutTrainer, EntSwagTrainer, FineTuningTrainer, SwagTrainer


class nnUNetTrainerDeterministic(FineTuningTrainer):
    """The same further epochs and optimizer, no heads: a gain over it is not due to more training."""


class nnUNetTrainerDeterministicDropout(DropoutTrainer, nnUNetTrainerDeterministic):
    """nnUNetTrainerDeterministic with channel dropout: a set of dropout masks is a member."""


class nnUNetTrainerDeterministicSWAG(SwagTrainer, nnUNetTrainerDeterministic):
    """nnUNetTrainerDeterministic with snapshots of its last epochs: a draw from their Gaussian is a member."""


class nnUNetTrainerDeterministicEntSWAG(EntSwagTrainer, nnUNetTrainerDeterministic):
    """nnUNetTrainerDeterministicSWAG at the low learning rate of ENT: its members hardly differ."""


class nnUNetTrainerDeterministicCyclic(CyclicTrainer, nnUNetTrainerDeterministic):
    """nnUNetTrainerDeterministic that ends with cycles of the learning rate: weights at the minima are members."""
