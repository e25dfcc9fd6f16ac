"""Small input for every command, by the helpers of the tests."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

__all__ = ["write_input"]

_SHAPE = (10, 14, 12)
#: This package's trainers at a length of seconds, without nnU-Net's closing validation, whose workers import for 5 s.
_TRAINERS = """
import torch
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from nnunet_stochastic.training import BasisTrainer, CyclicTrainer, SwagTrainer

MetaLogger.plot_progress_png = lambda *_: None  # a large picture after each epoch


class nnUNetTrainerMoBShort(BasisTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch, self.save_every = 2, 1, 1

    def _set_recipe(self, recipe, checkpoint):
        super()._set_recipe(recipe, checkpoint)
        self.num_epochs = 4

    def perform_actual_validation(self, save_probabilities=False):
        pass


class nnUNetTrainerMoBShortSWAG(SwagTrainer, nnUNetTrainerMoBShort):
    num_snapshots = 2


class nnUNetTrainerMoBShortCyclic(CyclicTrainer, nnUNetTrainerMoBShort):
    num_cycles = 2

    def _set_recipe(self, recipe, checkpoint):
        super()._set_recipe(recipe, checkpoint)
        self.num_epochs = 6
"""


def write_input(folder: Path) -> None:
    """Write all that ``commands`` names, but its outputs."""
    for name in ("temporary", "trainers", "report", "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (folder / name).mkdir()
    (folder / "trainers" / "short.py").write_text(_TRAINERS)
    _write_images(folder)
    _write_sources(folder)
    _write_evaluations(folder)
    _write_decisions(folder)
    _write_datasets(folder)
    _write_scans(folder)
    from tests.study.stand_ins import StandIns

    StandIns(folder / "study")


def _write(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path), True)


def _write_images(folder: Path) -> None:
    from tests.inference.model_folder import image_array, write_model_folder

    for n in range(5):
        _write(folder / "in" / f"case{n}_0000.nii.gz", image_array(n, _SHAPE))
    write_model_folder(folder / "model" / "nnUNetTrainer__nnUNetPlans__3d_fullres", folds=(0, 1))


def _write_scans(folder: Path) -> None:
    """DICOM series, and predictions of them."""
    from tests.dicom.predictions import MadePredictions

    predictions = MadePredictions(folder / "scans")
    for seed in range(4):
        predictions.add(f"case{seed}", seed=seed)
        # For scenes: any image on the grid of the prediction.
        image = folder / "scans" / "images" / f"case{seed}_0000.nii.gz"
        image.parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / "scans" / "out" / f"case{seed}.nii.gz", image)
    # For merging: another model's predictions of the same images, of other structures.
    other = folder / "scans" / "other"
    shutil.copytree(folder / "scans" / "out", other)
    dataset = json.loads((other / "dataset.json").read_text())
    dataset["labels"] = {name if label == 0 else f"other {name}": label for name, label in dataset["labels"].items()}
    (other / "dataset.json").write_text(json.dumps(dataset))


def _write_sources(folder: Path) -> None:
    """What the converters read."""
    from tests.datasets.conversion.conftest import LidcSource
    from tests.datasets.conversion.test_chaksu import Folder
    from tests.datasets.conversion.test_totalsegmentator import folder as total_fixture

    numbers = np.random.default_rng(0)
    for n in range(6):
        case = folder / "curvas" / f"U{n}"
        _write(case / "image.nii.gz", numbers.integers(-100, 100, _SHAPE).astype(np.int16))
        for rater in (1, 2, 3):
            _write(case / f"annotation_{rater}.nii.gz", numbers.integers(0, 4, _SHAPE).astype(np.uint8))
    (folder / "total").mkdir()
    _unwrapped(total_fixture)(folder / "total")
    Folder(folder / "Chaksu")
    source = LidcSource(folder)
    for patient in (f"LIDC-IDRI-{n:04d}" for n in range(1, 6)):
        scan = source.add_scan(patient)
        for row, column, side in ((10, 20, 6), (12, 20, 6), (10, 20, 4)):
            source.annotate(scan, range(2, 4), row, column, side)


def _unwrapped(fixture: object) -> object:
    """The function of a pytest fixture."""
    return fixture._get_wrapped_function() if hasattr(fixture, "_get_wrapped_function") else fixture.__wrapped__  # type: ignore[attr-defined]


def _write_evaluations(folder: Path) -> None:
    """Predictions to evaluate, an evaluation for the page, and results to compare."""
    from tests.commands.conftest import MadeFolders
    from tests.evaluation.evaluation_folder import write_models

    made = MadeFolders(folder / "made")
    for name, cases, seed in (("id", "abcd", 0), ("val", "vwx", 1), ("blur", "abd", 2)):
        made.add(name, list(cases), seed=seed)
    made.calibrate()
    shutil.copyfile(folder / "made" / "val" / "pred" / "calibration.json", folder / "calibration.json")
    if made.evaluate(*made.shift_options("blur", annotated=("blur",)), out="evaluated") != 0:
        raise RuntimeError("the evaluation for the page failed")
    (folder / "made" / "evaluated").rename(folder / "evaluated")
    write_models(folder / "models")


def _write_decisions(folder: Path) -> None:
    """Predictions of new images, and decisions fitted to those of validation images."""
    from tests.commands.conftest import MadeFolders
    from tests.commands.test_decisions import VALIDATION, determine, write_plans, write_record

    made = MadeFolders(folder / "decided")
    made.add("val", VALIDATION, seed=1)
    made.add("new", [f"n{number}" for number in range(6)], seed=2)
    for name in made.cases:
        write_record(made, name)
        write_plans(made, name, [2.5, 0.9, 0.7])
    if determine(made) != 0:
        raise RuntimeError("decisions could not be fitted")


def _write_datasets(folder: Path) -> None:
    """A dataset with raters, and a copy of it with its raters preprocessed, to train on."""
    from nnunet_stochastic.commands.preprocess_raters import main
    from tests.datasets.rater_dataset import NAME, write_rater_dataset

    patch = pytest.MonkeyPatch()
    dataset = write_rater_dataset(folder / "raters", patch, num_cases=4)
    (folder / "raters" / "nnUNet_results").mkdir()
    (dataset.preprocessed / "dataset_fingerprint.json").write_text("{}")
    splits = [{"train": dataset.cases[:3], "val": dataset.cases[3:]}]
    (dataset.preprocessed / "splits_final.json").write_text(json.dumps(splits))
    shutil.copytree(folder / "raters", folder / "training")
    _plan_three_levels(folder / "training" / "nnUNet_preprocessed" / NAME / "nnUNetPlans.json")
    os.environ |= {f"nnUNet_{part}": str(folder / "training" / f"nnUNet_{part}") for part in ("raw", "preprocessed")}
    if main(["-d", NAME, "-np", "1", "--disable_progress_bar"]) != 0:
        raise RuntimeError("the raters of the dataset to train on were not preprocessed")
    patch.undo()
    plans = json.loads((folder / "training" / "nnUNet_preprocessed" / NAME / "nnUNetPlans.json").read_text())
    _write_model(folder / "trained" / "nnUNetTrainer__nnUNetPlans__3d_fullres", plans, dataset.dataset_json)


def _write_model(folder: Path, plans: dict, dataset_json: dict) -> None:
    """A model of the dataset to train on, with random weights."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    (folder / "fold_0").mkdir(parents=True)
    for name, content in (("plans.json", plans), ("dataset.json", dataset_json)):
        (folder / name).write_text(json.dumps(content))
    manager, channels = PlansManager(plans), len(dataset_json["channel_names"])
    heads = manager.get_label_manager(dataset_json).num_segmentation_heads
    torch.manual_seed(0)
    configuration = manager.get_configuration("3d_fullres")
    network = nnUNetTrainer.build_network_architecture(manager, configuration, channels, heads, True)
    checkpoint = {
        "network_weights": network.state_dict(),
        "init_args": {"configuration": "3d_fullres", "fold": 0},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")


def _plan_three_levels(plans: Path) -> None:
    """Deep supervision needs as many."""
    content = json.loads(plans.read_text())
    content["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] |= {
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "kernel_sizes": [[3] * 3] * 3,
        "strides": [[1] * 3, [2] * 3, [2] * 3],
        "n_conv_per_stage": [1] * 3,
        "n_conv_per_stage_decoder": [1] * 2,
    }
    plans.write_text(json.dumps(content))
