"""Training files, found as nnU-Net finds them: a file per channel, one with all channels, or those of dataset.json."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from skimage import io

from nnunet_stochastic.datasets.ensemble_splits import default_splits
from nnunet_stochastic.datasets.rater_cases import find_rater_cases, find_training_images
from nnunet_stochastic.datasets.rater_preprocessing import RaterPreprocessing
from nnunet_stochastic.inference.cases import find_input_cases
from nnunet_stochastic.study.validation_images import link_validation_images
from nnunet_stochastic.training.raters import RaterFolder
from tests.inference import model_folder

NAME = "Dataset999_Test"
CASES = [f"c{number}" for number in range(5)]
DESCRIPTION = {
    "channel_names": {"0": "R", "1": "G", "2": "B"},
    "labels": {"background": 0, "a": 1},
    "numTraining": 5,
    "file_ending": ".png",
    "num_raters": 2,
}


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """Colour images, one file each, whose raters disagree about the size of a square."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    folder = tmp_path / "nnUNet_raw" / NAME
    for part in ("imagesTr", "labelsTr", "ratersTr"):
        (folder / part).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for case in CASES:
        image = generator.integers(1, 250, (30, 26, 3), dtype=np.uint8)
        image[:3] = 0  # nnU-Net crops this away
        io.imsave(folder / f"imagesTr/{case}_0000.png", image)
        for rater, name in enumerate((f"labelsTr/{case}", f"ratersTr/{case}_rater0", f"ratersTr/{case}_rater1")):
            mask = np.zeros((30, 26), np.uint8)
            mask[8 : 14 + 2 * rater, 8:16] = 1
            io.imsave(folder / f"{name}.png", mask, check_contrast=False)
    (folder / "dataset.json").write_text(json.dumps(DESCRIPTION))
    return folder


def nnunets(raw, description) -> dict[str, list[str]]:
    found = get_filenames_of_train_images_and_targets(str(raw), copy.deepcopy(description))
    return {name: entry["images"] for name, entry in found.items()}


def ours(raw, description) -> dict[str, list[str]]:
    return {name: list(map(str, images)) for name, images in find_training_images(raw, description).items()}


def listed(raw, monkeypatch):
    """dataset.json with files that are named and lie as nobody would guess."""
    monkeypatch.setenv("SOMEWHERE", str(raw / "imagesTr"))
    (raw / "imagesTr" / "c4_0000.png").rename(raw / "imagesTr" / "other.png")
    entries = {
        case: {"images": [f"imagesTr/{case}_0000.png"], "label": f"labelsTr/{case}.png"} for case in reversed(CASES)
    }
    entries["c4"]["images"] = ["$SOMEWHERE/other.png"]
    return DESCRIPTION | {"dataset": entries}


def test_one_file_with_all_channels(raw):
    assert ours(raw, DESCRIPTION) == nnunets(raw, DESCRIPTION)
    assert ours(raw, DESCRIPTION)["c1"] == [str(raw / "imagesTr/c1_0000.png")]
    assert find_rater_cases(raw, DESCRIPTION, 2)[1] == {}


def test_a_file_per_channel_and_names_that_begin_alike(raw):
    for name in ("c1_0001", "c1_0002", "c1_0001_0000", "c10_0000", "c[0]_0000"):
        io.imsave(raw / "imagesTr" / f"{name}.png", np.ones((4, 4, 3), np.uint8), check_contrast=False)
    found = ours(raw, DESCRIPTION)
    assert found == nnunets(raw, DESCRIPTION)
    assert [len(found[name]) for name in ("c0", "c1", "c1_0001", "c10", "c[0]")] == [1, 3, 1, 1, 1]


def test_files_that_dataset_json_lists(raw, monkeypatch):
    description = listed(raw, monkeypatch)
    found = ours(raw, description)
    assert {name: [*map(str, files)] for name, files in found.items()} == nnunets(raw, description)
    assert found["c4"] == [str(raw / "imagesTr/other.png")]
    cases, missing = find_rater_cases(raw, description, 2)
    assert missing == {}
    assert [case.name for case in cases] == CASES


@pytest.mark.parametrize("entry", [{}, {"images": []}, {"images": "a.png", "label": "b.png"}, {"images": ["a.png"]}])
def test_an_entry_of_dataset_json_that_is_none(raw, entry):
    with pytest.raises(ValueError, match=r'dataset\.json: dataset\.x must have "images", a list of files, and "label"'):
        find_training_images(raw, DESCRIPTION | {"dataset": {"x": entry}})


def test_missing_and_superfluous_channels_are_named(raw):
    square = np.ones((4, 4, 3), np.uint8)
    for name in ("c1_0001", *(f"c2_{channel:04d}" for channel in range(1, 4))):
        io.imsave(raw / "imagesTr" / f"{name}.png", square, check_contrast=False)
    (raw / "imagesTr" / "c3_0000.png").rename(raw / "imagesTr" / "c3_0002.png")
    _, missing = find_rater_cases(raw, DESCRIPTION, 2)
    assert sorted(missing) == ["c1", "c2", "c3"]
    assert missing["c1"] == [f"c1: files are missing: {raw / 'imagesTr/c1_0002.png'}"]
    assert "c2: has 4 image files and dataset.json 3 channels" in missing["c2"][0]
    assert missing["c3"] == [f"c3: files are missing: {raw / 'imagesTr/c3_0000.png'}, {raw / 'imagesTr/c3_0001.png'}"]


@pytest.fixture
def preprocessed(raw):
    """What nnU-Net's own preprocessor makes of the colour images."""
    folder = raw.parents[1] / "nnUNet_preprocessed" / NAME
    folder.mkdir(parents=True)
    plan = model_folder.plans(dimension=2, channels=3, reader_writer="NaturalImage2DIO") | {"dataset_name": NAME}
    (folder / "nnUNetPlans.json").write_text(json.dumps(plan))
    (folder / "dataset.json").write_text(json.dumps(DESCRIPTION))
    manager = PlansManager(plan)
    configuration = manager.get_configuration("2d")
    (folder / configuration.data_identifier).mkdir()
    for case in CASES:
        DefaultPreprocessor(verbose=False).run_case_save(
            str(folder / configuration.data_identifier / case),
            [str(raw / f"imagesTr/{case}_0000.png")],
            str(raw / f"labelsTr/{case}.png"),
            manager,
            configuration,
            DESCRIPTION,
        )
    return folder, manager, configuration


def work_on(dataset: str = NAME) -> RaterPreprocessing:
    work = RaterPreprocessing.find(dataset)
    work.check()
    return work


@pytest.mark.parametrize("how", ["in imagesTr", "listed"])
def test_raters_of_colour_images_are_preprocessed_as_nnunet_does(raw, preprocessed, monkeypatch, how):
    folder, manager, configuration = preprocessed
    files = {case: str(raw / f"imagesTr/{case}_0000.png") for case in CASES}
    if how == "listed":
        description = listed(raw, monkeypatch)
        files["c4"] = str(raw / "imagesTr/other.png")
        for path in (raw, folder):
            (path / "dataset.json").write_text(json.dumps(description))
    work = work_on()
    assert work.problems == []
    assert (work.run(), work.failures) == (5, {})
    raters = RaterFolder.of_configuration(folder, manager, configuration, DESCRIPTION)
    for case in CASES:
        for rater in range(2):
            _, expected, _ = DefaultPreprocessor(verbose=False).run_case(
                [files[case]], str(raw / f"ratersTr/{case}_rater{rater}.png"), manager, configuration, DESCRIPTION
            )
            mask, _ = raters.load(case, rater)
            np.testing.assert_array_equal(mask[:], expected)
            assert (expected == 1).sum() == 8 * (8 + 2 * rater)
    assert work_on().num_complete == 5


def test_one_file_without_all_channels_is_named(raw, preprocessed):
    io.imsave(raw / "imagesTr" / "c2_0000.png", np.full((30, 26), 7, np.uint8), check_contrast=False)
    (problem,) = work_on().problems
    assert (
        problem
        == f"c2: files are missing: {raw / 'imagesTr/c2_0000.png'} has 1 of the 3 channels that dataset.json names"
    )


@pytest.mark.parametrize("how", ["in imagesTr", "listed"])
def test_a_study_takes_them(raw, monkeypatch, tmp_path, how):
    """The cases of the splits, and validation images under the names that the predict command looks for."""
    if how == "listed":
        (raw / "dataset.json").write_text(json.dumps(listed(raw, monkeypatch)))
    assert sorted(default_splits(raw)[0]["train"] + default_splits(raw)[0]["val"]) == CASES
    splits = tmp_path / "splits_final.json"
    splits.write_text(json.dumps([{"train": CASES[:3], "val": CASES[3:]}]))
    assert link_validation_images(raw, splits, tmp_path / "validation") == 2
    cases = find_input_cases(tmp_path / "validation", file_ending=".png", num_channels=3)
    assert [case.name for case in cases] == ["c3", "c4"]
    original = "other.png" if how == "listed" else "c4_0000.png"
    assert cases[1].files[0].read_bytes() == (raw / "imagesTr" / original).read_bytes()
