"""The command from files to files, on a prediction folder made up here; every user error ends in one message."""

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import tifffile
from skimage import io

from nnunet_stochastic import evaluate_folder, metrics
from nnunet_stochastic.commands.evaluate import main
from nnunet_stochastic.report import case_figure

SHAPE = (4, 24, 20)
SPACING = (0.7, 0.9, 2.5)
MAPS = ("total", "aleatoric", "epistemic", "variance")


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    image.SetOrigin((1.0, -20.0, 300.0))
    sitk.WriteImage(image, str(path))


def read(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def disc(radius):
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    inside = (y - 12) ** 2 + (x - 10) ** 2 <= radius**2
    return np.broadcast_to(inside, SHAPE).astype(np.uint8)


def make_folder(root, labels=None, **dataset_json):
    """Prediction folder of two cases: radius 5 predicted, radius 6 in the reference, raters of radius 4 to 6."""
    rng = np.random.default_rng(0)
    cases = {}
    for name in ("case_0", "case_1"):
        probability = np.clip(disc(5) * 0.8 + rng.uniform(0, 0.2, SHAPE), 0, 1).astype(np.float32)
        write(root / "images" / f"{name}_0000.nii.gz", rng.normal(size=SHAPE).astype(np.float32) + disc(6))
        write(root / "pred" / f"{name}.nii.gz", (probability > 0.5).astype(np.uint8))
        np.savez(root / "pred" / f"{name}.npz", probabilities=np.stack([1 - probability, probability]))
        for map_name in MAPS:
            write(root / "pred" / map_name / f"{name}.nii.gz", probability * (1 - probability))
        write(root / "gt" / f"{name}.nii.gz", disc(6))
        for rater, radius in enumerate((4, 5, 6)):
            write(root / "raters" / f"{name}_rater{rater}.nii.gz", disc(radius))
        cases[name] = {"input_files": [str(root / "images" / f"{name}_0000.nii.gz")]}
    dataset_json = {"labels": labels or {"background": 0, "nodule": 1}, "file_ending": ".nii.gz"} | dataset_json
    (root / "pred" / "dataset.json").write_text(json.dumps(dataset_json))
    (root / "pred" / "uncertainty.json").write_text(json.dumps({"settings": {}, "cases": cases}))
    return root


def test_from_python_the_numbers_are_those_of_the_command(tmp_path):
    root = make_folder(tmp_path)
    command = ["-pred", root / "pred", "-gt", root / "gt", "-gt_raters", root / "raters", "-np", "1", "--no_pictures"]
    assert main([*map(str, command), "--disable_progress_bar"]) == 0
    folder = root / "pred" / "evaluation"
    written = json.loads((folder / "summary.json").read_text())
    records = root / "records"
    evaluation = evaluate_folder(root / "pred", str(root / "gt"), raters=root / "raters", record_folder=records)
    assert evaluation.summary == {name: written[name] for name in written.keys() - {"folders", "model"}}
    pd.testing.assert_frame_equal(evaluation.rows, pd.read_csv(folder / "cases.csv"))
    assert sorted(path.name for path in (records / "ID").iterdir()) == ["case_0.json", "case_1.json"]
    with pytest.raises(FileNotFoundError, match=r"labels\.json: no such file; name the file with dataset_json"):
        evaluate_folder(root / "pred", root / "gt", dataset_json=root / "labels.json")


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path)


def run(folder, *options, raters=True):
    rater_option = ["-gt_raters", str(folder / "raters")] if raters else []
    folders = ["-pred", str(folder / "pred"), "-gt", str(folder / "gt"), *rater_option]
    return main([*folders, "-np", "1", "--disable_progress_bar", *map(str, options)])


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = make_folder(tmp_path_factory.mktemp("evaluated"), num_raters=3)
    assert run(folder) == 0
    return folder


def test_everything_is_written(evaluated):
    output = evaluated / "pred" / "evaluation"
    names = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
    assert names == [
        "cases.csv",
        "curves.json",
        "images.csv",
        "pictures/case_0.png",
        "pictures/case_1.png",
        "records/ID/case_0.json",
        "records/ID/case_1.json",
        "reliability.png",
        "scores.csv",
        "summary.json",
    ]


def test_numbers_in_the_files(evaluated):
    output = evaluated / "pred" / "evaluation"
    rows = pd.read_csv(output / "cases.csv").set_index(["case", "annotation", "class"])
    assert len(rows) == 2 * 4 * 2
    with np.load(evaluated / "pred" / "case_1.npz") as archive:
        probabilities = archive["probabilities"]
    reference = read(evaluated / "gt" / "case_1.nii.gz")
    found = rows.loc[("case_1", "reference", "nodule")]
    overlap, sizes = disc(5).sum(), disc(5).sum() + disc(6).sum()
    assert found["dice"] == pytest.approx(2 * overlap / sizes)
    assert found["nll"] == pytest.approx(metrics.binary_nll(probabilities[1], reference == 1))
    assert found["reference_voxels"] == disc(6).sum()
    assert rows.loc[("case_1", "rater1", "nodule"), "dice"] == 1

    summary = json.loads((output / "summary.json").read_text())
    assert summary["num_cases"] == 2
    assert summary["num_raters"] == 3
    assert "dice" in summary["conventions"]
    raters = rows.loc[(slice(None), ["rater0", "rater1", "rater2"], "nodule"), :]
    assert summary["results"]["raters"]["nodule"]["mean"]["dice"] == pytest.approx(raters["dice"].mean())
    assert summary["results"]["raters"]["nodule"]["mean"]["ece"] == pytest.approx(raters["ece"].mean())


def test_distances_in_the_files(evaluated, folder):
    """In mm of the files, against each rater and then averaged; a prediction of another tolerance is scored again."""
    output = evaluated / "pred" / "evaluation"
    rows = pd.read_csv(output / "cases.csv").set_index(["case", "annotation", "class"])
    summary = json.loads((output / "summary.json").read_text())
    expected = {}
    for name, radius in (("reference", 6), ("rater0", 4), ("rater1", 5), ("rater2", 6)):
        distances = metrics.surface_distances(disc(5) > 0, disc(radius) > 0, spacing_mm=SPACING[::-1])
        expected[name] = [distances.hausdorff_mm(), distances.average_mm(), distances.normalised_dice(2), 1]
        found = rows.loc[("case_0", name, "nodule"), ["hd95_mm", "assd_mm", "nsd", "lesion_dice"]].tolist()
        overlap = 2 * min(disc(5).sum(), disc(radius).sum()) / (disc(5).sum() + disc(radius).sum())
        assert found == pytest.approx([*expected[name][:3], overlap])
    assert 0.7 < expected["reference"][0] < 1.3
    of_raters = summary["results"]["raters"]["nodule"]["mean"]["hd95_mm"]
    assert of_raters == pytest.approx(np.mean([expected[f"rater{i}"][0] for i in range(3)]))
    assert summary["nsd_tolerance_mm"] == 2
    assert "tolerance 2 mm" in summary["conventions"]["nsd"]

    assert run(folder, "--no_pictures", raters=False) == 0
    assert run(folder, "--no_pictures", "--continue_evaluation", "--nsd_tolerance_mm", "0.5", raters=False) == 0
    rows = pd.read_csv(folder / "pred" / "evaluation" / "cases.csv").set_index(["case", "class"])
    distances = metrics.surface_distances(disc(5) > 0, disc(6) > 0, spacing_mm=SPACING[::-1])
    assert rows.loc[("case_1", "nodule"), "nsd"] == pytest.approx(distances.normalised_dice(0.5))
    assert distances.normalised_dice(0.5) < expected["reference"][2]


@pytest.mark.parametrize("tolerance", ["-1", "nan", "inf"])
def test_a_tolerance_that_is_none(folder, capsys, tolerance):
    assert run(folder, f"--nsd_tolerance_mm={tolerance}", raters=False) == 1
    assert "--nsd_tolerance_mm must be" in capsys.readouterr().err
    with pytest.raises(ValueError, match="tolerance_mm must be finite and at least 0"):
        evaluate_folder(folder / "pred", folder / "gt", nsd_tolerance_mm=float(tolerance))


def test_nnunet_evaluates_the_folder_to_the_same_dice(evaluated):
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    pairs = [(str(evaluated / part / f"case_{case}.nii.gz") for part in ("gt", "pred")) for case in (0, 1)]
    theirs = [compute_metrics(*pair, SimpleITKIO(), [1])["metrics"][1]["Dice"] for pair in pairs]
    summary = json.loads((evaluated / "pred" / "evaluation" / "summary.json").read_text())
    assert summary["results"]["reference"]["nodule"]["mean"]["dice"] == pytest.approx(np.mean(theirs))


def test_table_on_the_terminal(folder, capsys):
    assert run(folder, "--no_pictures", raters=False) == 0
    printed = capsys.readouterr().out
    assert "Against the reference: 2 cases" in printed
    assert "nodule" in printed
    assert "raters, averaged" not in printed
    assert not (folder / "pred" / "evaluation" / "pictures").exists()


def test_predictions_without_maps_and_record(folder):
    """As nnUNetv2_predict --save_probabilities leaves them."""
    (folder / "pred" / "uncertainty.json").unlink()
    for name in MAPS:
        for path in (folder / "pred" / name).iterdir():
            path.unlink()
    assert run(folder) == 0
    assert (folder / "pred" / "evaluation" / "pictures" / "case_0.png").is_file()


def test_images_from_a_folder(folder, capsys):
    fails_with("case_0_0000.nii.gz", folder, capsys, "-i", folder / "gt")
    assert run(folder, "-i", folder / "images") == 0


@pytest.fixture
def drawn(monkeypatch):
    """The pictures that the command draws, and the options, under the case's name."""
    pictures = {}

    def keep(picture, **options):
        pictures[picture.name] = picture, options
        return case_figure(picture, **options)

    monkeypatch.setattr("nnunet_stochastic.report.pictures.case_figure", keep)
    return pictures


@pytest.mark.parametrize(
    ("settings", "is_stand_in"),
    [
        ({"trainer": "nnUNetTrainer", "aleatoric_source": "tta", "epistemic_source": "aleatoric_samples"}, True),
        ({"trainer": "nnUNetTrainerSSN", "aleatoric_source": "model", "epistemic_source": "ensemble"}, False),
        ({}, None),
    ],
)
def test_the_epistemic_map_of_one_member_is_marked(folder, drawn, capsys, settings, is_stand_in):
    record = folder / "pred" / "uncertainty.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"settings": settings}))
    assert run(folder) == 0
    summary = json.loads((folder / "pred" / "evaluation" / "summary.json").read_text())
    assert summary["model"]["epistemic_is_stand_in"] is is_stand_in
    assert [picture.epistemic_is_stand_in for picture, _ in drawn.values()] == [bool(is_stand_in)] * 2
    printed = capsys.readouterr().out
    assert [mark in printed for mark in ("EU †", "Δ †", "EU/AU †", "† one member")] == [bool(is_stand_in)] * 4


def test_pictures_show_the_files(folder, drawn):
    total = read(folder / "pred" / "total" / "case_1.nii.gz")
    total[3, 0, 0] = 0.9
    write(folder / "pred" / "total" / "case_1.nii.gz", total)
    assert run(folder, "-np", 2, "--shared_scale") == 0
    assert drawn.keys() == {"case_0", "case_1"}
    picture, options = drawn["case_1"]
    assert options == {"shared_scale": True}
    # The disc is in all slices; with 12 pixels around it, the window is the whole slice.
    assert picture.view.where == "xy plane, slice z = 0 (0 to 3)"
    assert picture.view.pixel_size == pytest.approx((SPACING[1], SPACING[0]))
    np.testing.assert_array_equal(picture.image, read(folder / "images" / "case_1_0000.nii.gz")[0])
    np.testing.assert_array_equal(picture.prediction, disc(5)[0])
    with np.load(folder / "pred" / "case_1.npz") as archive:
        np.testing.assert_allclose(picture.foreground_probability, archive["probabilities"][1, 0], atol=1e-6)
    assert list(picture.annotations) == ["rater 0", "rater 1", "rater 2"]
    np.testing.assert_array_equal(picture.annotations["rater 2"], disc(6)[0])
    for name in MAPS:
        volume = read(folder / "pred" / name / "case_1.nii.gz")
        np.testing.assert_array_equal(picture.maps[name], volume[0])
        assert picture.maxima[name] == volume.max()
    assert picture.maxima["total"] == pytest.approx(0.9)


def test_picture_of_a_deterministic_prediction(folder, drawn):
    for name in set(MAPS) - {"total"}:
        for path in (folder / "pred" / name).iterdir():
            path.unlink()
    (folder / "images" / "case_0_0000.nii.gz").unlink()
    assert run(folder, raters=False) == 0
    picture, options = drawn["case_0"]
    assert picture.image is None
    assert picture.maps.keys() == {"total"}
    assert picture.annotations.keys() == {"reference"}
    assert options == {"shared_scale": False}


def test_picture_without_foreground_is_where_the_total_is_largest(folder, drawn):
    for path in (folder / "pred" / "case_0.nii.gz", folder / "gt" / "case_0.nii.gz"):
        write(path, 0 * disc(1))
    total = np.zeros(SHAPE, dtype=np.float32)
    total[2] = 0.1
    write(folder / "pred" / "total" / "case_0.nii.gz", total)
    assert run(folder, raters=False) == 0
    assert drawn["case_0"][0].view.index == 2


@pytest.mark.parametrize(
    ("labels", "options", "channels", "expected"),
    [
        ({"background": 0, "a": 1, "b": 2}, {}, (0.2, 0.5, 0.3), 0.8),
        ({"background": 0, "whole": [1, 2], "core": 2}, {"regions_class_order": [1, 2]}, (0.7, 0.3), 0.7),
    ],
)
def test_foreground_probability_of_several_classes(tmp_path, drawn, labels, options, channels, expected):
    folder = make_folder(tmp_path, labels=labels, **options)
    for name in ("case_0", "case_1"):
        probabilities = np.broadcast_to(np.reshape(channels, (-1, 1, 1, 1)), (len(channels), *SHAPE))
        np.savez(folder / "pred" / f"{name}.npz", probabilities=probabilities.astype(np.float32))
        write(folder / "pred" / f"{name}.nii.gz", np.ones(SHAPE, dtype=np.uint8))
    assert run(folder, raters=False) == 0
    np.testing.assert_allclose(drawn["case_0"][0].foreground_probability, expected, rtol=1e-6)


def test_pictures_of_png(tmp_path, drawn):
    rng = np.random.default_rng(0)
    label, colours = disc(5)[0], rng.integers(0, 256, (*SHAPE[1:], 3), dtype=np.uint8)
    total = rng.uniform(0, 0.5, SHAPE[1:]).astype(np.float32)
    for part in ("pred/total", "gt", "images"):
        (tmp_path / part).mkdir(parents=True)
    for part in ("pred", "gt"):
        io.imsave(tmp_path / part / "eye.png", label, check_contrast=False)
    io.imsave(tmp_path / "images" / "eye_0000.png", colours, check_contrast=False)
    tifffile.imwrite(tmp_path / "pred" / "total" / "eye.tif", total)
    np.savez(tmp_path / "pred" / "eye.npz", probabilities=np.stack([1 - label, label])[:, None].astype(np.float32))
    dataset_json = {"labels": {"background": 0, "disc": 1}, "file_ending": ".png"}
    (tmp_path / "pred" / "dataset.json").write_text(json.dumps(dataset_json))
    assert run(tmp_path, "-i", tmp_path / "images", raters=False) == 0
    picture, _ = drawn["eye"]
    np.testing.assert_array_equal(picture.image, colours)
    np.testing.assert_array_equal(picture.maps["total"], total)
    assert (picture.view.where, picture.view.unit) == ("", "px")
    assert (tmp_path / "pred" / "evaluation" / "pictures" / "eye.png").is_file()


def test_negative_uncertainty(folder, capsys):
    write(folder / "pred" / "epistemic" / "case_0.nii.gz", np.full(SHAPE, -0.1, dtype=np.float32))
    assert run(folder) == 1
    assert "epistemic/case_0.nii.gz must have finite values of at least 0, got -0.1" in capsys.readouterr().err


def test_image_of_another_size(folder, capsys):
    write(folder / "images" / "case_0_0000.nii.gz", np.zeros((3, 3, 3), dtype=np.float32))
    assert run(folder) == 1
    assert "case_0_0000.nii.gz has size" in capsys.readouterr().err
    assert (folder / "pred" / "evaluation" / "summary.json").is_file()  # the scores are not lost


def test_regions_and_ignore_label(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    folder = make_folder(tmp_path, labels=labels, regions_class_order=[1, 2])
    for path in (folder / "pred").glob("*.npz"):  # whole as predicted, no core
        probability = np.load(path)["probabilities"][1]
        np.savez(path, probabilities=np.stack([probability, 0.1 * probability]))
    reference = disc(6)
    reference[0] = 3
    write(folder / "gt" / "case_0.nii.gz", reference)
    assert run(folder, "--no_pictures", raters=False) == 0
    rows = pd.read_csv(folder / "pred" / "evaluation" / "cases.csv").set_index(["case", "class"])
    assert rows.loc[("case_0", "whole"), "reference_voxels"] == 3 * disc(6)[0].sum()
    assert np.isnan(rows.loc[("case_0", "core"), "dice"])


def fails_with(message, folder, capsys, *options, **keywords):
    assert run(folder, *options, **keywords) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    for name in ("summary.json", "cases.csv"):
        assert not (folder / "pred" / "evaluation" / name).exists()


def test_missing_probabilities(folder, capsys):
    (folder / "pred" / "case_0.npz").unlink()
    fails_with("--save_probabilities", folder, capsys)


def test_unknown_case_in_the_reference_and_chill(folder, capsys):
    write(folder / "gt" / "case_2.nii.gz", disc(6))
    fails_with("case_2", folder, capsys)
    assert run(folder, "--allow_missing_predictions", "--no_pictures") == 0


def test_case_without_reference(folder, capsys):
    (folder / "gt" / "case_1.nii.gz").unlink()
    fails_with("case_1: predicted, but not in", folder, capsys, "--chill")


def test_missing_rater(folder, capsys):
    (folder / "raters" / "case_1_rater2.nii.gz").unlink()
    fails_with("case_1_rater2.nii.gz", folder, capsys)


def test_fewer_raters_than_dataset_json_says(tmp_path, capsys):
    fails_with("case_0_rater3.nii.gz", make_folder(tmp_path, num_raters=4), capsys)


def test_other_geometry(folder, capsys):
    image = sitk.ReadImage(str(folder / "gt" / "case_1.nii.gz"))
    image.SetSpacing((0.7, 0.9, 3.0))
    sitk.WriteImage(image, str(folder / "gt" / "case_1.nii.gz"))
    fails_with("differ in spacing", folder, capsys)


def test_labels_outside_the_dataset(folder, capsys):
    write(folder / "gt" / "case_0.nii.gz", disc(6) * 2)
    fails_with("holds 2; the labels of dataset.json are 0 to 1", folder, capsys)


def test_nan(folder, capsys):
    np.savez(folder / "pred" / "case_0.npz", probabilities=np.full((2, *SHAPE), np.nan))
    fails_with("NaN", folder, capsys)


def test_one_class_only(tmp_path, capsys):
    fails_with("at least one foreground label", make_folder(tmp_path, labels={"background": 0}), capsys)


def test_output_that_cannot_be_written(folder, capsys):
    (folder / "file").touch()
    fails_with("cannot be written", folder, capsys, "-o", folder / "file" / "evaluation")


def test_missing_and_broken_dataset_json(folder, capsys):
    (folder / "pred" / "dataset.json").write_text('{"labels": {"background": 0, "a": 1}}')
    fails_with("dataset.json: file_ending: is missing; name the file with -djfile", folder, capsys)
    (folder / "pred" / "dataset.json").write_text("{")
    fails_with("not valid JSON", folder, capsys)
    (folder / "pred" / "dataset.json").unlink()
    fails_with("-djfile", folder, capsys)


def test_no_thread(folder, capsys):
    fails_with("-np must be at least 1", folder, capsys, "-np", 0)


def test_unknown_reader(folder, capsys):
    (folder / "pred" / "plans.json").write_text(json.dumps({"image_reader_writer": "NoSuchReader"}))
    fails_with("NoSuchReader", folder, capsys)


def test_cases_of_an_earlier_prediction_are_refused_by_name(folder, capsys):
    """Another seed's, for instance, that an interrupted prediction has not come to."""
    path = folder / "pred" / "uncertainty.json"
    record = json.loads(path.read_text())
    del record["cases"]["case_1"]
    path.write_text(json.dumps(record | {"other_cases": ["case_1", "case_2"]}))
    assert run(folder) == 1
    error = capsys.readouterr().err
    assert "case_1: of an earlier prediction" in error
    assert "--continue_prediction" in error
    assert "case_2" not in error


def as_images(folder, *, keep_npz=False):
    """Write the probabilities as images, one per class."""
    for npz in sorted((folder / "pred").glob("*.npz")):
        for channel, array in enumerate(np.load(npz)["probabilities"]):
            write(folder / "pred" / "probabilities" / f"{npz.stem}_{channel:04d}.nii.gz", array)
        if not keep_npz:
            npz.unlink()
    return folder / "pred" / "probabilities"


def test_probabilities_as_images_are_scored_like_those_of_npz(tmp_path):
    summaries = []
    for kind in ("npz", "images"):
        folder = make_folder(tmp_path / kind)
        if kind == "images":
            as_images(folder)
        assert run(folder) == 0
        summary = json.loads((folder / "pred" / "evaluation" / "summary.json").read_text())
        summaries.append(json.dumps(summary).replace(str(folder), ""))
    assert summaries[0] == summaries[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda images: (images / "case_0_0000.nii.gz").unlink(),
            "2 images of the case, one for each class (missing: ",
        ),
        (
            lambda images: (images / "case_0_0001.nii.gz").rename(images / "case_0_0007.nii.gz"),
            "(missing: case_0_0001.nii.gz; too many: case_0_0007.nii.gz)",
        ),
        (
            lambda images: write(images / "case_0_0002.nii.gz", np.zeros(SHAPE, np.float32)),
            "(too many: case_0_0002.nii.gz)",
        ),
        (
            lambda images: write(images / "case_0_0001.nii.gz", np.zeros((3, *SHAPE[1:]), np.float32)),
            "case_0_0001.nii.gz has 20 x 24 x 3 (x, y, z)",
        ),
        (
            lambda images: write(images / "case_0_0001.nii.gz", np.float32(1.5) * read(images / "case_0_0001.nii.gz")),
            "case_0_*.nii.gz has probabilities outside [0, 1]",
        ),
        (
            lambda images: [path.unlink() for path in images.glob("case_0_*")],
            "case_0: no probabilities ",
        ),
    ],
    ids=["missing", "number", "too many", "size", "range", "none"],
)
def test_images_of_probabilities_that_are_not_those_of_a_case_are_refused(tmp_path, capsys, change, said):
    folder = make_folder(tmp_path)
    change(as_images(folder))
    assert run(folder) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "case_1" not in error


def test_images_of_probabilities_in_another_place_are_refused_like_maps(tmp_path, capsys):
    folder = make_folder(tmp_path)
    path = as_images(folder) / "case_1_0001.nii.gz"
    image = sitk.ReadImage(str(path))
    image.SetOrigin((1.0, -20.0, 310.0))
    sitk.WriteImage(image, str(path))
    assert run(folder) == 1
    assert "case_1_0001.nii.gz differ in " in capsys.readouterr().err


def test_probabilities_in_two_formats_are_refused(tmp_path, capsys):
    folder = make_folder(tmp_path)
    as_images(folder, keep_npz=True)
    assert run(folder) == 1
    assert "case_0, case_1: probabilities both as npz file and as images" in capsys.readouterr().err
