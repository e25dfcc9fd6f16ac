"""SWAG by the learning rate and the spacing of its snapshots: EU/AU and NLL on validation cases.

    python snapshot_rates.py FOLD RATE [RATE ...] [--iterations N] [--cases N]

Goes on from the deterministic model of a fold with AdamW at each constant rate, keeps the weights after every second
iteration, and predicts validation cases with 4 members that are drawn from the snapshots. The cases are crops that fit
into one tile, predicted on the network's grid without mirroring; the NLL (nats per voxel) is against each rater,
averaged. The variables of nnU-Net are set, with the data and the trainers of ``run.sh``.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from nnunetv2.paths import nnUNet_preprocessed
from torch import nn

from nnunet_stochastic.epistemic import EPISTEMIC_METHODS
from nnunet_stochastic.posteriors import fit_swag
from nnunet_stochastic.posteriors.snapshots import delete_snapshots, save_snapshot
from nnunet_stochastic.posteriors.swag import Swag
from nnunet_stochastic.training import FineTuningTrainer
from nnunet_stochastic.training.raters import RaterFolder

DATASET, PLANS, CONFIGURATION = "Dataset501_LIDC3D", "nnUNetSmallPlans", "3d_fullres"
EVERY, MEMBERS = 2, 4
#: Voxels that the network halves its input by, in all.
STRIDES = (4, 16, 16)


class nnUNetTrainerRates(FineTuningTrainer):
    """Goes on from the model that the other trainers of this folder fine-tune."""

    deterministic_trainer = os.environ.get("DETERMINISTIC_TRAINER", "nnUNetTrainerShort")


def make_trainer(fold: int) -> nnUNetTrainerRates:
    folder = Path(str(nnUNet_preprocessed)) / DATASET
    plans = json.loads((folder / f"{PLANS}.json").read_text()) | {"continue_training": False}
    dataset_json = json.loads((folder / "dataset.json").read_text())
    trainer = nnUNetTrainerRates(plans, CONFIGURATION, fold, dataset_json, torch.device("cpu"))
    trainer.on_train_start()
    return trainer


def train(trainer: nnUNetTrainerRates, rate: float, iterations: int) -> None:
    """Leave a snapshot of every second iteration in the trainer's folder."""
    for group in trainer.optimizer.param_groups:
        group["lr"] = rate
    trainer.network.train()
    folder = Path(trainer.output_folder)
    delete_snapshots(folder, from_epoch=0)
    for iteration in range(iterations):
        trainer.train_step(next(trainer.dataloader_train))
        if iteration % EVERY == EVERY - 1:
            save_snapshot(trainer.unwrap(trainer.network), folder, iteration)


def validation_cases(trainer: nnUNetTrainerRates, number: int) -> list[tuple[torch.Tensor, np.ndarray]]:
    """Images (1, z, y, x) and the raters' masks (A, z, y, x)."""
    _, dataset = trainer.get_tr_and_val_datasets()
    raters = RaterFolder.of_configuration(
        Path(trainer.preprocessed_dataset_folder_base),
        trainer.plans_manager,
        trainer.configuration_manager,
        trainer.dataset_json,
    )
    names = sorted(dataset.identifiers)
    cases = []
    for name in names[:: max(1, len(names) // number)][:number]:
        image = torch.from_numpy(np.asarray(dataset.load_case(name)[0][:], np.float32))
        masks = [np.asarray(raters.load(name, rater)[0][:])[0] > 0 for rater in range(raters.num_raters)]
        cases.append((image, np.stack(masks)))
    return cases


def foreground(network: nn.Module, image: torch.Tensor) -> np.ndarray:
    """Probability of the foreground, (z, y, x)."""
    size = image.shape[1:]
    pads = [number for axis in (2, 1, 0) for number in (0, -size[axis] % STRIDES[axis])]
    output = network(nn.functional.pad(image[None], pads, mode="replicate"))
    return torch.softmax(output[0], 0)[1][tuple(map(slice, size))].double().numpy()


@torch.inference_mode()
def evaluate(network: nn.Module, cases, members: int, activate: Callable[[int], None]) -> tuple[float, float, float]:
    """EU/AU, NLL and Dice (against the majority vote, ties to the foreground), means over the cases."""
    network.eval()
    network.decoder.deep_supervision = False
    predicted = []
    for member in range(members):
        activate(member)
        predicted.append([foreground(network, image) for image, _ in cases])
    network.decoder.deep_supervision = True
    aleatoric, total, nll, dice = [], [], [], []
    for (_, masks), *of_members in zip(cases, *predicted, strict=True):
        mean = np.mean(of_members, axis=0)
        aleatoric.append(entropy(np.stack(of_members)).mean())
        total.append(entropy(mean).mean())
        nll.append(np.mean([-np.log(np.where(mask, mean, 1 - mean).clip(1e-8)).mean() for mask in masks]))
        vote, found = masks.mean(0) >= 0.5, mean > 0.5
        dice.append(2 * (vote & found).sum() / max(vote.sum() + found.sum(), 1))
    return sum(total) / sum(aleatoric) - 1, float(np.mean(nll)), float(np.mean(dice))


def entropy(p: np.ndarray) -> np.ndarray:
    return -p * np.log(p.clip(1e-12)) - (1 - p) * np.log((1 - p).clip(1e-12))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fold", type=int)
    parser.add_argument("rates", type=float, nargs="+")
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--cases", type=int, default=60)
    arguments = parser.parse_args()
    for rate in arguments.rates:
        trainer = make_trainer(arguments.fold)
        network, folder = trainer.unwrap(trainer.network), Path(trainer.output_folder)
        cases = validation_cases(trainer, arguments.cases)
        if rate == arguments.rates[0]:
            print("| rate | spacing | snapshots | EU/AU | NLL | Dice |\n|---|---|---|---|---|---|")
            result = evaluate(network, cases, 1, lambda member: None)
            print("| trained | | | {:.3f} | {:.5f} | {:.4f} |".format(*result), flush=True)
        train(trainer, rate, arguments.iterations)
        for spacing in (EVERY, 2 * EVERY):
            epochs = range(arguments.iterations - 1, 0, -spacing)[:30][::-1]
            fit_swag(folder, epochs)
            posterior = Swag(EPISTEMIC_METHODS["swag"], folder, {"num_members": MEMBERS})

            def activate(member: int, posterior: Swag = posterior, network: nn.Module = network) -> None:
                posterior.activate(network, torch.Generator().manual_seed(member))

            result = evaluate(network, cases, MEMBERS, activate)
            row = "| {:g} | {} | {} | {:.3f} | {:.5f} | {:.4f} |".format(rate, spacing, len(epochs), *result)
            print(row, flush=True)


if __name__ == "__main__":
    main()
