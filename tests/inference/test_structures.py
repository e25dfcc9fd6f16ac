"""The rows of a predicted case are those of the files that it wrote."""

import csv
import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_stochastic.decisions.lesions import find_lesions
from nnunet_stochastic.decisions.overlaps import Overlaps
from nnunet_stochastic.decisions.structures import ProbabilitySums, structure_rows
from nnunet_stochastic.inference import LesionChoice, PredictionOptions, StochasticPredictor, predict_folder
from nnunet_stochastic.measures import FOLDERS
from tests.inference.model_folder import LABELS, REGIONS, THREE_LABELS

LESIONS = LesionChoice(("nodule",))
SPACING = (0.9, 1.0, 1.2)


def write_images(folder, folders, names=("a", "b")):
    for seed, name in enumerate(names):
        folders.write_image(folder / f"{name}_0000.nii.gz", folders.image_array(seed, (14, 16, 15)), spacing=SPACING)
    return folder


def read(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def expected_rows(out, case, labels, num_samples):
    """Rows from the files alone."""
    segmentation = read(out / f"{case}.nii.gz")
    mean = np.load(out / f"{case}.npz")["probabilities"]
    classes = {name: tuple(np.atleast_1d(value)) for name, value in labels.items() if name != "background"}
    channels = {name: index if labels is REGIONS else classes[name][0] for index, name in enumerate(classes)}
    samples = np.stack([read(out / "samples" / f"{case}_{index:03d}.nii.gz") for index in range(num_samples)])
    return structure_rows(
        segmentation,
        classes,
        probabilities={
            name: ProbabilitySums.of(mean[channel], np.isin(segmentation, classes[name]))
            for name, channel in channels.items()
        },
        maps={measure: read(out / folder / f"{case}.nii.gz") for measure, folder in FOLDERS.items()},
        voxel_ml=np.prod(SPACING) / 1000,
        samples=Overlaps.of(samples, classes=list(classes.values())),
    )


@pytest.mark.parametrize("labels", [LABELS, THREE_LABELS, REGIONS], ids=["two", "three", "regions"])
def test_rows_are_those_of_the_files(tmp_path, folders, stochastic_trainer, labels):
    model = folders.write_model_folder(tmp_path / "model", trainer=stochastic_trainer, labels=labels)
    options = PredictionOptions(num_samples=2, num_saved_samples=3, mirroring=False)
    predictor = StochasticPredictor.from_model_folder(model, folds=(0,), options=options)
    out = tmp_path / "out"
    images = write_images(tmp_path / "images", folders)
    assert not predict_folder(predictor, images, out, save_probabilities=True).failures
    cases = json.loads((out / "uncertainty.json").read_text())["cases"]
    with (out / "structures.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    structures = [name for name in labels if name != "background"]
    assert [(row["case"], row["structure"]) for row in table] == [(case, name) for case in cases for name in structures]
    for case, entry in cases.items():
        for row in expected_rows(out, case, labels, 3):
            found, expected = entry["structures"][row.structure], row.as_json()
            assert found["num_voxels"] == row.num_voxels == pytest.approx(found["volume_ml"] / np.prod(SPACING) * 1000)
            assert found["num_samples"] == 3
            assert found["num_members"] == 0
            for key in ("expected_voxels", "mean_p", "inside", "border", "sample_mean_ml", "sample_sd_ml"):
                assert found[key] == pytest.approx(expected[key], rel=1e-4), key
            assert found["pairwise_dice_samples"] == pytest.approx(expected["pairwise_dice_samples"])
            written = next(line for line in table if (line["case"], line["structure"]) == (case, row.structure))
            assert float(written["sample_p50_ml"]) == pytest.approx(expected["sample_quantiles_ml"]["p50"])
            assert float(written["mean_EU_border"]) == pytest.approx(expected["border"]["EU"], rel=1e-4)


def test_members_are_compared_with_each_other(tmp_path, folders):
    model = folders.write_model_folder(tmp_path / "model", folds=(0, 1, 2))
    options = PredictionOptions(mirroring=False)
    predictor = StochasticPredictor.from_model_folder(model, folds=(0, 1, 2), options=options)
    out, images = tmp_path / "out", write_images(tmp_path / "images", folders, ("a",))
    assert not predict_folder(predictor, images, out, lesions=LESIONS, export_threads=2).failures
    alone = []
    for fold in range(3):
        one = StochasticPredictor.from_model_folder(model, folds=(fold,), options=options)
        predict_folder(one, images, tmp_path / f"fold_{fold}")
        alone.append(read(tmp_path / f"fold_{fold}" / "a.nii.gz"))
        assert (
            json.loads((tmp_path / f"fold_{fold}" / "uncertainty.json").read_text())["cases"]["a"]["structures"][
                "nodule"
            ]["num_members"]
            == 0
        )
    expected = Overlaps.of(np.stack(alone), classes=[(1,)]).mean_dice()[0]
    entry = json.loads((out / "uncertainty.json").read_text())["cases"]["a"]
    assert 0 < expected < 1
    assert entry["structures"]["nodule"]["pairwise_dice_members"] == pytest.approx(expected)
    assert entry["structures"]["nodule"]["num_members"] == 3
    image = nibabel.load(images / "a_0000.nii.gz")
    lesions, _ = find_lesions(
        "nodule",
        read(out / "a.nii.gz") == 1,
        affine=image.affine[:, [2, 1, 0, 3]],
        voxel_ml=np.prod(SPACING) / 1000,
        samples=[labels == 1 for labels in alone],
    )
    assert [lesion.existence for lesion in lesions] == [lesion["existence"] for lesion in entry["lesions"]]
    for found, lesion in zip(entry["lesions"], lesions, strict=True):
        assert found["centre_mm"] == pytest.approx(lesion.centre_mm, abs=1e-4)
        assert found["volume_ml"] == pytest.approx(lesion.volume_ml)
        # The voxel of the centre is where the image has these coordinates.
        world = image.affine @ [*found["centre_voxel"][::-1], 1]
        assert np.linalg.norm(world[:3] - found["centre_mm"]) < 20


@pytest.mark.parametrize("probabilities", [False, True])
def test_lesions_are_those_of_the_files(tmp_path, folders, stochastic_trainer, probabilities):
    model = folders.write_model_folder(tmp_path / "model", trainer=stochastic_trainer, labels=THREE_LABELS)
    options = PredictionOptions(num_samples=2, num_saved_samples=3, mirroring=False)
    predictor = StochasticPredictor.from_model_folder(model, folds=(0,), options=options)
    out, images = tmp_path / "out", write_images(tmp_path / "images", folders, ("a",))
    choice = LesionChoice(("kidney", "tumour"), min_ml=0.002)
    assert not predict_folder(predictor, images, out, lesions=choice, save_probabilities=probabilities).failures
    predict_folder(predictor, images, tmp_path / "with", save_probabilities=True)
    mean = np.load(tmp_path / "with" / "a.npz")["probabilities"]
    found = json.loads((out / "uncertainty.json").read_text())["cases"]["a"]["lesions"]
    with (out / "lesions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    expected = []
    for name in choice.structures:
        label = THREE_LABELS[name]
        expected += find_lesions(
            name,
            read(out / "a.nii.gz") == label,
            affine=nibabel.load(images / "a_0000.nii.gz").affine[:, [2, 1, 0, 3]],
            voxel_ml=np.prod(SPACING) / 1000,
            probability=mean[label],
            maps={measure: read(out / folder / "a.nii.gz") for measure, folder in FOLDERS.items()},
            samples=[read(out / "samples" / f"a_{index:03d}.nii.gz") == label for index in range(3)],
            min_lesion_ml=0.002,
        )[0]
    assert len(expected) > 3
    for lesion, entry, line in zip(expected, found, table, strict=True):
        assert line["case"] == "a"
        for key, value in lesion.as_json().items():
            assert entry[key] == (pytest.approx(value, rel=1e-4, abs=1e-4) if key != "structure" else value), key
        assert float(line["centre_z_mm"]) == pytest.approx(lesion.centre_mm[2], abs=1e-4)
        assert float(line["mean_TU"]) == pytest.approx(lesion.mean["TU"], rel=1e-4)


def test_interrupted_and_in_parts_the_tables_are_the_same(tmp_path, folders, stochastic_trainer):
    model = folders.write_model_folder(tmp_path / "model", trainer=stochastic_trainer)
    options = PredictionOptions(num_samples=2, num_saved_samples=2, mirroring=False)
    predictor = StochasticPredictor.from_model_folder(model, folds=(0,), options=options)
    images, whole, parts = write_images(tmp_path / "images", folders, "abc"), tmp_path / "whole", tmp_path / "parts"
    predict_folder(predictor, images, whole, lesions=LESIONS)
    for part in (1, 0):
        predict_folder(predictor, images, parts, lesions=LESIONS, num_parts=2, part_id=part)
    tables = {name: (whole / name).read_bytes() for name in ("structures.csv", "lesions.csv")}
    assert {name: (parts / name).read_bytes() for name in tables} == tables
    (whole / "b.nii.gz").unlink()
    (whole / "structures.csv").unlink()
    predict_folder(predictor, images, whole, lesions=LESIONS, continue_prediction=True)
    assert {name: (whole / name).read_bytes() for name in tables} == tables
    predict_folder(predictor, images, whole, lesions=LesionChoice(("nodule", "nodule")), continue_prediction=True)
    with pytest.raises(ValueError, match=r"lesions was \['nodule'\] and is now absent"):
        predict_folder(predictor, images, whole, continue_prediction=True)


def test_rows_say_nothing_of_maps_that_are_there_no_more(tmp_path, folders, stochastic_trainer):
    model = folders.write_model_folder(tmp_path / "model", trainer=stochastic_trainer)
    images, out = write_images(tmp_path / "images", folders, ("a",)), tmp_path / "out"
    for maps in (None, ("total",)):
        options = PredictionOptions(num_samples=2, maps=maps, mirroring=False)
        predictor = StochasticPredictor.from_model_folder(model, folds=(0,), options=options)
        predict_folder(predictor, images, out, continue_prediction=maps is not None, lesions=LESIONS)
    again, entry = tmp_path / "again", json.loads((out / "uncertainty.json").read_text())["cases"]["a"]
    predict_folder(predictor, images, again, lesions=LESIONS)
    assert entry["structures"] == json.loads((again / "uncertainty.json").read_text())["cases"]["a"]["structures"]
    assert (out / "lesions.csv").read_bytes() == (again / "lesions.csv").read_bytes()


def test_a_least_volume_of_images_without_one_is_refused_at_once(tmp_path, folders):
    model = folders.write_model_folder(tmp_path / "model")
    predictor = StochasticPredictor.from_model_folder(model, folds=(0,))
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a", "b"):
        flat = sitk.GetImageFromArray(np.zeros((14, 16), np.float32))
        sitk.WriteImage(flat, str(images / f"{name}_0000.nii.gz"))
    choice = LesionChoice(("nodule",), min_ml=0.1)
    with pytest.raises(ValueError, match=r"a_0000\.nii\.gz: its voxels have no volume in ml.* min_lesion_ml is 0\.1"):
        predict_folder(predictor, images, tmp_path / "out", lesions=choice)
    assert not (tmp_path / "out" / "uncertainty.json").exists()


@pytest.mark.parametrize(
    ("lesions", "message"),
    [
        (LesionChoice(("liver",)), "liver: choose from nodule"),
        (LesionChoice(("background",)), "background: choose from nodule"),
        (LesionChoice(("nodule",), min_ml=-1), "at least 0 and finite, got -1"),
        (LesionChoice(min_ml=1), "name these with lesions"),
    ],
)
def test_a_wrong_choice_is_an_error_before_anything_is_read(tmp_path, folders, lesions, message):
    model = folders.write_model_folder(tmp_path / "model")
    predictor = StochasticPredictor.from_model_folder(model, folds=(0,))
    with pytest.raises(ValueError, match=message):
        predict_folder(predictor, tmp_path / "none", tmp_path / "out", lesions=lesions)
    assert not (tmp_path / "out").exists()
