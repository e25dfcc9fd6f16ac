"""Does the uncertainty cost anything? The command nnunet_stochastic_predict against nnUNetv2_predict.

The same model (one fold) and images, both commands with their defaults: ours with all maps, exact of two classes, of
three by 30 samples. Time from start to end; memory of the whole process tree, main memory only.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measuring import Row, executable, peak_command_bytes, run_command, time_ratios
from workload import CONFIGURATION, DATASET, TRAINER, Workload, workload_for, write_images, write_model_folder

__all__ = ["measure"]

NUM_CASES = 2


@dataclass(frozen=True)
class _Model:
    """A model, the background being one of its classes, and its name in the table."""

    work: str
    trainer_name: str = TRAINER
    num_classes: int = 2


_MODELS = (
    _Model("whole command"),
    _Model("whole command, LowRank", trainer_name="nnUNetTrainerLowRank"),
    _Model("whole command, 3 classes", num_classes=3),
)


def measure(device: torch.device, repeats: int) -> list[Row]:
    return [row for model in _MODELS for row in _rows(model, workload_for(device), device, repeats)]


def _rows(model: _Model, workload: Workload, device: torch.device, repeats: int) -> list[Row]:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = write_images(folder / "images", workload, num_cases=NUM_CASES)
        write_model_folder(folder / "results", workload, trainer_name=model.trainer_name, num_classes=model.num_classes)
        environment = {
            "nnUNet_results": str(folder / "results"),
            "nnUNet_raw": str(folder / "raw"),
            "nnUNet_preprocessed": str(folder / "preprocessed"),
        }
        runs = itertools.count()

        def command(name: str) -> list[str]:
            options = ["-d", DATASET, "-c", CONFIGURATION, "-tr", model.trainer_name, "-f", "0", "-device", device.type]
            output = folder / f"predictions_{next(runs)}"
            return [executable(name), "-i", str(images), "-o", str(output), *options]

        def ours() -> list[str]:
            return command("nnunet_stochastic_predict")

        def theirs() -> list[str]:
            return command("nnUNetv2_predict")

        memory = peak_command_bytes(ours(), environment) / peak_command_bytes(theirs(), environment)
        times = time_ratios(
            lambda: run_command(ours(), environment),
            lambda: run_command(theirs(), environment),
            repeats=repeats,
            device=device,
            warm_up=False,  # the measurement of memory was one
        )
    against = "nnUNetv2_predict"
    return [Row(model.work, against, "time", times, 0.85), Row(model.work, against, "memory", (memory,), 1.2)]
