"""What memory does the export of many classes take? Its peak against the bytes of the maps that it writes.

A prediction of 42 classes on the network's grid is restored to the image's geometry and written with all maps, as
``nnunet_stochastic_predict`` does after the network. Memory of a process of its own, above that before it; the
maps' bytes are 4 per voxel and map. Linux only. With a segmentation, as a script:

    python benchmarks/export_memory.py --segmentation LABELS.nii.gz --image_shape 300 512 512 --grid_shape 200 273 273
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
from measuring import Row, peak_resident_bytes
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor
from workload import CONFIGURATION, dataset_json, plans, workload_for

from nnunet_stochastic.inference.images import write_map
from nnunet_stochastic.inference.restore import GridPrediction, restore
from nnunet_stochastic.io.written import check_written
from nnunet_stochastic.maps import MAP_NAMES
from nnunet_stochastic.outcomes import OutcomeSpace

__all__ = ["measure"]

NUM_CLASSES = 42
CERTAINTY = 0.9  # of a voxel's own class; the others share the rest


def measure(device: torch.device, repeats: int) -> list[Row]:
    workload = workload_for(device)
    shapes = ["--image_shape", *map(str, workload.image_shape), "--grid_shape", *map(str, workload.grid_shape)]
    command = [sys.executable, __file__, *shapes]
    ratios = [float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(repeats)]
    return [Row(f"export of {NUM_CLASSES} classes", "the maps' bytes", "memory", tuple(ratios), 2.0)]


def export_ratio(labels: Tensor, num_classes: int, image_shape: Sequence[int]) -> float:
    """Peak of restoring and writing a prediction of these labels (z, y, x), over the bytes of its maps."""
    grid = _prediction(labels, num_classes)
    workload = workload_for(torch.device("cpu"))
    manager = PlansManager(plans(workload))
    managers = manager, manager.get_configuration(CONFIGURATION), manager.get_label_manager(dataset_json(num_classes))
    properties = _properties(image_shape)

    def export() -> None:
        prediction = restore(grid, properties, *managers, maps=MAP_NAMES)
        with TemporaryDirectory() as folder:
            for name, array in prediction.maps.items():
                path = Path(folder) / f"{name}.nii.gz"
                write_map(array, path, properties, SimpleITKIO)
                check_written(path)
            SimpleITKIO().write_seg(prediction.segmentation, str(Path(folder) / "labels.nii.gz"), properties)

    return peak_resident_bytes(export) / (4 * torch.Size(image_shape).numel() * len(MAP_NAMES))


def _prediction(labels: Tensor, num_classes: int) -> GridPrediction:
    mean = torch.full((num_classes, *labels.shape), (1 - CERTAINTY) / (num_classes - 1))
    for channel, values in enumerate(mean):
        values[labels == channel] = CERTAINTY
    uncertain = torch.rand(labels.shape, generator=torch.Generator().manual_seed(0))
    space = OutcomeSpace(num_classes)
    return GridPrediction(space, space.log_ratios_of_probabilities(mean), 0.1 * uncertain, 0.1 * uncertain)


def _blocks(num_classes: int, shape: Sequence[int]) -> Tensor:
    """Labels in blocks of a few voxels."""
    coarse = torch.randint(
        num_classes, [max(1, size // 8) for size in shape], generator=torch.Generator().manual_seed(0)
    )
    return _resized(coarse, shape)


def _resized(labels: Tensor, shape: Sequence[int]) -> Tensor:
    return F.interpolate(labels[None, None].float(), size=tuple(shape), mode="nearest")[0, 0].round().long()


def _properties(shape: Sequence[int]) -> dict[str, Any]:
    spacing = (1.0, 0.75, 0.75)
    identity = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    return {
        "spacing": spacing,
        "sitk_stuff": {"spacing": spacing[::-1], "origin": (0.0, 0.0, 0.0), "direction": identity},
        "shape_before_cropping": tuple(shape),
        "bbox_used_for_cropping": [(0, size) for size in shape],
        "shape_after_cropping_and_before_resampling": tuple(shape),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks/export_memory.py", description=__doc__)
    parser.add_argument("--segmentation", type=Path, help="label map to take instead of blocks")
    parser.add_argument("--image_shape", type=int, nargs=3, required=True, metavar=("Z", "Y", "X"))
    parser.add_argument("--grid_shape", type=int, nargs=3, required=True, metavar=("Z", "Y", "X"))
    arguments = parser.parse_args()
    if arguments.segmentation is None:
        labels, num_classes = _blocks(NUM_CLASSES, arguments.grid_shape), NUM_CLASSES
    else:
        stored = np.asanyarray(nibabel.load(arguments.segmentation).dataobj).transpose(2, 1, 0)
        values, indices = np.unique(stored, return_inverse=True)  # labels may leave numbers out
        labels = _resized(torch.from_numpy(indices.reshape(stored.shape)), arguments.grid_shape)
        num_classes = len(values)
        print(f"{num_classes} classes", file=sys.stderr)
    print(f"{export_ratio(labels, num_classes, arguments.image_shape):.3f}")


if __name__ == "__main__":
    main()
