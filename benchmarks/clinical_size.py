"""What is around the network at clinical size? nnunet_stochastic_predict with all maps against nnUNetv2_predict.

A CT of 300 x 512 x 512 voxels, a network so small that it hardly counts, one fold, no mirrored views; both commands
read, resample, restore and write with their defaults, stock no maps, ours all four. Processor time of the whole command
with its processes, user and system, which other work on the machine disturbs less than wall time; memory of the whole
process tree. With many classes stock keeps all of them at the image's size, some 6 bytes per class and voxel: of 42
classes 20 GB, of 118 classes 56 GB at full size. Those rows are of fewer slices, of which it takes 5 GB. Their network
is confident, as trained ones are: what random weights would say, equal chances of 118 classes everywhere, is no
segmentation, and has no voxel that samples can leave out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measuring import Row, cpu_seconds, executable, peak_command_bytes
from workload import CLINICAL, CONFIGURATION, DATASET, TRAINER, write_images, write_model_folder

__all__ = ["measure"]


@dataclass(frozen=True)
class _Question:
    """One model, and how its maps are made.

    Parameters
    ----------
    work
        Name in the table.
    num_classes, num_slices
        Classes of the model, the background included, and slices of the image.
    options
        Options of our command.
    confident
        Whether the network is all but certain of most voxels.
    time_limit
        What the ratio of processor times must not exceed; ``None`` where no goal is set.
    """

    work: str
    num_classes: int
    num_slices: int
    options: tuple[str, ...] = ()
    confident: bool = False
    time_limit: float | None = None


_QUESTIONS = (
    _Question("whole command, clinical size, exact", 2, 300, time_limit=1.0),
    _Question("whole command, clinical size, 3 classes, K = 30", 3, 300, ("--estimator", "mc"), time_limit=1.3),
    _Question(
        "whole command, 72 slices, 42 classes, K = 30", 42, 72, ("--estimator", "mc"), confident=True, time_limit=1.3
    ),
    _Question(
        "whole command, 24 slices, 118 classes, K = 30", 118, 24, ("--estimator", "mc"), confident=True, time_limit=1.3
    ),
)


def measure(device: torch.device, repeats: int) -> list[Row]:
    rows = []
    for question in _QUESTIONS:
        times, memory = _ratios(question, device, repeats)
        rows.append(Row(question.work, "nnUNetv2_predict", "processor time", times, question.time_limit))
        rows.append(Row(question.work, "nnUNetv2_predict", "memory", memory, 1.0))
    return rows


def _ratios(question: _Question, device: torch.device, repeats: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of processor times, and of the peaks of memory."""
    _, height, width = CLINICAL.image_shape
    on_grid = question.num_slices * 2 // 3  # 1 mm to 1.5 mm
    patch_size = (min(CLINICAL.patch_size[0], on_grid), *CLINICAL.patch_size[1:])
    workload = replace(CLINICAL, image_shape=(question.num_slices, height, width), patch_size=patch_size)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = write_images(folder / "images", workload, num_cases=1)
        write_model_folder(folder / "results", workload, num_classes=question.num_classes, confident=question.confident)
        environment = {
            "nnUNet_results": str(folder / "results"),
            "nnUNet_raw": str(folder / "raw"),
            "nnUNet_preprocessed": str(folder / "preprocessed"),
        }

        def cost(name: str, *options: str) -> tuple[float, int]:
            model = ["-d", DATASET, "-c", CONFIGURATION, "-tr", TRAINER, "-f", "0", "-device", device.type]
            with TemporaryDirectory(dir=folder) as output:
                command = [
                    executable(name),
                    "-i",
                    str(images),
                    "-o",
                    f"{output}/out",
                    *model,
                    "--disable_tta",
                    *options,
                ]
                return cpu_seconds(lambda: peak_command_bytes(command, environment))

        times, memory = [], []
        for _ in range(repeats):
            ours_s, ours_bytes = cost("nnunet_stochastic_predict", *question.options)
            theirs_s, theirs_bytes = cost("nnUNetv2_predict")
            times.append(ours_s / theirs_s)
            memory.append(ours_bytes / theirs_bytes)
    return tuple(times), tuple(memory)
