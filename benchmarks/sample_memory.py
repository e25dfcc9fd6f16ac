"""Does memory grow with whole samples? nnunet_stochastic_predict --save_samples N against itself with fewer.

One case whose samples share noise, by a network of few features; memory of the whole process. The samples of LowRank
are drawn after one pass over the tiles, from the blended fields in which they are linear: 19 numbers a voxel here, 1.3
GiB, within the 2 GiB up to which ``linear_samples`` keeps them. Samples are handed over one by one, so that memory is
the same whatever their number.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measuring import Row, executable, peak_command_bytes
from workload import Workload, write_images, write_model_folder

__all__ = ["measure"]

TRAINER = "nnUNetTrainerLowRank"
FEW, SAMPLES = 14, (28,)


class _FewFeatures(Workload):
    @property
    def features(self) -> list[int]:
        return [4, 8]


#: 72 MiB for a sample's log-ratios.
_WORKLOAD = _FewFeatures(
    patch_size=(64, 128, 128),
    strides=((1, 1, 1), (2, 2, 2)),
    grid_spacing_mm=(1.0, 1.0, 1.0),
    image_shape=(192, 320, 308),
    image_spacing_mm=(1.0, 1.0, 1.0),
)


def measure(device: torch.device, repeats: int) -> list[Row]:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = write_images(folder / "images", _WORKLOAD, num_cases=1)
        model = write_model_folder(folder / "results", _WORKLOAD, trainer_name=TRAINER)

        def peak(num_samples: int) -> int:
            command = [executable("nnunet_stochastic_predict"), "-i", str(images), "-o", str(folder / "predictions")]
            command += ["-m", str(model), "-f", "0", "-device", device.type, "--disable_tta", "-step_size", "1"]
            found = peak_command_bytes([*command, "--save_samples", str(num_samples)], environment={})
            print(f"{num_samples} samples: {found / 2**20:.0f} MiB", file=sys.stderr)
            return found

        ratios: dict[int, list[float]] = {count: [] for count in SAMPLES}
        for _ in range(repeats):
            few = peak(FEW)
            for count, found in ratios.items():
                found.append(peak(count) / few)
    return [Row(f"{count} whole samples", f"{FEW}", "memory", tuple(found), 1.05) for count, found in ratios.items()]
