"""Heads that are trained from random starts on the features of a trained network: do they differ?

    python heads.py MODEL_FOLDER FOLD [--heads N] [--cases N] [--stride N]

Trains last layers W (C, F + 1) to the end on the features φ̃ of the fold's training cases, with nnU-Net's weight decay,

    L(W) = 1/I Σ_i ℓ(W φ̃_i, t_i) + λ/2 |W|²        ℓ: cross-entropy, convex in W, or nnU-Net's loss, with its Dice

and prints on the validation cases how far they disagree (EU/AU: mutual information over expected entropy, means over
voxels, in nats), their NLL, and how far their losses are apart; last, the same of draws from ``laplace.pth``.
The fold has its posterior, and the variables of nnU-Net are set.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import cross_entropy

from nnunet_stochastic.fitting.fold_cases import find_fold_cases
from nnunet_stochastic.fitting.tile_features import CaseTiles
from nnunet_stochastic.fitting.validation_points import collect_points
from nnunet_stochastic.inference import Model, load_model
from nnunet_stochastic.networks.last_layer import last_layer_weights
from nnunet_stochastic.posteriors.laplace import draw_weights
from nnunet_stochastic.posteriors.laplace_fit import LaplaceFit

WEIGHT_DECAY = 3e-5
ITERATIONS = (0, 3, 10, 30, 100, 300)

Case = tuple[Tensor, Tensor]
"""φ̃ of a case's voxels (n, F + 1) and their labels (n)."""


def features_of_cases(model: Model, names: Sequence[str], *, stride: int) -> list[Case]:
    """Every ``stride``-th annotated voxel of the cases."""
    cases = find_fold_cases(model, model.checkpoints[0])
    found = []
    with torch.no_grad():
        for name in names:
            tiles = CaseTiles(model, cases.load(name), torch.device("cpu"), step_size=1.0)
            points = collect_points(tiles, name=name, num_points=int(tiles.annotated.sum()))
            if points is not None:
                found.append((points.inputs[::stride].double(), points.targets[::stride].argmax(1)))
    return found


def nnunet_loss() -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy minus the soft Dice of the foreground, as nnU-Net builds it for a case per patch."""
    dice = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = DC_and_CE_loss(dice, {}, weight_ce=1, weight_dice=1, dice_class=MemoryEfficientSoftDiceLoss)
    return lambda logits, labels: loss(logits.T[None], labels[None, None])


def train(start: Tensor, cases: list[Case], loss: Callable[[Tensor, Tensor], Tensor]) -> list[tuple[Tensor, float]]:
    """Weights and L after each of ``ITERATIONS`` of BFGS, or after the last one if there are fewer."""

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = torch.from_numpy(flat).view_as(start).requires_grad_()
        total = sum(loss(inputs @ weights.T, labels) for inputs, labels in cases) / len(cases)
        total = total + WEIGHT_DECAY / 2 * weights.square().sum()
        total.backward()
        return total.item(), weights.grad.flatten().numpy()

    found = [start.flatten().numpy()]
    minimize(
        value_and_gradient,
        found[0],
        jac=True,
        method="BFGS",
        callback=lambda flat: found.append(flat.copy()),
        options={"gtol": 1e-9, "maxiter": ITERATIONS[-1]},
    )
    reached = [found[min(number, len(found) - 1)] for number in ITERATIONS]
    return [(torch.from_numpy(flat).view_as(start), value_and_gradient(flat)[0]) for flat in reached]


@torch.inference_mode()
def describe(members: Sequence[Tensor], cases: list[Case]) -> tuple[float, float, float, float]:
    """Means over cases of AU, EU and the NLL, in nats, and the largest difference of two members' probabilities."""
    sums = torch.zeros(3, dtype=torch.float64)
    largest = 0.0
    for inputs, labels in cases:
        probabilities = torch.stack([(inputs @ weights.T).softmax(1) for weights in members])
        mean = probabilities.mean(0)
        aleatoric, total = entropy(probabilities).mean(), entropy(mean).mean()
        nll = -mean.gather(1, labels[:, None]).clamp_min(1e-8).log().mean()
        sums += torch.stack([aleatoric, total - aleatoric, nll])
        largest = max(largest, float((probabilities.amax(0) - probabilities.amin(0)).max()))
    aleatoric, epistemic, nll = (sums / len(cases)).tolist()
    return aleatoric, epistemic, nll, largest


def entropy(probabilities: Tensor) -> Tensor:
    return -torch.special.xlogy(probabilities, probabilities).sum(-1)


def row(name: str, iterations: int | str, members: Sequence[Tensor], cases: list[Case], losses: Sequence[float]) -> str:
    aleatoric, epistemic, nll, largest = describe(members, cases)
    apart = f"{max(losses) - min(losses):.1e}" if losses else ""
    numbers = f"{epistemic:.2e} | {epistemic / aleatoric:.1e} | {largest:.1e} | {nll:.5f}"
    return f"| {name} | {iterations} | {apart} | {numbers} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("fold")
    parser.add_argument("--heads", type=int, default=5)
    parser.add_argument("--cases", type=int, default=1000, help="at most so many to train on, and to validate")
    parser.add_argument("--stride", type=int, default=4, help="every which voxel is taken")
    arguments = parser.parse_args()
    model = load_model(arguments.model, folds=(arguments.fold,))
    split = find_fold_cases(model, model.checkpoints[0])
    training, validation = (
        features_of_cases(
            model, names[:: max(1, len(names) // arguments.cases)][: arguments.cases], stride=arguments.stride
        )
        for names in (split.training, split.validation)
    )
    weight, bias = last_layer_weights(model.network)
    trained = torch.cat([weight.flatten(1), bias[:, None]], 1).detach().double()
    # As torch initialises a 1x1 convolution: uniform within 1 / √F.
    bound = weight.shape[1] ** -0.5
    starts = [
        bound * (2 * torch.rand(trained.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1)
        for seed in range(arguments.heads)
    ]
    print(
        "| heads | iterations | losses apart | EU | EU/AU | largest difference | NLL |\n|---|---|---|---|---|---|---|"
    )
    for name, loss in (("cross-entropy", cross_entropy), ("nnU-Net's loss", nnunet_loss())):
        found = [train(start, training, loss) for start in starts]
        for number, of_heads in zip(ITERATIONS, zip(*found, strict=True), strict=True):
            members, losses = zip(*of_heads, strict=True)
            print(row(name, number, members, validation, losses), flush=True)
    fit = LaplaceFit.load(model.checkpoints[0].folder)
    numbers = torch.randn((10, *trained.shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = draw_weights(
        fit.spectrum,
        numbers,
        temperature=fit.temperature,
        prior_precision=fit.prior_precision,
        regions=fit.regions,
    )
    print(row("as trained", "", [trained], validation, ()))
    print(row("10 draws of Laplace", "", list(trained + moved), validation, ()))


if __name__ == "__main__":
    main()
