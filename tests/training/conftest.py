"""Tiny preprocessed nnU-Net datasets, written in the formats of nnU-Net and small enough to train on in seconds."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CONFIGURATION = {2: "2d", 3: "3d_fullres"}


@dataclass
class TinyDataset:
    """A dataset that trainers can be built on."""

    dimensions: int
    plans: dict[str, Any]
    dataset_json: dict[str, Any]
    configuration: str
    folders: dict[str, Path] = field(default_factory=dict)

    def trainer(
        self,
        name: str,
        *,
        fold: int = 0,
        configuration: str | None = None,
        resume: bool = False,
        device: str = "cpu",
    ):
        """Build nnU-Net's trainer of that name as nnUNetv2_train does, at a length of seconds."""
        import torch
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

        plans = json.loads(json.dumps(self.plans)) | {"continue_training": resume}
        trainer_class = recursive_find_trainer_class_by_name(name)
        trainer = trainer_class(
            plans, configuration or self.configuration, fold, dict(self.dataset_json), torch.device(device)
        )
        trainer.num_iterations_per_epoch = 3
        trainer.num_val_iterations_per_epoch = 2
        return trainer

    @staticmethod
    def shrink_generative_models(patch: pytest.MonkeyPatch) -> None:
        """Give their networks three narrow levels, and samples that cost little."""
        from nnunet_stochastic.training import (
            DiffusionTrainer,
            GenerativeTrainer,
            ProbUNetTrainer,
            SoftmaxTrainer,
            SSNTrainer,
        )

        for trainer in (SoftmaxTrainer, SSNTrainer, ProbUNetTrainer, DiffusionTrainer):
            patch.setattr(trainer, "base_channels", 4)
            patch.setattr(trainer, "channel_multipliers", (1, 1, 2))
        patch.setattr(GenerativeTrainer, "batch_size_2d", None)
        patch.setattr(SSNTrainer, "num_training_samples", 3)
        patch.setattr(DiffusionTrainer, "num_mean_samples", 1)


def network_plan(dimensions: int, *, residual: bool) -> dict[str, Any]:
    stages = {"n_blocks_per_stage": [1, 1, 1]} if residual else {"n_conv_per_stage": [1, 1, 1]}
    name = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [8, 8, 16],
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": [[3] * dimensions] * 3,
            "strides": [[1] * dimensions, [2] * dimensions, [2] * dimensions],
            **stages,
            "n_conv_per_stage_decoder": [1, 1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def configuration_plan(dimensions: int, *, channels: int, residual: bool, patch: tuple[int, ...]) -> dict[str, Any]:
    def resampling(kind: str, order: int) -> dict[str, Any]:
        options = {"is_seg": kind == "seg", "order": order, "order_z": 0, "force_separate_z": None}
        return {f"resampling_fn_{kind}": "resample_data_or_seg_to_shape", f"resampling_fn_{kind}_kwargs": options}

    return {
        "data_identifier": f"tiny_{dimensions}d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch),
        "median_image_size_in_voxels": [16.0] * dimensions,
        "spacing": [1.0] * dimensions,
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        **resampling("data", 3),
        **resampling("seg", 1),
        **resampling("probabilities", 1),
        "architecture": network_plan(dimensions, residual=residual),
        "batch_dice": False,
    }


LABELS = {
    "classes": {"background": 0, "ball": 1, "core": 2},
    "regions": {"background": 0, "ball": [1, 2], "core": 2},
    "one class": {"background": 0},
    "ignore": {"background": 0, "ball": 1, "core": 2, "ignore": 3},
}


#: Trainers for which the previous stage of a cascade is there.
CASCADED = (
    "nnUNetTrainerMoB",
    "nnUNetTrainerLowRank",
    "nnUNetTrainerMoBDropout",
    "nnUNetTrainerMoBEnergy",
    "nnUNetTrainerSoftmax",
    "nnUNetTrainerSSN",
    "nnUNetTrainerProbUNet",
    "nnUNetTrainerDiffusion",
)


@pytest.fixture(autouse=True)
def small_curves(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few pixels for the curves that nnU-Net draws after each epoch: most of the time goes into its 16 million.

    It leaves seaborn's settings of matplotlib behind, which other tests must not see.
    """
    from nnunetv2.training.logging.nnunet_logger import plt

    monkeypatch.setattr(plt, "subplots", partial(plt.subplots, dpi=10))
    with plt.rc_context():
        yield


@pytest.fixture
def tiny_generative_models(monkeypatch: pytest.MonkeyPatch) -> None:
    TinyDataset.shrink_generative_models(monkeypatch)


@pytest.fixture
def make_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TinyDataset]:
    """Write a dataset of noisy balls with cores, preprocessed, in nnU-Net's folders of this test."""

    def make(
        dimensions: int = 3,
        *,
        labels: str = "classes",
        channels: int = 1,
        residual: bool = False,
        cascade: bool = False,
        patch: tuple[int, ...] | None = None,
    ) -> TinyDataset:
        from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

        folders = {name: tmp_path / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        for name, folder in folders.items():
            folder.mkdir(exist_ok=True)
            monkeypatch.setenv(name, str(folder))
        monkeypatch.setenv("nnUNet_n_proc_DA", "0")
        monkeypatch.setenv("nnUNet_extTrainer", str(Path(__file__).parents[2] / "trainers"))
        monkeypatch.delenv("nnUNet_stochastic_init", raising=False)
        monkeypatch.delenv("nnUNet_stochastic_seed", raising=False)

        configuration = CONFIGURATION[dimensions]
        plan = configuration_plan(dimensions, channels=channels, residual=residual, patch=patch or (16,) * dimensions)
        configurations = {configuration: plan}
        if cascade:
            configurations["3d_lowres"] = plan | {"next_stage": "3d_cascade_fullres"}
            configurations["3d_cascade_fullres"] = {"inherits_from": configuration, "previous_stage": "3d_lowres"}
            configuration = "3d_cascade_fullres"
        plans = {
            "dataset_name": "Dataset999_Tiny",
            "plans_name": "nnUNetPlans",
            "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
            "original_median_shape_after_transp": [16, 16, 16],
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "configurations": configurations,
            "experiment_planner_used": "ExperimentPlanner",
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": {},
        }
        dataset_json = {
            "channel_names": {str(c): "MR" for c in range(channels)},
            "labels": LABELS[labels],
            "numTraining": 4,
            "file_ending": ".nii.gz",
        }
        if labels == "regions":
            dataset_json["regions_class_order"] = [1, 2]

        base = folders["nnUNet_preprocessed"] / "Dataset999_Tiny"
        folder = base / plan["data_identifier"]
        folder.mkdir(parents=True)
        (base / "dataset_fingerprint.json").write_text("{}")
        names = [f"case_{i}" for i in range(4)]
        (base / "splits_final.json").write_text(json.dumps([{"train": names[:3], "val": names[3:]}]))
        generator = np.random.default_rng(0)
        shape = (16, 20, 18) if dimensions == 3 else (1, 24, 20)
        for name in names:
            centre = generator.uniform(0.4, 0.6, 3) * shape
            distance = np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - centre, axis=-1)
            segmentation = ((distance < 6).astype(np.int8) + (distance < 3))[None]
            image = segmentation + generator.normal(0, 0.5, (channels, *shape))
            if labels == "ignore":
                segmentation[..., :4] = 3
            locations = {label: np.argwhere(segmentation == label) for label in (1, 2)}
            if labels == "regions":
                locations[(1, 2)] = np.argwhere(segmentation > 0)
            if labels == "ignore":  # nnU-Net samples patches with annotated voxels
                locations[(-1, 0, 1, 2)] = np.argwhere(segmentation < 3)
            properties = {"class_locations": locations, "spacing": [1.0] * 3}
            nnUNetDatasetBlosc2.save_case(image.astype(np.float32), segmentation, properties, str(folder / name))
            if cascade:
                for trainer in CASCADED:
                    previous = folders["nnUNet_results"] / "Dataset999_Tiny" / f"{trainer}__nnUNetPlans__3d_lowres"
                    previous = previous / "predicted_next_stage" / "3d_cascade_fullres"
                    previous.mkdir(parents=True, exist_ok=True)
                    nnUNetDatasetBlosc2.save_seg(segmentation[0], str(previous / name))
        return TinyDataset(dimensions, plans, dataset_json, configuration, folders)

    return make


def seed(number: int) -> None:
    """Of all libraries that a training draws from."""
    import torch

    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 - nnU-Net's augmentation draws from it
    torch.manual_seed(number)


@pytest.fixture
def dataset(make_dataset: Callable[..., TinyDataset], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TinyDataset:
    """A 2D dataset with a deterministic checkpoint to start from."""
    dataset = make_dataset(2)
    seed(1)
    trainer = dataset.trainer("nnUNetTrainer")
    trainer.initialize()
    trainer.save_checkpoint(str(tmp_path / "deterministic.pth"))
    monkeypatch.setenv("nnUNet_stochastic_init", str(tmp_path / "deterministic.pth"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "nnUNet_results"))
    return dataset
