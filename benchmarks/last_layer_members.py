"""What do ten members of the last layer's Laplace approximation cost? Against one network of the same model.

Both make the total map of one preprocessed image in all mirrored views; the members make the others besides.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measuring import Row, time_ratios
from workload import workload_for, write_model_folder

from nnunet_stochastic.inference import Model, PredictionOptions, StochasticPredictor, load_model
from nnunet_stochastic.io.hashing import content_sha256
from nnunet_stochastic.networks.last_layer import last_layer_weights
from nnunet_stochastic.posteriors.laplace_fit import LaplaceFit
from nnunet_stochastic.posteriors.last_layer_curvature import curvature_for

__all__ = ["measure"]

TRAINERS = ("nnUNetTrainer", "nnUNetTrainerMoB", "nnUNetTrainerLowRank")


def measure(device: torch.device, repeats: int) -> list[Row]:
    workload = workload_for(device)
    image = torch.randn(1, *workload.grid_shape, generator=torch.Generator().manual_seed(0))
    rows = []
    for trainer in TRAINERS:
        with TemporaryDirectory() as temporary:
            folder = write_model_folder(Path(temporary), workload, trainer_name=trainer)
            write_fit(load_model(folder, folds=[0]))
            members, one = (
                StochasticPredictor.from_model_folder(
                    folder, folds=[0], device=device, options=PredictionOptions(epistemic=method, num_members=10)
                )
                for method in ("laplace", "none")
            )
            times = time_ratios(
                lambda members=members: members.predict_preprocessed(image),
                lambda one=one: one.predict_preprocessed(image),
                repeats=repeats,
                device=device,
            )
        rows.append(Row(f"10 members by laplace, {trainer}", "one network", "time", times, 1.15))
    return rows


def write_fit(model: Model) -> None:
    """Give the fold a posterior in which all weights vary alike: what it costs does not depend on it."""
    weight, _ = last_layer_weights(model.network)
    checkpoint = model.checkpoints[0]
    LaplaceFit(
        curvature_for(weight.shape[0], weight.shape[1] + 1),
        regions=model.space.regions,
        temperature=1.0,
        prior_precision=100.0,
        checkpoint_sha256=checkpoint.sha256,
        plans_sha256=content_sha256(model.plans_manager.plans),
        criterion="nll",
        fitted_against="labels",
        trained_against="labels",
        voxels=1.0,
    ).save(checkpoint.folder)
