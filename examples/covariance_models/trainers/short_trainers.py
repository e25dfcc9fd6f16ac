"""The models of this comparison: 400 iterations more of nnUNetTrainerPlainStudy of ../epistemic_methods, each twice.

``…Vote`` is trained on the majority vote, as its start was, ``…Raters`` on the mask of a random rater at each load.
Every 40 iterations ``curve.csv`` has what 16 samples of the middle of each validation case are worth.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd

from nnunet_stochastic.networks.base import DistributionNetwork
from nnunet_stochastic.training import (
    BasisTrainer,
    DiagonalTrainer,
    EnergyScoreTrainer,
    FineTuningTrainer,
    LowRankTrainer,
)
from nnunet_stochastic.training.raters import RaterFolder


class Tuned:
    """20 epochs of 20 iterations; the tables are of test cases, so that there is no closing validation."""

    deterministic_trainer = "nnUNetTrainerPlainStudy"
    fine_tuning_epochs = 20
    epochs_per_line = 2

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch = 20
        self.num_val_iterations_per_epoch = 4

    def initialize(self):
        super().initialize()
        if self.device.type == "cpu":
            self.network.to(memory_format=torch.channels_last_3d)  # convolutions take half the time

    def perform_actual_validation(self, save_probabilities=False):
        pass

    def on_train_start(self):
        super().on_train_start()
        if self.current_epoch == 0:
            self.write_line()

    def on_epoch_end(self):
        super().on_epoch_end()
        if self.current_epoch % self.epochs_per_line == 0:
            self.write_line()

    def write_line(self):
        path = Path(self.output_folder) / "curve.csv"
        row = {"iterations": self.current_epoch * self.num_iterations_per_epoch, **self.scores_of_samples()}
        is_first = self.current_epoch == 0  # of another training that began here, nothing is left
        pd.DataFrame([row]).to_csv(path, mode="w" if is_first else "a", header=is_first, index=False)

    @torch.inference_mode()
    def scores_of_samples(self) -> dict[str, float]:
        """NLL of the mean against vote and raters, sd/mean of the sampled volume, mean over validation cases."""
        _, cases = self.get_tr_and_val_datasets()
        raters = RaterFolder.of_configuration(
            Path(self.preprocessed_dataset_folder_base),
            self.plans_manager,
            self.configuration_manager,
            self.dataset_json,
        )
        network, size = self.unwrap(self.network).eval(), np.array(self.configuration_manager.patch_size)
        generator = torch.Generator(self.device).manual_seed(0)
        rows = []
        for case in cases.identifiers:
            image, vote = (np.asarray(stored[:]) for stored in cases.load_case(case)[:2])
            first = (np.array(vote.shape[1:]) - size) // 2
            middle = [[int(start), int(start + length)] for start, length in zip(first, size, strict=True)]

            def cut(volume, box=middle):
                return crop_and_pad_nd(volume, box)

            samples = self.samples(network, torch.as_tensor(cut(image))[None].float().to(self.device), generator)
            mean = samples.mean(0).clamp(1e-8, 1 - 1e-7).numpy()
            volumes = (samples > 0.5).flatten(1).sum(1).double()
            masks = [cut(np.asarray(raters.load(case, rater)[0][:]))[0] > 0 for rater in range(raters.num_raters)]
            against = {"vote": cut(vote)[0] > 0, "raters": np.stack(masks)}
            row = {f"nll_{name}": -np.where(y, np.log(mean), np.log1p(-mean)).mean() for name, y in against.items()}
            row["spread"] = float(volumes.std() / volumes.mean().clamp_min(1)) if len(volumes) > 1 else 0.0
            rows.append(row)
        network.train()
        return pd.DataFrame(rows).mean().to_dict()

    def samples(self, network, image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Probabilities of the foreground, (samples, *S); one where the model is deterministic."""
        if isinstance(network, DistributionNetwork):
            return network.logit_distribution(image).rsample(16, generator=generator)[:, 0].softmax(1)[:, 1].cpu()
        output = network(image)
        return (output[0] if isinstance(output, list) else output).softmax(1)[:, 1].cpu()


class Volume(BasisTrainer):
    noise_scope = "volume"


class nnUNetTrainerDeterministicRaters(Tuned, FineTuningTrainer):
    pass


class nnUNetTrainerDiagonalRaters(Tuned, DiagonalTrainer):
    pass


class nnUNetTrainerLowRankRaters(Tuned, LowRankTrainer):
    pass


class nnUNetTrainerSingleBasisRaters(Tuned, BasisTrainer):
    num_bases = 1


class nnUNetTrainerMoB2Raters(Tuned, BasisTrainer):
    num_bases = 2


class nnUNetTrainerMoBRaters(Tuned, BasisTrainer):
    pass


class nnUNetTrainerMoB4Raters(Tuned, BasisTrainer):
    num_bases = 4


class nnUNetTrainerMoB5Raters(Tuned, BasisTrainer):
    num_bases = 5


class nnUNetTrainerSingleBasisVolumeRaters(Tuned, Volume):
    num_bases = 1


class nnUNetTrainerMoBVolumeRaters(Tuned, Volume):
    pass


class VolumeEnergy(EnergyScoreTrainer, Volume):
    initial_scale = 2.0  # as nnUNetTrainerMoBEnergy


class nnUNetTrainerSingleBasisEnergyRaters(Tuned, VolumeEnergy):
    num_bases = 1


class nnUNetTrainerMoBEnergyRaters(Tuned, VolumeEnergy):
    pass


class Vote:
    train_on_raters = False


class nnUNetTrainerDeterministicVote(Vote, nnUNetTrainerDeterministicRaters):
    pass


class nnUNetTrainerDiagonalVote(Vote, nnUNetTrainerDiagonalRaters):
    pass


class nnUNetTrainerLowRankVote(Vote, nnUNetTrainerLowRankRaters):
    pass


class nnUNetTrainerSingleBasisVote(Vote, nnUNetTrainerSingleBasisRaters):
    pass


class nnUNetTrainerMoB2Vote(Vote, nnUNetTrainerMoB2Raters):
    pass


class nnUNetTrainerMoBVote(Vote, nnUNetTrainerMoBRaters):
    pass


class nnUNetTrainerMoB4Vote(Vote, nnUNetTrainerMoB4Raters):
    pass


class nnUNetTrainerMoB5Vote(Vote, nnUNetTrainerMoB5Raters):
    pass


class nnUNetTrainerSingleBasisVolumeVote(Vote, nnUNetTrainerSingleBasisVolumeRaters):
    pass


class nnUNetTrainerMoBVolumeVote(Vote, nnUNetTrainerMoBVolumeRaters):
    pass


class nnUNetTrainerSingleBasisEnergyVote(Vote, nnUNetTrainerSingleBasisEnergyRaters):
    pass


class nnUNetTrainerMoBEnergyVote(Vote, nnUNetTrainerMoBEnergyRaters):
    pass


# What the paper leaves open, one option at a time.


class nnUNetTrainerMoBVolumeHeads1(nnUNetTrainerMoBVolumeRaters):
    head_learning_rate_factor = 1.0


class nnUNetTrainerMoBVolumeScale02(nnUNetTrainerMoBVolumeRaters):
    initial_scale = 0.2


class nnUNetTrainerMoBVolumeVariance0(nnUNetTrainerMoBVolumeRaters):
    log_variance_bias = 0.0


class nnUNetTrainerMoBVolumeArgmax(nnUNetTrainerMoBVolumeRaters):
    basis_selection = "argmax"


class nnUNetTrainerMoBVolumeKL10(nnUNetTrainerMoBVolumeRaters):
    weight_kl = 5e-3


class nnUNetTrainerMoBVolumeW10(nnUNetTrainerMoBVolumeRaters):
    weight_basis_entropy = 1.0


class nnUNetTrainerMoBVolumeOrth0(nnUNetTrainerMoBVolumeRaters):
    weight_orthogonality = 0.0


class nnUNetTrainerMoBVolumePartition1(nnUNetTrainerMoBVolumeRaters):
    partitions = 1
