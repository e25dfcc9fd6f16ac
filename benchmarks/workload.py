"""A trained model folder of nnU-Net and images, as large as the device can carry in minutes.

The network is the one that nnU-Net plans by default (PlainConvUNet, 32 to 320 features) with the heads of
nnUNetTrainerMoB and random weights. The configuration is one like ``3d_lowres``: the images have more voxels than the
network's grid, so preprocessing and export have their true share of the work. Random weights make noise of every map,
which compresses worse than a real prediction.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

__all__ = ["CLINICAL", "Workload", "dataset_json", "plans", "workload_for", "write_images", "write_model_folder"]

TRAINER = "nnUNetTrainerMoB"
CONFIGURATION = "3d_lowres"
DATASET = "Dataset999_Benchmark"


@dataclass(frozen=True)
class Workload:
    """Sizes in voxels along z, y, x; spacings in mm; features of the network's first stage."""

    patch_size: tuple[int, int, int]
    strides: tuple[tuple[int, int, int], ...]
    grid_spacing_mm: tuple[float, float, float]
    image_shape: tuple[int, int, int]
    image_spacing_mm: tuple[float, float, float]
    first_features: int = 32

    @property
    def features(self) -> list[int]:
        return [min(self.first_features * 2**stage, 320) for stage in range(len(self.strides))]

    @property
    def grid_shape(self) -> tuple[int, ...]:
        """Of an image on the network's grid."""
        sizes = zip(self.image_shape, self.image_spacing_mm, self.grid_spacing_mm, strict=True)
        return tuple(round(length * spacing / grid) for length, spacing, grid in sizes)


_CPU = Workload(
    patch_size=(32, 64, 64),
    strides=((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)),
    grid_spacing_mm=(4.5, 2.25, 2.25),
    image_shape=(96, 288, 288),  # 32 x 96 x 96 on the grid: 4 tiles
    image_spacing_mm=(1.5, 0.75, 0.75),
)
_CUDA = Workload(
    patch_size=(128, 128, 128),
    strides=((1, 1, 1), *((2, 2, 2),) * 5),
    grid_spacing_mm=(1.5, 1.5, 1.5),
    image_shape=(192, 512, 512),  # 192 x 256 x 256 on the grid: 18 tiles
    image_spacing_mm=(1.5, 0.75, 0.75),
)
#: A CT of the trunk, and a network so small that what is around it decides.
CLINICAL = Workload(
    patch_size=(128, 128, 128),
    strides=((1, 1, 1), (2, 2, 2)),
    grid_spacing_mm=(1.5, 1.5, 1.5),
    image_shape=(300, 512, 512),  # 200 x 256 x 256 on the grid: 27 tiles
    image_spacing_mm=(1.0, 0.75, 0.75),
    first_features=2,
)


def workload_for(device: torch.device) -> Workload:
    return _CUDA if device.type == "cuda" else _CPU


def write_model_folder(
    results: Path,
    workload: Workload,
    *,
    num_folds: int = 1,
    trainer_name: str = TRAINER,
    num_classes: int = 2,
    confident: bool = False,
) -> Path:
    """Write folds 0 … num_folds - 1 into ``results``, laid out as nnUNet_results, and return the model's folder.

    Random weights are certain of no voxel. A ``confident`` network has mean logits a hundred times as large, and a
    background that is ahead where its features are near 0: of three classes it is certain of 96 % of the voxels, of 42
    and 118 classes of some 80 %, which is less than a trained network is.
    """
    folder = results / DATASET / f"{trainer_name}__nnUNetPlans__{CONFIGURATION}"
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans(workload)))
    (folder / "dataset.json").write_text(json.dumps(dataset_json(num_classes)))
    manager = PlansManager(plans(workload))
    trainer = recursive_find_trainer_class_by_name(trainer_name)
    for fold in range(num_folds):
        torch.manual_seed(fold)
        network = trainer.build_network_architecture(
            manager, manager.get_configuration(CONFIGURATION), 1, num_classes, True
        )
        if confident:
            layer = network.decoder.seg_layers[-1]
            with torch.no_grad():
                layer.weight *= 100
                layer.bias[0] += 15
        checkpoint = {
            "network_weights": network.state_dict(),
            "init_args": {"configuration": CONFIGURATION, "fold": fold},
            "trainer_name": trainer_name,
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        (folder / f"fold_{fold}").mkdir()
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def write_images(folder: Path, workload: Workload, *, num_cases: int) -> Path:
    """Write images of noise in Hounsfield units."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for case in range(num_cases):
        array = generator.normal(-600, 200, workload.image_shape).astype(np.int16)
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(workload.image_spacing_mm[::-1])
        sitk.WriteImage(image, str(folder / f"case{case}_0000.nii.gz"), useCompression=True)
    return folder


def dataset_json(num_classes: int) -> dict[str, Any]:
    """Of a dataset with this many classes, the background included."""
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{f"structure {label}": label for label in range(1, num_classes)}},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }


def plans(workload: Workload) -> dict[str, Any]:
    """nnU-Net's plans with the one configuration of the workload."""
    stages = len(workload.strides)
    resampling = {"order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": f"nnUNetPlans_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": workload.patch_size,
        "median_image_size_in_voxels": workload.grid_shape,
        "spacing": workload.grid_spacing_mm,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **resampling},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **resampling},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **resampling},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": workload.features,
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3, 3, 3]] * stages,
                "strides": workload.strides,
                "n_conv_per_stage": [2] * stages,
                "n_conv_per_stage_decoder": [2] * (stages - 1),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    intensities = {"mean": -600, "std": 200, "median": -600, "min": -1500, "max": 300}
    intensities |= {"percentile_00_5": -1115, "percentile_99_5": -85}
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": workload.image_spacing_mm,
        "original_median_shape_after_transp": workload.image_shape,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
    }
