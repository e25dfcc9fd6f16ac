"""Sub-models in folders as TotalSegmentator has them: predicted, and merged by hand and by the command."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5 import nnUNetTrainerDA5
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring
from nnunetv2.training.nnUNetTrainer.variants.training_length.nnUNetTrainer_Xepochs_NoMirroring import (
    nnUNetTrainer_4000epochs_NoMirroring,
)

from nnunet_stochastic.commands.merge import main as merge
from nnunet_stochastic.commands.predict import main as predict
from nnunet_stochastic.commands.scene import main as scene
from nnunet_stochastic.evaluation.merging import MAPS_RULE
from nnunet_stochastic.io.output_locks import locked_output_folder
from nnunet_stochastic.io.result_schemas import PredictionRecord
from nnunet_stochastic.io.text import read_json
from tests.inference.model_folder import image_array, write_image, write_model_folder

#: Number of the dataset, what it is of, trainer, structures; of the five models of the task "total".
PARTS = (
    (291, "part1_organs_1559subj", nnUNetTrainerNoMirroring, ("spleen", "kidney_right")),
    (292, "part2_vertebrae_1532subj", nnUNetTrainerNoMirroring, ("vertebrae_L5", "vertebrae_L4")),
    (293, "part3_cardiac_1559subj", nnUNetTrainer_4000epochs_NoMirroring, ("heart", "aorta", "trachea")),
    (294, "part4_muscles_1559subj", nnUNetTrainerDA5, ("gluteus_maximus_left",)),
    (295, "part5_ribs_1559subj", nnUNetTrainerNoMirroring, ("rib_left_1", "rib_left_2")),
)
NAMES = [name for *_, names in PARTS for name in names]
CASES = ("s0001", "s0002")
SPACING = (1.5, 1.5, 3.0)
MAPS = ("total", "aleatoric", "epistemic", "variance")


def as_of_nnunet_2_2(folder: Path) -> None:
    """Describe the network as plans did before they had an entry of its architecture."""
    plans = json.loads((folder / "plans.json").read_text())
    (configuration,) = plans["configurations"].values()
    architecture = configuration.pop("architecture")["arch_kwargs"]
    configuration |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": architecture["features_per_stage"][0],
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": architecture["n_conv_per_stage"],
        "n_conv_per_stage_decoder": architecture["n_conv_per_stage_decoder"],
        "num_pool_per_axis": [1, 1, 1],
        "pool_op_kernel_sizes": architecture["strides"],
        "conv_kernel_sizes": architecture["kernel_sizes"],
    }
    (folder / "plans.json").write_text(json.dumps(plans))
    file = folder / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["init_args"]["plans"] = plans
    checkpoint["inference_allowed_mirroring_axes"] = None  # what trainers without mirroring save
    torch.save(checkpoint, file)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """The models in nnUNet_results, two images, and predictions of each model in the folder of its number."""
    root = tmp_path_factory.mktemp("total")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("raw", "preprocessed", "results"):
            (root / name).mkdir()
            patch.setenv(f"nnUNet_{name}", str(root / name))
        for seed, case in enumerate(CASES):
            write_image(root / "images" / f"{case}_0000.nii.gz", image_array(seed, (18, 20, 16)), spacing=SPACING)
        for number, name, trainer, structures in PARTS:
            folder = root / "results" / f"Dataset{number}_TotalSegmentator_{name}"
            labels = {"background": 0, **{structure: label for label, structure in enumerate(structures, start=1)}}
            folder = folder / f"{trainer.__name__}__nnUNetPlans__3d_fullres"
            write_model_folder(folder, labels=labels, trainer=trainer, mirror_axes=())
            if number == 292:
                as_of_nnunet_2_2(folder)
            words = ["-i", root / "images", "-o", root / str(number), "-d", number, "-tr", trainer.__name__]
            words += ["-c", "3d_fullres", "-f", "0", "-device", "cpu", "-npp", "0", "-nps", "0"]
            words += ["--aleatoric", "tta", "--num_samples", "4", "--save_samples", "3", "--disable_progress_bar"]
            assert predict(list(map(str, words))) == 0
    return root


def folders(root):
    return [str(root / str(number)) for number, *_ in PARTS]


@pytest.fixture(scope="module")
def merged(task):
    assert merge(["-i", *folders(task), "-o", str(task / "merged")]) == 0
    return task / "merged"


def read(file):
    image = sitk.ReadImage(str(file))
    return sitk.GetArrayFromImage(image), image


def test_label_maps_and_volumes_by_hand(task, merged):
    record = read_json(merged / "uncertainty.json", PredictionRecord)
    assert record["cases"].keys() == set(CASES)
    with (merged / "volumes.csv").open(newline="") as file:
        rows = {(row["case"], row["structure"]): row for row in csv.DictReader(file)}
    assert rows.keys() == {(case, name) for case in CASES for name in NAMES}
    for case in CASES:
        expected, num_parts, first = 0, 0, 0
        for number, _, _, structures in PARTS:
            part, image = read(task / str(number) / f"{case}.nii.gz")
            expected = np.where(part > 0, part + first, expected)
            num_parts = num_parts + (part > 0)
            first += len(structures)
        found, merged_image = read(merged / f"{case}.nii.gz")
        np.testing.assert_array_equal(found, expected)
        assert len(np.unique(found)) > 3
        for geometry in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(merged_image, geometry)() == getattr(image, geometry)()
        assert record["cases"][case]["overlap_voxels"] == (num_parts > 1).sum() > 0
        for label, name in enumerate(NAMES, start=1):
            assert float(rows[case, name]["volume_ml"]) == pytest.approx((expected == label).sum() * 6.75e-3)


def test_spread_of_volumes_is_that_of_the_part(task, merged):
    cases = json.loads((merged / "uncertainty.json").read_text())["cases"]
    for number, _, _, structures in PARTS:
        part = json.loads((task / str(number) / "uncertainty.json").read_text())["cases"]
        for case in CASES:
            for name in structures:
                assert cases[case]["sample_volumes"][name] == part[case]["sample_volumes"][name]
                assert len(cases[case]["sample_volumes"][name]["samples_ml"]) == 3


def test_maps_are_maxima(task, merged):
    cases = json.loads((merged / "uncertainty.json").read_text())["cases"]
    present = [name for name in MAPS if (merged / name).is_dir()]
    assert {"total", "aleatoric"} <= set(present)
    for case in CASES:
        for name in present:
            of_parts = np.stack([read(Path(folder) / name / f"{case}.nii.gz")[0] for folder in folders(task)])
            found, _ = read(merged / name / f"{case}.nii.gz")
            np.testing.assert_array_equal(found, of_parts.max(axis=0))
            assert len(np.unique(of_parts.argmax(axis=0))) > 1
            assert cases[case][f"mean_{name}"] == pytest.approx(found.mean(dtype=float))


def test_what_was_merged_is_said(task, merged):
    settings = json.loads((merged / "uncertainty.json").read_text())["settings"]
    assert settings["merged_maps"] == MAPS_RULE == "maximum over the parts, at each voxel"
    assert [Path(part["folder"]).name for part in settings["merged_from"]] == [str(number) for number, *_ in PARTS]
    labels = {name: label for part in settings["merged_from"] for name, label in part["labels"].items()}
    assert labels == {name: label for label, name in enumerate(NAMES, start=1)}
    assert settings["aleatoric_source"] == "tta"  # all parts have it in common
    assert "trainer" not in settings
    dataset = json.loads((merged / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, **labels}


def test_viewers_open_it(task, merged, tmp_path):
    assert scene(["-i", str(merged), "-o", str(tmp_path), "-np", "1", "--disable_progress_bar"]) == 0
    rows = (tmp_path / "labels.ctbl").read_text().splitlines()[1:]
    assert [row.split()[:2] for row in rows[1:]] == [[str(label), name] for label, name in enumerate(NAMES, start=1)]
    assert sorted(file.name for file in tmp_path.glob("*.mrml")) == [f"{case}.mrml" for case in CASES]


def test_again_it_gives_the_same_files(task, merged):
    before = {file.relative_to(merged): file.read_bytes() for file in merged.rglob("*") if file.is_file()}
    assert merge(["-i", *folders(task), "-o", str(merged)]) == 0
    assert {file.relative_to(merged): file.read_bytes() for file in merged.rglob("*") if file.is_file()} == before


def test_one_command_at_a_time_writes_a_folder(task, merged, tmp_path, capsys):
    output = tmp_path / "merged"
    output.mkdir()
    with locked_output_folder(output):
        assert f"another command writes {output}" in error_of(capsys, *folders(task), output=output)
        assert [path.name for path in output.iterdir()] == [".output.lock"]
    assert merge(["-i", *folders(task), "-o", str(output)]) == 0
    assert {path.name for path in output.iterdir()} == {path.name for path in merged.iterdir()} - {"scenes"}


def copied(task, tmp_path, number):
    return Path(shutil.copytree(task / str(number), tmp_path / str(number)))


def error_of(capsys, *parts, output):
    assert merge(["-i", *map(str, parts), "-o", str(output)]) == 1
    return capsys.readouterr().err


def test_what_does_not_belong_together_is_refused(task, tmp_path, capsys):
    first, output = task / "291", tmp_path / "out"
    assert "both have the structure spleen" in error_of(capsys, first, copied(task, tmp_path, 291), output=output)
    assert "at least two different folders" in error_of(capsys, first, first, output=output)

    part = copied(task, tmp_path, 292)
    content = json.loads((part / "uncertainty.json").read_text())
    content["cases"]["s0002"]["input_sha256"] = ["of another image"]
    (part / "uncertainty.json").write_text(json.dumps(content))
    assert "were predicted from different images of s0002" in error_of(capsys, first, part, output=output)
    del content["cases"]["s0002"]
    (part / "uncertainty.json").write_text(json.dumps(content))
    assert "must have the same cases; one lacks s0002" in error_of(capsys, first, part, output=output)

    part = copied(task, tmp_path, 293)
    (part / "aleatoric" / "s0001.nii.gz").unlink()
    has = "s0001 has aleatoric, epistemic, total, variance and epistemic, total, variance: predict all parts"
    assert has in error_of(capsys, first, part, output=output)
    assert not output.exists()
    others = copied(task, tmp_path, 294)
    assert "holds predictions that no merge has written" in error_of(capsys, first, task / "295", output=others)
    assert "-o must not be one of -i" in error_of(capsys, first, task / "295", output=first)
