"""The models of this example: nnUNetTrainerLong, 800 iterations, and its fine-tunings, 20 epochs of 16.

Each epoch of a fine-tuning adds a line to ``curve.csv`` in its folder: what 16 whole samples of the middle of every
validation case are worth against its raters.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_stochastic.losses import log_mean_exp_loss
from nnunet_stochastic.metrics.ged import generalized_energy_distance
from nnunet_stochastic.training import (
    BasisTrainer,
    DiagonalTrainer,
    EnergyScoreTrainer,
    FineTuningTrainer,
    LowRankTrainer,
)
from nnunet_stochastic.training.raters import RaterFolder


class nnUNetTrainerLong(nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 16
        self.num_iterations_per_epoch = 50
        self.num_val_iterations_per_epoch = 2
        self.initial_lr = 5e-3

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)


def middle(volume: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The middle of (C, *S); a volume that is smaller goes on with its border."""
    missing = [max(n - length, 0) for n, length in zip(size, volume.shape[1:], strict=True)]
    volume = np.pad(volume, [(0, 0), *((n // 2, n - n // 2) for n in missing)], mode="edge")
    starts = [(length - n) // 2 for n, length in zip(size, volume.shape[1:], strict=True)]
    return volume[(slice(None), *(slice(start, start + n) for start, n in zip(starts, size, strict=True)))]


class Continued:
    deterministic_trainer = "nnUNetTrainerLong"

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = 16
        self.num_val_iterations_per_epoch = 1

    def on_epoch_end(self):
        super().on_epoch_end()
        path = Path(self.output_folder) / "curve.csv"
        row = {"iterations": self.current_epoch * self.num_iterations_per_epoch, **self.scores_of_samples()}
        pd.DataFrame([row]).to_csv(path, mode="a", header=not path.exists(), index=False)

    @torch.inference_mode()
    def scores_of_samples(self) -> dict[str, float]:
        """NLL of the predictive mean, GED and sd/mean of the volume, mean over the validation cases."""
        _, cases = self.get_tr_and_val_datasets()
        raters = RaterFolder.of_configuration(
            Path(self.preprocessed_dataset_folder_base),
            self.plans_manager,
            self.configuration_manager,
            self.dataset_json,
        )
        network, size = self.unwrap(self.network).eval(), self.configuration_manager.patch_size
        generator = torch.Generator(self.device).manual_seed(0)
        rows = []
        for case in cases.identifiers:
            image = torch.as_tensor(middle(cases.load_case(case)[0][:], size))[None].float().to(self.device)
            masks = [middle(raters.load(case, rater)[0][:], size)[0] > 0 for rater in range(raters.num_raters)]
            samples = self.samples(network, image, generator)
            mean, annotations = samples.mean(0).clamp(1e-8, 1 - 1e-7).numpy(), np.stack(masks)
            binary = (samples > 0.5).numpy()
            volumes = binary.reshape(len(binary), -1).sum(1)
            ged = generalized_energy_distance(binary.astype(np.uint8), annotations.astype(np.uint8), classes=[[1]])
            rows.append(
                {
                    "nll": -np.where(annotations, np.log(mean), np.log1p(-mean)).mean(),
                    "ged": ged["iou"],
                    "spread": volumes.std(ddof=1) / max(volumes.mean(), 1) if len(volumes) > 1 else 0.0,
                }
            )
        network.train()
        return pd.DataFrame(rows).mean().to_dict()

    def samples(self, network, image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Probabilities of the foreground, (samples, *S)."""
        return network.logit_distribution(image).rsample(16, generator=generator)[:, 0].softmax(1)[:, 1].cpu()


class Volume(BasisTrainer):
    noise_scope = "volume"


class Energy(EnergyScoreTrainer, Volume):
    initial_scale = 2.0


class nnUNetTrainerDeterministicContinued(Continued, FineTuningTrainer):
    def samples(self, network, image, generator):
        """The one that there is."""
        output = network(image)
        return (output[0] if isinstance(output, list) else output).softmax(1)[:, 1].cpu()


class nnUNetTrainerDiagonalContinued(Continued, DiagonalTrainer):
    pass


class nnUNetTrainerLowRankContinued(Continued, LowRankTrainer):
    pass


class nnUNetTrainerSingleBasisContinued(Continued, BasisTrainer):
    num_bases = 1


class nnUNetTrainerSingleBasisVolumeContinued(Continued, Volume):
    num_bases = 1


class nnUNetTrainerMoBContinued(Continued, BasisTrainer):
    pass


class nnUNetTrainerMoB2Continued(Continued, BasisTrainer):
    num_bases = 2


class nnUNetTrainerMoB4Continued(Continued, BasisTrainer):
    num_bases = 4


class nnUNetTrainerMoB5Continued(Continued, BasisTrainer):
    num_bases = 5


class nnUNetTrainerMoBVolumeContinued(Continued, Volume):
    pass


class nnUNetTrainerMoBVolumeWideContinued(Continued, Volume):
    initial_scale = 2.0


class nnUNetTrainerMoBEnergyContinued(Continued, Energy):
    pass


class nnUNetTrainerMoBEnergyCE1Continued(Continued, Energy):
    weight_cross_entropy = 1.0


class nnUNetTrainerMoBEnergyCE30Continued(Continued, Energy):
    weight_cross_entropy = 30.0


class nnUNetTrainerMoBEnergyK10Continued(Continued, Energy):
    num_training_samples = 10


class nnUNetTrainerSingleBasisEnergyContinued(Continued, Energy):
    num_bases = 1


class nnUNetTrainerLowRankEnergyContinued(Continued, EnergyScoreTrainer, LowRankTrainer):
    pass


class nnUNetTrainerMoBLogMeanExpContinued(Continued, Volume):
    initial_scale = 2.0
    num_training_samples = 10

    def sampled_loss(self, distribution, segmentation_loss, target):
        return log_mean_exp_loss(distribution, self.encode(target), self.num_training_samples)
