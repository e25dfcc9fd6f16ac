"""Small model folders of nnU-Net with random weights, and images to predict with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_stochastic.distributions import GaussianLogits
from nnunet_stochastic.networks import DistributionNetwork


class UnitGaussian(GaussianLogits):
    """N(μ, I), plus one number of N(0, 1) per class for the whole image."""

    @property
    def noise_channels(self):
        return self.mean_logits.shape[1]

    shared_noise_channels = noise_channels

    def transform(self, noise, shared_noise):
        return self.mean_logits + noise + shared_noise.unflatten(2, (-1, *[1] * (self.mean_logits.ndim - 2)))

    def voxel_covariance(self):
        batch, classes, *spatial = self.mean_logits.shape
        covariance = 2 * torch.eye(classes).view(1, classes, classes, *[1] * len(spatial))
        return covariance.expand(batch, classes, classes, *spatial)


class GaussianNetwork(DistributionNetwork):
    """Any network, its output the mean of ``UnitGaussian``."""

    is_gaussian = True

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)

    def logit_distribution(self, x):
        return UnitGaussian(self(x))


class GaussianTrainer(nnUNetTrainer):
    @staticmethod
    def build_network_architecture(
        plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision=True
    ):
        network = nnUNetTrainer.build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )
        return GaussianNetwork(network)


LABELS = {"background": 0, "nodule": 1}
THREE_LABELS = {"background": 0, "kidney": 1, "tumour": 2}
REGIONS = {"background": 0, "organ": [1, 2], "tumour": 2}
SIX_LABELS = {"background": 0, **{f"part_{label}": label for label in range(1, 6)}}
EIGHT_LABELS = {"background": 0, **{f"part_{label}": label for label in range(1, 8)}}


def plans(
    *,
    dimension: int = 3,
    patch_size: int = 16,
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
    reader_writer: str = "SimpleITKIO",
    transpose: tuple[int, int, int] = (0, 1, 2),
    channels: int = 1,
    previous_stage: str | None = None,
    resampling: tuple[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Plans with one configuration, ``3d_fullres`` or ``2d`` (or ``3d_cascade_fullres`` after a previous stage).

    ``resampling`` names the function for probabilities and its arguments, if they are not nnU-Net's own.
    """
    convolution = f"torch.nn.modules.conv.Conv{dimension}d"
    configuration = {
        "data_identifier": "nnUNetPlans_test",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [patch_size] * dimension,
        "median_image_size_in_voxels": [24.0] * dimension,
        "spacing": list(spacing[-dimension:]),
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": 2,
                "features_per_stage": [4, 8],
                "conv_op": convolution,
                "kernel_sizes": [[3] * dimension] * 2,
                "strides": [[1] * dimension, [2] * dimension],
                "n_conv_per_stage": [1, 1],
                "n_conv_per_stage_decoder": [1],
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimension}d",
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
    name = configuration_name(dimension)
    configurations = {name: configuration}
    if resampling is not None:
        configuration["resampling_fn_probabilities"], configuration["resampling_fn_probabilities_kwargs"] = resampling
    if previous_stage is not None:
        configuration["next_stage"] = "3d_cascade_fullres"
        configurations = {
            previous_stage: configuration,
            "3d_cascade_fullres": {"inherits_from": previous_stage, "previous_stage": previous_stage},
        }
    statistics = {"max": 4.0, "mean": 0.0, "median": 0.0, "min": -4.0, "percentile_00_5": -3.0, "percentile_99_5": 3.0}
    statistics["std"] = 1.0
    return {
        "dataset_name": "Dataset999_Test",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": list(spacing),
        "original_median_shape_after_transp": [24, 24, 24],
        "image_reader_writer": reader_writer,
        "transpose_forward": list(transpose),
        "transpose_backward": [transpose.index(axis) for axis in range(3)],
        "configurations": configurations,
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(channel): statistics for channel in range(channels)},
    }


def configuration_name(dimension: int) -> str:
    return "2d" if dimension == 2 else "3d_fullres"


def write_model_folder(
    folder: Path,
    *,
    folds: tuple[int | str, ...] = (0,),
    labels: dict[str, Any] | None = None,
    file_ending: str = ".nii.gz",
    mirror_axes: tuple[int, ...] | None = None,
    trainer: type[nnUNetTrainer] = nnUNetTrainer,
    dimension: int = 3,
    channels: int = 1,
    previous_stage: str | None = None,
    **plan_options: Any,
) -> Path:
    """A folder as nnUNetv2_train leaves it, the weights random but different in each fold."""
    labels = labels or LABELS
    dataset_json: dict[str, Any] = {
        "channel_names": {str(channel): "image" for channel in range(channels)},
        "labels": labels,
        "numTraining": 1,
        "file_ending": file_ending,
    }
    if any(isinstance(value, list) for value in labels.values()):
        dataset_json["regions_class_order"] = [1, 2]
    plan = plans(dimension=dimension, channels=channels, previous_stage=previous_stage, **plan_options)
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plan))
    (folder / "dataset.json").write_text(json.dumps(dataset_json))
    manager = PlansManager(plan)
    name = configuration_name(dimension) if previous_stage is None else "3d_cascade_fullres"
    label_manager = manager.get_label_manager(dataset_json)
    for index, fold in enumerate(folds):
        torch.manual_seed(index)
        network = trainer.build_network_architecture(
            manager,
            manager.get_configuration(name),
            channels + (len(label_manager.foreground_labels) if previous_stage is not None else 0),
            label_manager.num_segmentation_heads,
            True,
        )
        with torch.no_grad():  # confident enough that the maps vary
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
        (folder / f"fold_{fold}").mkdir()
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": {},
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float64(0.5)], "lrs": [np.float32(0.01)]},
            "_best_ema": np.float64(0.5),
            "current_epoch": 1,
            "init_args": {
                "plans": plan,
                "configuration": name,
                "fold": fold,
                "dataset_json": dataset_json,
                "device": torch.device("cpu"),
            },
            "trainer_name": trainer.__name__,
            "inference_allowed_mirroring_axes": mirror_axes if mirror_axes is not None else tuple(range(dimension)),
        }
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def image_array(seed: int = 0, shape: tuple[int, ...] = (20, 24, 18)) -> np.ndarray:
    """Smooth noise, float32."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return (100 * noise / noise.std() + 300).astype(np.float32)


def write_image(path: Path, array: np.ndarray, *, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Path:
    """Write (z, y, x) with this (x, y, z) spacing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    return path
