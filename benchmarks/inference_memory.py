"""Does memory grow with samples or members? nnunet_stochastic_predict against itself with more of them.

One case, without mirroring; memory of the whole process.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measuring import Row, executable, peak_command_bytes
from workload import workload_for, write_images, write_model_folder

__all__ = ["measure"]

SAMPLES, MEMBERS = 100, 10


def measure(device: torch.device, repeats: int) -> list[Row]:
    workload = workload_for(device)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = write_images(folder / "images", workload, num_cases=1)
        model = write_model_folder(folder / "results", workload, num_folds=MEMBERS)

        def peak(num_samples: int, num_members: int) -> int:
            command = [executable("nnunet_stochastic_predict"), "-i", str(images), "-o", str(folder / "predictions")]
            command += ["-m", str(model), "-device", device.type, "--disable_tta", "--num_samples", str(num_samples)]
            return peak_command_bytes([*command, "-f", *map(str, range(num_members))], environment={})

        more_samples, more_members = [], []
        for _ in range(repeats):
            one = peak(1, 1)
            more_samples.append(peak(SAMPLES, 1) / one)
            more_members.append(peak(1, MEMBERS) / one)
    return [
        Row(f"K = {SAMPLES} samples", "K = 1", "memory", tuple(more_samples), 1.05),
        Row(f"E = {MEMBERS} members", "E = 1", "memory", tuple(more_members), 1.05),
    ]
