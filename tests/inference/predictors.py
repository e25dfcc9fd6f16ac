"""What tests of predictors start from: a predictor of a model folder, tiny trainers, and a blend to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from torch import Tensor, nn

from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor, load_model
from nnunet_stochastic.inference.sliding_window import tiles
from nnunet_stochastic.posteriors import fit_swag
from nnunet_stochastic.posteriors.checkpoints import CYCLIC_SNAPSHOTS, write_cyclic_file
from nnunet_stochastic.posteriors.snapshots import save_snapshot
from nnunet_stochastic.training import BasisTrainer, DiffusionTrainer, ProbUNetTrainer, SoftmaxTrainer, SSNTrainer

PROPERTIES = {"spacing": [1.0, 1.0, 1.0]}
#: Flipped axes of (batch, channels, *S) in all mirrored views of a volume.
VIEWS = [(), (2,), (3,), (4,), (2, 3), (2, 4), (3, 4), (2, 3, 4)]
PATCH = (16, 16, 16)


class VolumeBasis(BasisTrainer):
    noise_scope = "volume"


class TinySSN(SSNTrainer):
    base_channels, channel_multipliers = 4, (1, 2)


class TinyProbUNet(ProbUNetTrainer):
    base_channels, channel_multipliers = 4, (1, 2)


class TinyDiffusion(DiffusionTrainer):
    base_channels, channel_multipliers, num_steps = 4, (1, 2), 2


class TinySoftmax(SoftmaxTrainer):
    base_channels, channel_multipliers = 4, (1, 2)


def build(
    folder: Path, *, folds: Sequence[int | str] = (0,), device: str = "cpu", **options: Any
) -> StochasticPredictor:
    """The predictor of a model folder with these ``PredictionOptions``."""
    return StochasticPredictor.from_model_folder(
        folder, folds=folds, options=PredictionOptions(**options), device=device
    )


def half_precision_weights(shape: Sequence[int]) -> Tensor:
    """nnU-Net's: a Gaussian whose maximum is 10, in half precision."""
    weights = compute_gaussian(tuple(shape), value_scaling_factor=10, dtype=torch.half, device=torch.device("cpu"))
    assert weights.max() == 10
    return weights.double()


def blend(network: nn.Module, data: Tensor, fields_of_patch: Callable[[nn.Module, Tensor], Tensor]) -> Tensor:
    """Fields (F, *S) of tiles of ``PATCH`` and all views of an image (channels, *S), blended in float64.

    ``fields_of_patch`` computes those of a patch (1, F, *PATCH) from a network and a patch (1, channels, *PATCH).
    """
    weights = half_precision_weights(PATCH)
    total, total_weight = 0, torch.zeros(data.shape[1:], dtype=torch.float64)
    for tile in tiles(data.shape[1:], PATCH, 0.5):
        patch = data[(slice(None), *tile)][None]
        with torch.no_grad():
            fields = sum(fields_of_patch(network, patch.flip(axes)).double().flip(axes) for axes in VIEWS)[0] / 8
        whole = torch.zeros(len(fields), *data.shape[1:], dtype=torch.float64)
        whole[(slice(None), *tile)] = fields * weights
        total = total + whole
        total_weight[tile] += weights
    return total / total_weight


def logit_law(network: nn.Module, patch: Tensor) -> Tensor:
    """Mean and standard deviation of the logit of two classes, shape (B, 2, *S), float64."""
    distribution = network.logit_distribution(patch)
    covariance = distribution.voxel_covariance().double()
    variance = covariance[:, 0, 0] + covariance[:, 1, 1] - 2 * covariance[:, 0, 1]
    mean = distribution.mean_logits.double()
    return torch.stack([mean[:, 1] - mean[:, 0], variance.sqrt()], 1)


def add_snapshots(folder: Path) -> None:
    """Snapshots of a SWAG training beside fold 0 of a model, its weights plus noise, and their fit."""
    network = load_model(folder, folds=(0,)).network
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for epoch in range(4):
            for parameter in network.parameters():
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
            save_snapshot(network, folder / "fold_0", epoch)
    fit_swag(folder / "fold_0", range(4))


def add_cycles(folder: Path) -> None:
    """Weights of three cycles beside fold 0 of a model, of which the last is the checkpoint."""
    network = load_model(folder, folds=(0,)).network
    trained = {name: parameter.clone() for name, parameter in network.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for epoch, distance in ((5, 0.1), (7, 0.05), (9, 0.0)):
            for name, parameter in network.named_parameters():
                parameter.copy_(trained[name] + distance * torch.randn(parameter.shape, generator=generator))
            save_snapshot(network, folder / "fold_0", epoch, snapshots=CYCLIC_SNAPSHOTS)
    write_cyclic_file(folder / "fold_0", (5, 7, 9))
