"""Does the uncertainty cost anything? The command nnunet_stochastic_predict against nnUNetv2_predict.

The same model (one fold) and images, both commands with their defaults: ours with all maps, exact. Time from
start to end; memory of the whole process tree, main memory only.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measuring import Row, executable, peak_command_bytes, run_command, time_ratios
from workload import CONFIGURATION, DATASET, TRAINER, workload_for, write_images, write_model_folder

__all__ = ["measure"]

NUM_CASES = 2


def measure(device: torch.device, repeats: int) -> list[Row]:
    workload = workload_for(device)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = write_images(folder / "images", workload, num_cases=NUM_CASES)
        write_model_folder(folder / "results", workload)
        environment = {
            "nnUNet_results": str(folder / "results"),
            "nnUNet_raw": str(folder / "raw"),
            "nnUNet_preprocessed": str(folder / "preprocessed"),
        }
        runs = itertools.count()

        def command(name: str) -> list[str]:
            model = ["-d", DATASET, "-c", CONFIGURATION, "-tr", TRAINER, "-f", "0", "-device", device.type]
            output = folder / f"predictions_{next(runs)}"
            return [executable(name), "-i", str(images), "-o", str(output), *model]

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
    work, against = "whole command", "nnUNetv2_predict"
    return [Row(work, against, "time", times, 1.0), Row(work, against, "memory", (memory,), 1.2)]
