"""The commands one after the other, as a user types them: plan, train twice, predict, evaluate."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

#: A user's own trainers: nnU-Net's and this package's at a length of seconds, found beside the installed ones.
TRAINERS = """
import random

import numpy as np
import torch
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunet_stochastic.training import BasisTrainer

MetaLogger.plot_progress_png = lambda *_: None  # a large picture after each epoch, which no check reads


class Short:
    epochs = 3

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        for seed in (random.seed, np.random.seed, torch.manual_seed):  # nnU-Net seeds nothing; the test shall not vary
            seed(0)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = self.epochs, 20, 1


class nnUNetTrainerShortest(Short, nnUNetTrainer):
    epochs = 10

    def configure_optimizers(self):  # nnU-Net's SGD may still predict background alone at this length
        optimizer = torch.optim.AdamW(self.network.parameters(), 5e-3)
        return optimizer, PolyLRScheduler(optimizer, 5e-3, self.num_epochs)


class nnUNetTrainerMoBShortest(Short, BasisTrainer):
    deterministic_trainer = "nnUNetTrainerShortest"
"""


def write_dataset(folder: Path) -> None:
    """Bright balls on noise: six to train on, two to test, with the geometry of a thick-sliced, rotated scan."""
    generator = np.random.default_rng(0)
    for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / part).mkdir(parents=True)
    for index in range(8):
        part = "Tr" if index < 6 else "Ts"
        centre = generator.uniform(0.35, 0.65, 3) * (16, 32, 32)
        distance = np.linalg.norm((np.moveaxis(np.indices((16, 32, 32)), 0, -1) - centre) * (2, 1, 1), axis=-1)
        label = (distance < 8).astype(np.uint8)
        image = (100 + 200 * label + generator.normal(0, 30, label.shape)).astype(np.float32)
        for kind, array, ending in (("images", image, "_0000.nii.gz"), ("labels", label, ".nii.gz")):
            volume = sitk.GetImageFromArray(array)
            volume.SetSpacing((0.7, 0.7, 1.4))
            volume.SetOrigin((-10, 20, 5))
            volume.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
            sitk.WriteImage(volume, str(folder / f"{kind}{part}" / f"ball_{index}{ending}"))
    dataset = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "ball": 1},
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))


def shrink_plans(folder: Path) -> None:
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    architecture = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    architecture["features_per_stage"] = [8 * 2 ** min(stage, 2) for stage in range(architecture["n_stages"])]
    plans["configurations"]["3d_fullres"]["batch_size"] = 2
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))


@pytest.mark.slow
def test_plan_train_predict_evaluate(tmp_path: Path) -> None:
    name = "Dataset998_Balls"
    folders = {key: tmp_path / key for key in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    raw, out = folders["nnUNet_raw"] / name, tmp_path / "out"
    write_dataset(raw)
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "shortest.py").write_text(TRAINERS)
    environment = {key: value for key, value in os.environ.items() if key != "nnUNet_stochastic_init"}
    environment |= {key: str(folder) for key, folder in folders.items()}
    environment |= {"nnUNet_extTrainer": str(tmp_path / "trainers"), "nnUNet_def_n_proc": "1"}

    def run(command: str, *arguments: str | Path, **variables: str) -> str:
        program = Path(sys.executable).with_name(command)
        completed = subprocess.run(
            [program, *map(str, arguments)], env=environment | variables, capture_output=True, text=True, check=False
        )
        assert completed.returncode == 0, f"{command} failed:\n{completed.stdout[-3000:]}\n{completed.stderr[-3000:]}"
        return completed.stdout

    run("nnUNetv2_plan_and_preprocess", "-d", "998", "-c", "3d_fullres", "-npfp", "1", "-np", "1")
    shrink_plans(folders["nnUNet_preprocessed"] / name)
    for trainer in ("nnUNetTrainerShortest", "nnUNetTrainerMoBShortest"):
        arguments = ("998", "3d_fullres", "0", "-tr", trainer, "-device", "cpu")
        log = run("nnUNetv2_train", *arguments, nnUNet_n_proc_DA="0")
    assert "nnUNetTrainerMoBShortest fine-tunes the deterministic model" in log

    model = ("-d", "998", "-c", "3d_fullres", "-tr", "nnUNetTrainerMoBShortest", "-f", "0", "-device", "cpu")
    images = ("-i", raw / "imagesTs", "-o")
    run("nnunet_stochastic_predict", *images, out, *model, "--save_probabilities", "--num_samples", "8")
    run("nnunet_stochastic_evaluate", "-pred", out, "-gt", raw / "labelsTs")
    run("nnUNetv2_predict", *images, tmp_path / "stock", *model, "-npp", "0", "-nps", "0")
    plain = ("-d", "998", "-c", "3d_fullres", "-tr", "nnUNetTrainerShortest", "-f", "0", "-device", "cpu")
    run("nnunet_stochastic_predict", *images, tmp_path / "plain", *plain)
    run("nnUNetv2_predict", *images, tmp_path / "stock_plain", *plain, "-npp", "0", "-nps", "0")
    endings = ("-djfile", out / "dataset.json", "-pfile", out / "plans.json")
    run("nnUNetv2_evaluate_folder", raw / "labelsTs", out, *endings, "-np", "1")

    with (out / "evaluation" / "cases.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["class"] == "ball"]
    ours = {row["case"]: float(row["dice"]) for row in rows}
    assert ours.keys() == {"ball_6", "ball_7"}
    assert min(ours.values()) > 0.8
    theirs = json.loads((out / "summary.json").read_text())["metric_per_case"]
    for case in theirs:
        assert ours[Path(case["prediction_file"]).name.removesuffix(".nii.gz")] == pytest.approx(
            case["metrics"]["1"]["Dice"]
        )
    for case in ours:
        segmentation = sitk.ReadImage(str(out / f"{case}.nii.gz"))
        stock = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "stock" / f"{case}.nii.gz")))
        assert (sitk.GetArrayFromImage(segmentation) == stock).mean() > 0.98
        of_plain, of_stock = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / folder / f"{case}.nii.gz")))
            for folder in ("plain", "stock_plain")
        )
        assert of_plain.any()
        assert (of_plain == of_stock).mean() >= 0.9999
        maps = {}
        for kind in ("total", "aleatoric", "epistemic", "variance"):
            image = sitk.ReadImage(str(out / kind / f"{case}.nii.gz"))
            assert image.GetDirection() == pytest.approx(segmentation.GetDirection())
            assert image.GetSpacing() == pytest.approx(segmentation.GetSpacing())
            maps[kind] = sitk.GetArrayFromImage(image)
        np.testing.assert_allclose(maps["total"], maps["aleatoric"] + maps["epistemic"], atol=1e-6)
        with np.load(out / f"{case}.npz") as file:
            probabilities = file["probabilities"].astype(np.float64)
        entropy = -(probabilities * np.log(np.maximum(probabilities, 1e-30))).sum(0)
        np.testing.assert_allclose(maps["total"], entropy, atol=1e-5)
        assert maps["epistemic"].max() > 1e-3
        label = sitk.GetArrayFromImage(segmentation)
        edge = np.zeros(label.shape, dtype=bool)
        for axis in range(3):
            edge |= (np.diff(label, axis=axis, prepend=0) != 0) | (np.diff(label, axis=axis, append=0) != 0)
        assert maps["total"][edge].mean() > 5 * maps["total"][~edge].mean()
