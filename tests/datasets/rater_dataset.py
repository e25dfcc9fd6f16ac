"""A small dataset with raters, raw and preprocessed by nnU-Net's own preprocessor."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from tests.inference import model_folder

NAME = "Dataset999_Test"
LABELS = {
    "classes": {"background": 0, "ball": 1, "core": 2},
    "regions": {"background": 0, "ball": [1, 2], "core": 2},
    "ignore": {"background": 0, "ball": 1, "core": 2, "ignore": 3},
}


@dataclass
class RaterTestDataset:
    """Folders and descriptions of the dataset."""

    raw: Path
    preprocessed: Path
    plans: PlansManager
    configuration: ConfigurationManager
    dataset_json: dict[str, Any]
    cases: list[str]

    @property
    def images(self) -> Path:
        return self.preprocessed / self.configuration.data_identifier

    @property
    def raters(self) -> Path:
        return self.preprocessed / f"{self.configuration.data_identifier}_raters"

    def image_files(self, case: str) -> list[str]:
        return [str(self.raw / "imagesTr" / f"{case}_{c:04d}.nii.gz") for c in range(2)]

    def mask_file(self, case: str, rater: int) -> Path:
        return self.raw / "ratersTr" / f"{case}_rater{rater}.nii.gz"


def write_volume(path: Path, array: np.ndarray, *, spacing: tuple[float, ...], origin=(-7.0, 3.0, 11.0)) -> None:
    """Write (z, y, x) with this (x, y, z) spacing, rotated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    sitk.WriteImage(image, str(path), True)


def write_rater_dataset(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    labels: str = "classes",
    num_cases: int = 3,
    num_raters: int = 3,
    image_spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
    **plan_options: Any,
) -> RaterTestDataset:
    """Two-channel images of balls with cores in noise that is zero around it; raters disagree about the radius."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(folder / name))
    raw, preprocessed = folder / "nnUNet_raw" / NAME, folder / "nnUNet_preprocessed" / NAME
    preprocessed.mkdir(parents=True)
    dataset_json: dict[str, Any] = {
        "channel_names": {"0": "MR", "1": "MR"},
        "labels": LABELS[labels],
        "numTraining": num_cases,
        "file_ending": ".nii.gz",
        "num_raters": num_raters,
    }
    if labels == "regions":
        dataset_json["regions_class_order"] = [1, 2]
    plan = model_folder.plans(channels=2, **plan_options) | {"dataset_name": NAME}
    manager = PlansManager(plan)
    (configuration,) = map(manager.get_configuration, manager.available_configurations)
    cases = [f"case_{index}" for index in range(num_cases)]
    generator = np.random.default_rng(0)
    shape = (14, 26, 22)
    for case in cases:
        distance = np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - generator.uniform(8, 11, 3), axis=-1)
        for channel in range(2):
            image = generator.normal(100, 20, shape).astype(np.float32)
            image[:2] = image[:, -3:] = image[..., :4] = 0  # nnU-Net crops this away
            image[2:5, :6, 4:9] = 0  # and marks this, which lies at the border of the rest, as outside
            image[6:8, 12:14, 10:12] = 0  # a hole, which counts as inside
            write_volume(raw / "imagesTr" / f"{case}_{channel:04d}.nii.gz", image, spacing=image_spacing)
        for rater in (None, *range(num_raters)):
            radius = 5 if rater is None else 3.5 + rater
            mask = ((distance < radius).astype(np.uint8) + (distance < radius / 2)).astype(np.uint8)
            if labels == "ignore":
                mask[:, 18:] = 3
            name = f"labelsTr/{case}" if rater is None else f"ratersTr/{case}_rater{rater}"
            write_volume(raw / f"{name}.nii.gz", mask, spacing=image_spacing)
    dataset = RaterTestDataset(raw, preprocessed, manager, configuration, dataset_json, cases)
    for path in (raw, preprocessed):
        (path / "dataset.json").write_text(json.dumps(dataset_json))
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plan))
    dataset.images.mkdir()
    for case in cases:
        configuration.preprocessor_class(verbose=False).run_case_save(
            str(dataset.images / case),
            dataset.image_files(case),
            str(raw / "labelsTr" / f"{case}.nii.gz"),
            manager,
            configuration,
            dataset_json,
        )
    return dataset
