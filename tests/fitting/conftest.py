"""Trained models of the tiny dataset, of random weights, with nnU-Net's folders around them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_stochastic.inference import Model, load_model
from tests.training.conftest import make_dataset, tiny_generative_models

__all__ = ["make_dataset", "make_model", "tiny_generative_models"]


@pytest.fixture
def make_model(make_dataset) -> Callable[..., Model]:
    """Write a model folder of the tiny dataset and load it; options beside the trainer are those of the dataset."""

    def make(
        trainer: str = "nnUNetTrainer",
        *,
        folds: tuple[int | str, ...] = (0,),
        scale: float = 0.2,
        num_raters: int = 0,
        init_args: dict[str, Any] | None = None,
        **options,
    ) -> Model:
        dataset = make_dataset(**options)
        if num_raters:
            dataset.dataset_json["num_raters"] = num_raters
        intensities = {"mean": 0.0, "std": 1.0, "percentile_00_5": -1.0, "percentile_99_5": 1.0}
        channels = dataset.dataset_json["channel_names"]
        dataset.plans["foreground_intensity_properties_per_channel"] = dict.fromkeys(channels, intensities)
        folder = (
            dataset.folders["nnUNet_results"] / "Dataset999_Tiny" / f"{trainer}__nnUNetPlans__{dataset.configuration}"
        )
        folder.mkdir(parents=True)
        preprocessed = dataset.folders["nnUNet_preprocessed"] / "Dataset999_Tiny"
        for place in (folder / "plans.json", preprocessed / "nnUNetPlans.json"):
            place.write_text(json.dumps(dataset.plans))
        for place in (folder, preprocessed):
            (place / "dataset.json").write_text(json.dumps(dataset.dataset_json))
        manager = PlansManager(dataset.plans)
        configuration = manager.get_configuration(dataset.configuration)
        for index, fold in enumerate(folds):
            torch.manual_seed(index)
            network = recursive_find_trainer_class_by_name(trainer).build_network_architecture(
                manager,
                configuration,
                determine_num_input_channels(manager, configuration, dataset.dataset_json),
                manager.get_label_manager(dataset.dataset_json).num_segmentation_heads,
                True,
            )
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.add_(torch.randn_like(parameter), alpha=scale)
            (folder / f"fold_{fold}").mkdir()
            checkpoint = {
                "network_weights": network.state_dict(),
                "init_args": {"configuration": dataset.configuration, "fold": fold} | (init_args or {}),
                "trainer_name": trainer,
                "inference_allowed_mirroring_axes": (0, 1),
            }
            torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
        return load_model(folder, folds=folds)

    return make
