"""What does a training step cost more than nnU-Net's own? The k-sample loss of MoB and LowRank against nnUNetTrainer's.

The planned network on one batch of noise, without the loader: forward, loss, gradients and the optimizer's step, with
deep supervision, five samples a voxel, in nnU-Net's precision (mixed on CUDA).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from measuring import Row, peak_tensor_bytes, time_ratios
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from workload import CONFIGURATION, DATASET, dataset_json, plans, workload_for

__all__ = ["measure"]

TRAINERS = {"MoB": "nnUNetTrainerMoB", "LowRank": "nnUNetTrainerLowRank"}
PLAIN = "nnUNetTrainer"
AFTER_WARM_UP = 500  # epochs


def measure(device: torch.device, repeats: int) -> list[Row]:
    with TemporaryDirectory() as temporary:
        plain = _training_step(PLAIN, Path(temporary), device)
        memory = peak_tensor_bytes(plain, device)
        rows = []
        for name, trainer in TRAINERS.items():
            ours = _training_step(trainer, Path(temporary), device)
            work = f"{name}, training step"
            times = time_ratios(ours, plain, repeats=repeats, device=device)
            rows.append(Row(work, PLAIN, "time", times, 1.1))
            rows.append(Row(work, PLAIN, "memory", (peak_tensor_bytes(ours, device) / memory,)))
    return rows


def _training_step(trainer_name: str, folder: Path, device: torch.device) -> Callable[[], object]:
    workload = workload_for(device)
    preprocessed = folder / DATASET / f"nnUNetPlans_{CONFIGURATION}"
    preprocessed.mkdir(parents=True, exist_ok=True)
    (preprocessed / "case.b2nd").touch()  # nnU-Net tells the format of the data by the ending; it is not read
    trainer_class = recursive_find_trainer_class_by_name(trainer_name)
    variables = {"nnUNet_preprocessed": str(folder), "nnUNet_results": str(folder), "nnUNet_compile": "f"}
    with patch.dict(os.environ, variables):
        trainer = trainer_class(
            plans(workload) | {"continue_training": False}, CONFIGURATION, 0, dataset_json(2), device
        )
        trainer.initialize()
    trainer.current_epoch = AFTER_WARM_UP
    trainer.network.train()
    torch.manual_seed(0)
    shape = (trainer.batch_size, 1, *workload.patch_size)
    data = torch.randn(shape)
    labels = (data > 0).float()
    scales = trainer._get_deep_supervision_scales()
    size = [[round(length * s) for length, s in zip(workload.patch_size, scale, strict=True)] for scale in scales]
    target = [torch.nn.functional.interpolate(labels, s) for s in size]
    batch = {"data": data.to(device), "target": [t.to(device) for t in target]}
    return lambda: trainer.train_step(batch)
