"""The trainers of this comparison: the package's, of a fixed number of iterations, without the closing validation."""

from __future__ import annotations

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnunet_stochastic.training import (
    BasisTrainer,
    CyclicTrainer,
    DropoutTrainer,
    EntSwagTrainer,
    FineTuningTrainer,
    LowRankTrainer,
    SeededTrainer,
    SwagTrainer,
)


class Study:
    """Epochs of 20 iterations; the tables are of test cases, so that validation cases need no prediction."""

    iterations = 20

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = self.iterations
        self.num_val_iterations_per_epoch = 4

    def initialize(self):
        super().initialize()
        if self.device.type == "cpu" and len(self.configuration_manager.patch_size) == 3:
            self.network.to(memory_format=torch.channels_last_3d)  # convolutions take half the time

    def perform_actual_validation(self, save_probabilities=False):
        pass


class nnUNetTrainerPlainStudy(Study, SeededTrainer):
    """The deterministic network that all others of its fold start from: 960 iterations of AdamW."""

    iterations = 40

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 24
        self.initial_lr = 5e-3

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)


class Tuned(Study):
    """400 iterations more; the five cycles of the learning rate are the last third of 600."""

    deterministic_trainer = "nnUNetTrainerPlainStudy"
    fine_tuning_epochs = 20


class Snapshots(Study):
    """200 iterations more, then 8 snapshots 20 iterations apart."""

    deterministic_trainer = "nnUNetTrainerPlainStudy"
    fine_tuning_epochs = 10
    num_snapshots = 8


class nnUNetTrainerSoftmaxTuned(Tuned, FineTuningTrainer):
    pass


class nnUNetTrainerSoftmaxDropTuned(Tuned, DropoutTrainer, FineTuningTrainer):
    pass


class nnUNetTrainerSoftmaxCyclicTuned(Tuned, CyclicTrainer):
    pass


class nnUNetTrainerSoftmaxSWAGTuned(Snapshots, SwagTrainer):
    pass


class nnUNetTrainerSoftmaxEntSWAGTuned(Snapshots, EntSwagTrainer):
    pass


class nnUNetTrainerLowRankTuned(Tuned, LowRankTrainer):
    pass


class nnUNetTrainerLowRankDropTuned(Tuned, DropoutTrainer, LowRankTrainer):
    pass


class nnUNetTrainerLowRankCyclicTuned(Tuned, CyclicTrainer, LowRankTrainer):
    pass


class nnUNetTrainerLowRankSWAGTuned(Snapshots, SwagTrainer, LowRankTrainer):
    pass


class nnUNetTrainerLowRankEntSWAGTuned(Snapshots, EntSwagTrainer, LowRankTrainer):
    pass


class MoBVolume(BasisTrainer):
    noise_scope = "volume"


class nnUNetTrainerMoBVolumeTuned(Tuned, MoBVolume):
    pass


class nnUNetTrainerMoBVolumeDropTuned(Tuned, DropoutTrainer, MoBVolume):
    pass


class nnUNetTrainerMoBVolumeCyclicTuned(Tuned, CyclicTrainer, MoBVolume):
    pass


class nnUNetTrainerMoBVolumeSWAGTuned(Snapshots, SwagTrainer, MoBVolume):
    pass


class nnUNetTrainerMoBVolumeEntSWAGTuned(Snapshots, EntSwagTrainer, MoBVolume):
    pass
