import dataclasses
import json
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from batchgenerators.utilities.file_and_folder_operations import subfiles
from nnunetv2.ensembling.ensemble import merge_files
from nnunetv2.evaluation.evaluate_predictions import compute_metrics
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from skimage import io

from nnunet_stochastic.inference import PredictionOptions, StochasticPredictor, predict_folder
from nnunet_stochastic.inference.images import write_map

NAMES = ("a", "b", "c", "d")


@pytest.fixture
def images(tmp_path, folders):
    for seed, name in enumerate(NAMES):
        folders.write_image(
            tmp_path / "images" / f"{name}_0000.nii.gz",
            folders.image_array(seed, (14, 16, 15)),
            spacing=(0.9, 1.0, 1.2),
        )
    return tmp_path / "images"


@pytest.fixture
def predictor(tmp_path, folders, stochastic_trainer):
    model = folders.write_model_folder(tmp_path / "model", trainer=stochastic_trainer)
    options = PredictionOptions(num_samples=2, mirroring=False)
    return StochasticPredictor.from_model_folder(model, folds=(0,), options=options)


def files_of(folder: Path) -> dict[str, bytes]:
    """Contents of the files of the cases."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in (".gz", ".npz", ".pkl")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_all_files_are_there(predictor, images, tmp_path):
    out = tmp_path / "out"
    assert predict_folder(predictor, images, out, save_probabilities=True).failures == {}
    maps = ("total", "aleatoric", "epistemic", "variance")
    expected = {f"{folder}/{name}.nii.gz" for folder in maps for name in NAMES}
    expected |= {f"{name}{ending}" for name in NAMES for ending in (".nii.gz", ".npz", ".pkl")}
    others = {"dataset.json", "plans.json", "predict_from_raw_data_args.json", "uncertainty.json"}
    others |= {"volumes.csv", "structures.csv"}
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == expected | others
    assert {path.name for path in out.iterdir() if path.is_dir()} == set(maps)

    record = json.loads((out / "uncertainty.json").read_text())
    assert record["settings"]["epistemic_source"] == "aleatoric_samples"
    assert list(record["cases"]) == list(NAMES)
    case = record["cases"]["a"]
    assert case["input_files"] == [str(images / "a_0000.nii.gz")]
    total = nibabel.load(out / "total" / "a.nii.gz")
    assert case["mean_total"] == pytest.approx(total.get_fdata().mean(), rel=1e-5)
    assert case["mean_total"] == pytest.approx(case["mean_aleatoric"] + case["mean_epistemic"], rel=1e-5)
    segmentation = nibabel.load(out / "a.nii.gz")
    assert case["volume_ml"] == {"nodule": pytest.approx((segmentation.get_fdata() == 1).sum() * 1.08 / 1000, rel=1e-5)}
    np.testing.assert_allclose(total.affine, nibabel.load(images / "a_0000.nii.gz").affine)
    probabilities = np.load(out / "a.npz")["probabilities"]
    np.testing.assert_array_equal(probabilities.argmax(0), segmentation.get_fdata().transpose(2, 1, 0))


def test_nnunet_evaluates_and_ensembles_the_folder(predictor, images, tmp_path):
    out = tmp_path / "out"
    predict_folder(predictor, images, out, save_probabilities=True)
    assert subfiles(str(out), suffix=".nii.gz", join=False) == [f"{name}.nii.gz" for name in NAMES]
    file = str(out / "a.nii.gz")
    assert compute_metrics(file, file, SimpleITKIO(), [1])["metrics"][1]["Dice"] == 1

    label_manager = predictor.model.label_manager
    merge_files([str(out / "a.npz")] * 2, str(tmp_path / "merged"), ".nii.gz", SimpleITKIO(), label_manager, False)
    merged, segmentation = nibabel.load(tmp_path / "merged.nii.gz"), nibabel.load(file)
    np.testing.assert_array_equal(merged.get_fdata(), segmentation.get_fdata())
    np.testing.assert_array_equal(merged.affine, segmentation.affine)


@pytest.mark.parametrize(("preprocessing_threads", "export_threads"), [(0, 0), (1, 4), (3, 1)])
def test_files_do_not_depend_on_threads(predictor, images, tmp_path, preprocessing_threads, export_threads):
    predict_folder(predictor, images, tmp_path / "reference", save_probabilities=True)
    predict_folder(
        predictor,
        images,
        tmp_path / "out",
        save_probabilities=True,
        preprocessing_threads=preprocessing_threads,
        export_threads=export_threads,
    )
    assert files_of(tmp_path / "out") == files_of(tmp_path / "reference")
    first, second = ((tmp_path / folder / "uncertainty.json").read_text() for folder in ("reference", "out"))
    assert first == second


def test_parts_and_subsets_write_the_same_files(predictor, images, tmp_path):
    predict_folder(predictor, images, tmp_path / "reference")
    for part in (1, 0):
        predict_folder(predictor, images, tmp_path / "parts", num_parts=2, part_id=part)
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "reference")
    first, second = ((tmp_path / folder / "uncertainty.json").read_text() for folder in ("reference", "parts"))
    assert first == second
    predict_folder(predictor, [[images / "c_0000.nii.gz"]], tmp_path / "subset")
    subset, reference = files_of(tmp_path / "subset"), files_of(tmp_path / "reference")
    assert subset == {name: reference[name] for name in subset}
    assert len(subset) == 5


def test_a_failing_case_does_not_lose_the_others(predictor, images, tmp_path, folders, capsys):
    array = folders.image_array()
    array[0, 0, 0] = np.nan
    folders.write_image(images / "b_0000.nii.gz", array)
    (images / "c_0000.nii.gz").write_bytes(b"this is no image")
    failures = predict_folder(predictor, images, tmp_path / "out", preprocessing_threads=0).failures
    assert list(failures) == ["b", "c"]
    assert "b_0000.nii.gz has 1 voxels that are NaN" in failures["b"]
    assert f"case b failed: {images / 'b_0000.nii.gz'} has" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz", "d.nii.gz"]
    assert list(json.loads((tmp_path / "out" / "uncertainty.json").read_text())["cases"]) == ["a", "d"]


def test_failure_of_the_export_leaves_no_complete_case(predictor, images, tmp_path, monkeypatch):
    def fail(array, path, *geometry):
        if path.parent.name == "variance" and path.name.startswith("b"):
            raise OSError("disk full")
        write_map(array, path, *geometry)

    monkeypatch.setattr("nnunet_stochastic.inference.pipeline.write_map", fail)
    failures = predict_folder(predictor, images, tmp_path / "out").failures
    assert failures == {"b": "disk full"}
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(("b", ".b"))]


def test_continuing_predicts_what_is_missing(predictor, images, tmp_path):
    out = tmp_path / "out"
    predict_folder(predictor, images, out)
    reference = files_of(out)
    (out / "a.nii.gz").unlink()
    (out / "variance" / "b.nii.gz").unlink()
    assert predict_folder(predictor, images, out, continue_prediction=True).failures == {}
    assert files_of(out) == reference
    assert list(json.loads((out / "uncertainty.json").read_text())["cases"]) == list(NAMES)


@pytest.fixture
def predicted_cases(predictor, monkeypatch):
    """Names of the cases whose network has run, since the list was cleared."""
    names, predict_grid = [], StochasticPredictor.predict_grid

    def noting(self, data, *, case="", **options):
        names.append(case)
        return predict_grid(self, data, case=case, **options)

    monkeypatch.setattr(StochasticPredictor, "predict_grid", noting)
    return names


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


DAMAGES = {
    "cut": cut,
    "emptied": lambda path: path.write_bytes(b""),
    "another's": lambda path: path.write_bytes(path.with_name(path.name.replace("b", "c")).read_bytes()),
    "one byte": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
}


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("b.nii.gz", "another's"),
        ("epistemic/b.nii.gz", "cut"),
        ("samples/b_001.nii.gz", "emptied"),
        ("b.npz", "one byte"),
        ("b.pkl", "cut"),
    ],
)
def test_damaged_files_are_predicted_again(predictor, images, tmp_path, predicted_cases, capsys, file, damage):
    options = PredictionOptions(num_samples=2, mirroring=False, num_saved_samples=2)
    predictor = StochasticPredictor(predictor.model, options=options)
    predict_folder(predictor, images, tmp_path, save_probabilities=True)
    reference, record = files_of(tmp_path), (tmp_path / "uncertainty.json").read_text()
    predicted_cases.clear()
    DAMAGES[damage](tmp_path / file)
    predict_folder(predictor, images, tmp_path, save_probabilities=True, continue_prediction=True)
    assert predicted_cases == ["b"]
    assert f"case b is predicted again: {tmp_path / file} is damaged or was replaced" in capsys.readouterr().err
    assert files_of(tmp_path) == reference
    assert (tmp_path / "uncertainty.json").read_text() == record


def test_other_images_are_predicted_again(predictor, images, tmp_path, folders, predicted_cases, capsys):
    """Of the same names in another folder; equal ones are not."""
    out, others = tmp_path / "out", tmp_path / "others"
    predict_folder(predictor, images, out)
    shutil.copytree(images, others)
    folders.write_image(others / "c_0000.nii.gz", folders.image_array(9, (14, 16, 15)), spacing=(0.9, 1.0, 1.2))
    predicted_cases.clear()
    predict_folder(predictor, others, out, continue_prediction=True)
    assert predicted_cases == ["c"]
    assert "case c is predicted again: its images are not those" in capsys.readouterr().err
    predict_folder(predictor, others, tmp_path / "fresh")
    assert files_of(out) == files_of(tmp_path / "fresh")
    assert (out / "uncertainty.json").read_text() == (tmp_path / "fresh" / "uncertainty.json").read_text()


def test_an_image_that_cannot_be_read_any_more_leaves_no_old_prediction(predictor, images, tmp_path):
    predict_folder(predictor, images, tmp_path / "out")
    (images / "b_0000.nii.gz").write_bytes(b"no image")
    assert list(predict_folder(predictor, images, tmp_path / "out", continue_prediction=True).failures) == ["b"]
    assert not [name for name in files_of(tmp_path / "out") if name.split("/")[-1].startswith("b")]
    record = json.loads((tmp_path / "out" / "uncertainty.json").read_text())
    assert (list(record["cases"]), record["other_cases"]) == (["a", "c", "d"], ["b"])


def test_cases_of_other_images_are_kept_and_named(predictor, images, tmp_path, predicted_cases, capsys):
    predict_folder(predictor, images, tmp_path / "out")
    for name in "abc":
        (images / f"{name}_0000.nii.gz").unlink()
    predicted_cases.clear()
    predict_folder(predictor, images, tmp_path / "out", continue_prediction=True)
    assert predicted_cases == []
    assert "of other images, and kept: a, b, c" in capsys.readouterr().err
    assert list(json.loads((tmp_path / "out" / "uncertainty.json").read_text())["cases"]) == list(NAMES)


def test_what_is_not_asked_for_any_more_is_removed(predictor, images, tmp_path, predicted_cases):
    """Maps and probabilities without predicting again; fewer samples have other volumes."""
    many, few = (
        PredictionOptions(num_samples=2, mirroring=False, num_saved_samples=count, maps=maps)
        for count, maps in ((3, ("total", "aleatoric", "variance")), (2, ("variance",)))
    )
    mid = dataclasses.replace(many, maps=("variance",))
    predict_folder(
        StochasticPredictor(predictor.model, options=many), images, tmp_path / "out", save_probabilities=True
    )
    predicted_cases.clear()
    for options, predicted in ((mid, []), (few, list(NAMES))):
        asked = StochasticPredictor(predictor.model, options=options)
        predict_folder(asked, images, tmp_path / "out", continue_prediction=True)
        assert predicted_cases == predicted
        fresh = tmp_path / f"fresh_{options.num_saved_samples}"
        predict_folder(asked, images, fresh)
        assert files_of(tmp_path / "out") == files_of(fresh)
        assert (tmp_path / "out" / "uncertainty.json").read_text() == (fresh / "uncertainty.json").read_text()
        predicted_cases.clear()


@pytest.mark.parametrize("content", ["", '{"settings": {', None])
def test_a_record_that_is_cut_short_counts_as_absent(predictor, images, tmp_path, predicted_cases, content):
    predict_folder(predictor, images, tmp_path)
    reference, path = files_of(tmp_path), tmp_path / "uncertainty.json"
    record = path.read_text()
    path.write_text(record[: len(record) // 2] if content is None else content)
    predicted_cases.clear()
    predict_folder(predictor, images, tmp_path, continue_prediction=True)
    assert predicted_cases == list(NAMES)
    assert files_of(tmp_path) == reference
    assert path.read_text() == record


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "null",
        "{}",
        '{"settings": {}}',
        '{"settings": [], "cases": {}}',
        '{"settings": {}, "cases": {"a": 1}}',
        '{"settings": {}, "cases": {"a": {"files": []}}}',
    ],
)
@pytest.mark.parametrize("continued", [True, False])
def test_what_is_no_record_is_refused(predictor, images, tmp_path, content, continued):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "uncertainty.json").write_text(content)
    with pytest.raises(ValueError, match=r"out/uncertainty.json: .*choose another output folder"):
        predict_folder(predictor, images, tmp_path / "out", continue_prediction=continued)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["uncertainty.json"]


def test_another_model_is_refused_by_name(predictor, images, tmp_path):
    predict_folder(predictor, images, tmp_path / "out")
    model = predictor.model
    plans = model.plans_manager.plans | {"foreground_intensity_properties_per_channel": {}}
    changed = {
        "checkpoints: fold_0: sha256": {"checkpoints": (dataclasses.replace(model.checkpoints[0], sha256="0"),)},
        "plans_sha256": {"plans_manager": PlansManager(plans)},
        "dataset_sha256": {"dataset_json": model.dataset_json | {"channel_names": {"0": "CT"}}},
    }
    for name, other in changed.items():
        with pytest.raises(ValueError, match=rf"{name} was '.*' and is now"):
            predict_folder(
                StochasticPredictor(dataclasses.replace(model, **other), options=predictor.options),
                images,
                tmp_path / "out",
                continue_prediction=True,
            )


FOREIGN = {
    "a label map": "b.nii.gz",
    "a map": "variance/c.nii.gz",
    "a sample": "samples/a_017.nii.gz",
    "probabilities": "d.npz",
    "a data set": "dataset.json",
    "a model": "plans.json",
    "a fold": "checkpoint_final.pth",
}


@pytest.mark.parametrize("continued", [True, False])
@pytest.mark.parametrize("kind", FOREIGN)
def test_files_of_others_are_not_replaced(predictor, images, tmp_path, kind, continued):
    path = tmp_path / "out" / FOREIGN[kind]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"precious")
    with pytest.raises(ValueError, match=rf"{path.name} \(1 in all\): choose another output folder with -o"):
        predict_folder(predictor, images, tmp_path / "out", continue_prediction=continued)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == {
        path.name: b"precious"
    }


def test_folders_of_the_input_are_no_output_folders(predictor, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(images)
    before = sorted(images.iterdir())
    for out in (images, "images", "./images/../images", "link"):
        with pytest.raises(ValueError, match="holds what is to be predicted: choose another"):
            predict_folder(predictor, images, out)
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    with pytest.raises(ValueError, match="is nnUNet_results: choose another"):
        predict_folder(predictor, images, tmp_path)
    (images / "scan.nii.gz").write_bytes((images / "a_0000.nii.gz").read_bytes())
    before = sorted(images.iterdir())
    with pytest.raises(ValueError, match=r"scan\.nii\.gz"):
        predict_folder(predictor, [[images / "scan.nii.gz"]], images)
    with pytest.raises(ValueError, match="the output folder has no name"):
        predict_folder(predictor, images, "")
    (tmp_path / "Dataset001" / "labelsTs").mkdir(parents=True)
    (tmp_path / "Dataset001" / "dataset.json").write_text("{}")
    with pytest.raises(ValueError, match="labelsTs is of the data set Dataset001"):
        predict_folder(predictor, images, tmp_path / "Dataset001" / "labelsTs")
    assert sorted(images.iterdir()) == before


def test_parts_may_replace_an_earlier_prediction(predictor, images, tmp_path):
    """Also those that start when another has put the record together."""
    predict_folder(predictor, images, tmp_path / "out")
    reference = files_of(tmp_path / "out")
    for part in range(2):
        predict_folder(predictor, images, tmp_path / "out", num_parts=2, part_id=part)
    assert files_of(tmp_path / "out") == reference
    assert list(json.loads((tmp_path / "out" / "uncertainty.json").read_text())["cases"]) == list(NAMES)


def test_a_record_without_hashes_is_no_proof(predictor, images, tmp_path, predicted_cases):
    """As earlier versions wrote it."""
    predict_folder(predictor, images, tmp_path)
    path = tmp_path / "uncertainty.json"
    whole = path.read_text()
    record = json.loads(whole)
    del record["cases"]["b"]["input_sha256"], record["cases"]["b"]["files"]
    path.write_text(json.dumps(record))
    predicted_cases.clear()
    predict_folder(predictor, images, tmp_path, continue_prediction=True)
    assert predicted_cases == ["b"]
    assert path.read_text() == whole


def test_an_earlier_prediction_may_be_replaced_whatever_interrupted_it(predictor, images, tmp_path, monkeypatch):
    """Its record names the cases that it had only begun, and those of the prediction before."""
    out, other = tmp_path / "out", PredictionOptions(num_samples=2, mirroring=False, seed=1)
    predict_folder(predictor, images, out)
    replace = os.replace

    def interrupt(source, target):
        if str(target).endswith("total/b.nii.gz"):
            replace(source, target)
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupt)
    other_seed = StochasticPredictor(predictor.model, options=other)
    with pytest.raises(KeyboardInterrupt):
        predict_folder(other_seed, images, out, export_threads=0)
    monkeypatch.undo()
    predict_folder(other_seed, images, out)
    predict_folder(other_seed, images, tmp_path / "fresh")
    assert files_of(out) == files_of(tmp_path / "fresh")
    assert (out / "uncertainty.json").read_text() == (tmp_path / "fresh" / "uncertainty.json").read_text()


def test_continuing_with_other_settings_is_an_error(predictor, images, tmp_path):
    predict_folder(predictor, images, tmp_path / "out")
    reference = files_of(tmp_path / "out")
    other = StochasticPredictor(predictor.model, options=PredictionOptions(num_samples=2, mirroring=False, seed=1))
    with pytest.raises(ValueError, match="seed was 0 and is now 1"):
        predict_folder(other, images, tmp_path / "out", continue_prediction=True)
    assert files_of(tmp_path / "out") == reference


def test_only_the_maps_asked_for(predictor, images, tmp_path):
    options = PredictionOptions(num_samples=2, mirroring=False, maps=("aleatoric",))
    predict_folder(StochasticPredictor(predictor.model, options=options), images, tmp_path / "out")
    predict_folder(predictor, images, tmp_path / "all")
    some, everything = files_of(tmp_path / "out"), files_of(tmp_path / "all")
    assert sorted(some) == sorted(f"{folder}{name}.nii.gz" for folder in ("", "aleatoric/") for name in NAMES)
    assert all(some[name] == everything[name] for name in some)


def test_bad_arguments(predictor, images, tmp_path):
    with pytest.raises(ValueError, match="part_id must be in"):
        predict_folder(predictor, images, tmp_path / "out", num_parts=2, part_id=2)
    with pytest.raises(ValueError, match="must not be negative"):
        predict_folder(predictor, images, tmp_path / "out", export_threads=-1)
    with pytest.raises(ValueError, match="3d_fullres is no cascade"):
        predict_folder(predictor, images, tmp_path / "out", previous_stage_folder=images)
    assert not (tmp_path / "out").exists()


def test_cascade_in_a_folder(images, tmp_path, folders):
    model = folders.write_model_folder(tmp_path / "cascade", previous_stage="3d_lowres", spacing=(1.2, 1.0, 1.0))
    predictor = StochasticPredictor.from_model_folder(model, folds=(0,), options=PredictionOptions(mirroring=False))
    with pytest.raises(ValueError, match="predict the images with 3d_lowres first"):
        predict_folder(predictor, images, tmp_path / "out")
    for name in NAMES:
        segmentation = (folders.image_array(shape=(14, 16, 15)) > 300).astype(np.uint8)
        folders.write_image(tmp_path / "stage" / f"{name}.nii.gz", segmentation, spacing=(0.9, 1.0, 1.2))
    assert predict_folder(predictor, images, tmp_path / "out", previous_stage_folder=tmp_path / "stage").failures == {}
    assert (tmp_path / "out" / "total" / "d.nii.gz").is_file()


@pytest.mark.parametrize(
    ("value", "spacing", "message"),
    [
        (np.nan, 1.2, "NaN or infinite"),
        (0.5, 1.2, "holds 0.5; the labels of dataset.json are 0 to 1"),
        (-1, 1.2, "holds -1"),
        (2, 1.2, "holds 2"),
        (1, 1.3, "differ in spacing"),
    ],
)
def test_previous_stage_that_is_no_segmentation_of_the_image(images, tmp_path, folders, value, spacing, message):
    model = folders.write_model_folder(tmp_path / "cascade", previous_stage="3d_lowres", spacing=(1.2, 1.0, 1.0))
    predictor = StochasticPredictor.from_model_folder(model, folds=(0,), options=PredictionOptions(mirroring=False))
    for name in NAMES:
        segmentation = np.zeros((14, 16, 15), np.float32)
        segmentation[3, 4, 5] = value if name == "d" else 1
        steps = (0.9, 1.0, spacing if name == "d" else 1.2)
        folders.write_image(tmp_path / "stage" / f"{name}.nii.gz", segmentation, spacing=steps)
    failures = predict_folder(predictor, images, tmp_path / "out", previous_stage_folder=tmp_path / "stage").failures
    assert list(failures) == ["d"]
    assert message in failures["d"]
    assert "d.nii.gz" in failures["d"]


def test_2d_pictures(tmp_path, folders):
    model = folders.write_model_folder(
        tmp_path / "model",
        folds=(0, 1),
        dimension=2,
        channels=3,
        file_ending=".png",
        reader_writer="NaturalImage2DIO",
        spacing=(999.0, 1.0, 1.0),
    )
    picture = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    (tmp_path / "images").mkdir()
    io.imsave(tmp_path / "images" / "eye_0000.png", picture, check_contrast=False)
    predictor = StochasticPredictor.from_model_folder(model, folds=(0, 1))
    assert predict_folder(predictor, tmp_path / "images", tmp_path / "out").failures == {}
    assert io.imread(tmp_path / "out" / "eye.png").shape == (20, 24)
    total = tifffile.imread(tmp_path / "out" / "total" / "eye.tif")
    assert total.shape == (20, 24)
    assert total.dtype == np.float32
    case = json.loads((tmp_path / "out" / "uncertainty.json").read_text())["cases"]["eye"]
    assert case["mean_total"] == pytest.approx(total.mean(), rel=1e-5)
    assert "volume_ml" not in case


def test_3d_tifs_with_their_spacing(tmp_path, folders):
    model = folders.write_model_folder(tmp_path / "model", file_ending=".tif", reader_writer="Tiff3DIO")
    (tmp_path / "images").mkdir()
    array = folders.image_array(shape=(12, 14, 13))
    tifffile.imwrite(tmp_path / "images" / "cell_0000.tif", array, photometric="minisblack")
    (tmp_path / "images" / "cell.json").write_text('{"spacing": [1.2, 1.0, 0.9]}')
    predictor = StochasticPredictor.from_model_folder(model, folds=(0,))
    assert predict_folder(predictor, tmp_path / "images", tmp_path / "out").failures == {}
    for path in ("cell.tif", "total/cell.tif"):
        written, properties = Tiff3DIO().read_seg(str(tmp_path / "out" / path))
        assert written.shape == (1, 12, 14, 13)
        assert properties["spacing"] == [1.2, 1.0, 0.9]


def test_probabilities_as_images_are_those_of_the_npz(predictor, images, tmp_path, predicted_cases):
    out = tmp_path / "out"
    predict_folder(predictor, images, out, save_probabilities=True)
    in_npz = {name: np.load(out / f"{name}.npz")["probabilities"] for name in NAMES}
    predict_folder(
        predictor, images, out, save_probabilities=True, probability_format="nifti", continue_prediction=True
    )
    assert not list(out.glob("*.npz"))
    assert not list(out.glob("*.pkl"))
    assert json.loads((out / "uncertainty.json").read_text())["settings"]["probability_format"] == "nifti"
    for name in NAMES:
        affine = nibabel.load(images / f"{name}_0000.nii.gz").affine
        for channel, expected in enumerate(in_npz[name]):
            image = nibabel.load(out / "probabilities" / f"{name}_{channel:04d}.nii.gz")
            np.testing.assert_array_equal(image.get_fdata(dtype=np.float32).transpose(2, 1, 0), expected)
            np.testing.assert_allclose(image.affine, affine)
    predicted_cases.clear()
    predict_folder(
        predictor, images, out, save_probabilities=True, probability_format="nifti", continue_prediction=True
    )
    assert predicted_cases == []
    predict_folder(predictor, images, out, continue_prediction=True)
    assert not list((out / "probabilities").iterdir())


def test_maps_of_fewer_digits_add_up_to_what_is_stated(predictor, images, tmp_path):
    for digits in (23, 10):
        predict_folder(predictor, images, tmp_path / str(digits), map_digits=digits)
    record = json.loads((tmp_path / "10" / "uncertainty.json").read_text())
    assert record["settings"]["map_digits"] == 10

    def read(digits, name):
        return nibabel.load(tmp_path / str(digits) / name / "a.nii.gz").get_fdata()

    for name in ("total", "aleatoric", "epistemic", "variance"):
        assert (np.abs(read(10, name) - read(23, name)) <= 2.0**-11 * read(23, name)).all()
        assert record["cases"]["a"][f"mean_{name}"] == pytest.approx(read(10, name).mean(), rel=1e-5)
    total = read(10, "total")
    assert (np.abs(total - read(10, "aleatoric") - read(10, "epistemic")) <= 2.0**-10 * total + 1e-7).all()
    with pytest.raises(ValueError, match="map_digits"):
        predict_folder(predictor, images, tmp_path / "10", map_digits=23, continue_prediction=True)
    with pytest.raises(ValueError, match="map_digits must be 6 to 23, got 2"):  # readers would refuse ln 2 = 0.75
        predict_folder(predictor, images, tmp_path / "2", map_digits=2)
    assert not (tmp_path / "2").exists()
