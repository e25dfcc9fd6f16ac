"""What does each of 100 whole samples cost, against the only one?

A model whose samples share noise (LowRank) and one whose samples do not (MoB), from the preprocessed image to the
samples on the network's grid: network, mirrored views and the total map are in both sides. Resampling to the image and
writing cost each sample the same.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measuring import Row, time_ratios
from torch import Tensor
from workload import workload_for, write_model_folder

from nnunet_stochastic import PredictionOptions, StochasticPredictor

__all__ = ["measure"]

TRAINERS = {"LowRank": "nnUNetTrainerLowRank", "MoB": "nnUNetTrainerMoB"}
SAMPLES = 100


def measure(device: torch.device, repeats: int) -> list[Row]:
    workload = workload_for(device)
    data = torch.randn(1, *workload.grid_shape, generator=torch.Generator().manual_seed(0))
    rows = []
    with TemporaryDirectory() as temporary:
        for name, trainer in TRAINERS.items():
            model = write_model_folder(Path(temporary), workload, trainer_name=trainer)
            predictors = {
                count: StochasticPredictor.from_model_folder(
                    model,
                    folds=(0,),
                    options=PredictionOptions(maps=("total",), num_saved_samples=count),
                    device=device,
                )
                for count in (1, SAMPLES)
            }
            ratios = time_ratios(
                partial(predictors[SAMPLES].predict_grid, data, on_sample=_leave),
                partial(predictors[1].predict_grid, data, on_sample=_leave),
                repeats=repeats,
                device=device,
            )
            each = tuple(ratio / SAMPLES for ratio in ratios)
            rows.append(Row(f"{name}, a whole sample of {SAMPLES}", "the only one", "time", each))
    return rows


def _leave(index: int, sample: Tensor) -> None:
    """Take a sample and do nothing with it."""
