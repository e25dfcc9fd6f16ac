"""Raters preprocessed as nnU-Net would: equal to its own result, complete or absent, redone when something changed."""

from __future__ import annotations

import gzip
import json
import os
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

from nnunet_stochastic.datasets import rater_preprocessing
from nnunet_stochastic.datasets.rater_preprocessing import RaterPreprocessing
from nnunet_stochastic.training.raters import RaterFolder

SETTINGS = {
    "3d": {},
    "anisotropic": {"image_spacing": (0.7, 0.7, 4.0), "spacing": (3.0, 1.0, 1.0)},
    "transposed": {"image_spacing": (3.0, 0.8, 1.3), "spacing": (2.0, 1.0, 1.1), "transpose": (2, 0, 1)},
    "2d": {"dimension": 2, "image_spacing": (0.8, 0.9, 3.0)},
    "regions": {"labels": "regions", "image_spacing": (0.8, 0.8, 0.8)},
    "ignore": {"labels": "ignore", "image_spacing": (0.8, 0.8, 0.8)},
}


@pytest.fixture
def dataset(make_rater_dataset):
    return make_rater_dataset()


def preprocess(dataset, *, num_threads: int = 2) -> RaterPreprocessing:
    work = RaterPreprocessing.find(dataset.raw.name)
    work.check(num_threads=num_threads)
    assert work.problems == []
    work.run(num_threads=num_threads)
    return work


def folder_of(dataset) -> RaterFolder:
    return RaterFolder.of_configuration(
        dataset.preprocessed, dataset.plans, dataset.configuration, dataset.dataset_json
    )


def contents(dataset) -> dict[str, tuple]:
    """All that training reads, and the names of all files."""
    folder = folder_of(dataset)
    loaded = {"files": tuple(sorted(path.name for path in folder.path.iterdir()))}
    for case in dataset.cases:
        for rater in range(3):
            mask, locations = folder.load(case, rater)
            loaded[f"{case} {rater}"] = (
                mask[:].tobytes(),
                {key: np.array(at).tobytes() for key, at in locations.items()},
            )
    return loaded


def assert_equals_nnunet(dataset) -> None:
    folder = folder_of(dataset)
    for case in dataset.cases:
        for rater in range(3):
            image, expected, properties = dataset.configuration.preprocessor_class(verbose=False).run_case(
                dataset.image_files(case),
                str(dataset.mask_file(case, rater)),
                dataset.plans,
                dataset.configuration,
                dataset.dataset_json,
            )
            mask, locations = folder.load(case, rater)
            assert mask.dtype == np.int16
            assert mask.shape == (1, *image.shape[1:])
            np.testing.assert_array_equal(mask[:], expected)
            assert locations.keys() == properties["class_locations"].keys()
            for key, at in locations.items():
                np.testing.assert_array_equal(at, properties["class_locations"][key])
            assert {-1, 0, 1, 2} <= set(np.unique(expected).tolist())


@pytest.mark.parametrize("setting", list(SETTINGS))
def test_equals_nnunets_preprocessing_of_image_and_mask(make_rater_dataset, setting):
    dataset = make_rater_dataset(num_cases=1, **SETTINGS[setting])
    preprocess(dataset)
    assert_equals_nnunet(dataset)
    masks = [folder_of(dataset).load("case_0", rater)[0][:] for rater in range(3)]
    sizes = [int(np.isin(mask, (1, 2)).sum()) for mask in masks]
    assert 0 < sizes[0] < sizes[1] < sizes[2]


class BrightPreprocessor(DefaultPreprocessor):
    """Crops to what is bright, as only the image itself can tell, and edits the segmentation."""

    def run_case_npy(self, data, seg, properties, plans_manager, configuration_manager, dataset_json):
        bright = data * (data > 120)
        return super().run_case_npy(bright, seg, properties, plans_manager, configuration_manager, dataset_json)


class SparsePreprocessor(DefaultPreprocessor):
    def modify_seg_fn(self, seg, plans_manager, dataset_json, configuration_manager):
        seg[:, ::2] = 0
        seg[:, 1, 1, 1] = len(configuration_manager.patch_size)
        return seg


@pytest.mark.parametrize("preprocessor", [BrightPreprocessor, SparsePreprocessor])
def test_the_configurations_own_preprocessor_is_used(make_rater_dataset, monkeypatch, preprocessor):
    monkeypatch.setattr(rater_preprocessing.ConfigurationManager, "preprocessor_class", preprocessor)
    dataset = make_rater_dataset(num_cases=1)
    preprocess(dataset)
    assert_equals_nnunet(dataset)


def test_nnunets_folder_holds_what_it_held(dataset):
    before = sorted((path.name, path.stat().st_mtime_ns) for path in dataset.images.iterdir())
    preprocess(dataset)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in dataset.images.iterdir()) == before


def test_image_is_read_once_and_complete_cases_are_left_alone(dataset, monkeypatch):
    reads = []
    reader = dataset.plans.image_reader_writer_class
    original = reader.read_images
    # `read_seg` calls `read_images` for each mask.
    monkeypatch.setattr(reader, "read_images", lambda self, files: reads.append(tuple(files)) or original(self, files))
    first = preprocess(dataset)
    assert first.num_complete == 0
    images = [file for (file,) in reads if "imagesTr" in file]
    assert sorted(images) == sorted(file for case in dataset.cases for file in dataset.image_files(case))
    reads.clear()
    second = preprocess(dataset)
    assert (second.work, second.num_complete, reads) == ([], 3, [])


def test_only_what_changed_is_done_again(dataset, write_volume):
    preprocess(dataset)
    before = contents(dataset)
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(dataset.mask_file("case_1", 2))))
    write_volume(dataset.mask_file("case_1", 2), np.roll(mask, 2, axis=1), spacing=(1.0, 1.0, 1.0))
    again = preprocess(dataset)
    assert [case.name for case, _ in again.work] == ["case_1"]
    after = contents(dataset)
    assert {key for key in before if before[key] != after[key]} == {"case_1 2"}
    assert_equals_nnunet(dataset)


def test_other_plans_of_the_same_name_are_done_again(dataset):
    preprocess(dataset)
    plans = json.loads((dataset.preprocessed / "nnUNetPlans.json").read_text())
    plans["configurations"]["3d_fullres"]["resampling_fn_seg_kwargs"]["order"] = 0
    (dataset.preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    assert len(RaterPreprocessing.find("999").work) == 3


@pytest.mark.parametrize("stop_at", range(1, 9))
def test_an_interruption_at_any_moment_leaves_cases_complete_or_absent(dataset, monkeypatch, stop_at):
    """Every step that changes the folder is a possible last one; cleaning up does not happen either."""
    preprocess(dataset)
    undisturbed = contents(dataset)
    for mask in dataset.raw.glob("ratersTr/case_1*"):
        os.utime(mask, ns=(0, 0))  # case_1 is to be done again, over what is there

    class Interruption(BaseException):
        pass

    steps = []

    def counted(function):
        def step(*arguments, **options):
            steps.append(function)
            if len(steps) == stop_at:
                raise Interruption
            return function(*arguments, **options)

        return step

    with monkeypatch.context() as patch:
        module = rater_preprocessing
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr(module, "write_pickle", counted(module.write_pickle))
        with pytest.raises(Interruption):
            preprocess(dataset, num_threads=1)
    folder = folder_of(dataset)
    assert [folder.is_complete(case) for case in dataset.cases] == [True, False, True]
    resumed = preprocess(dataset)
    assert [case.name for case, _ in resumed.work] == ["case_1"]
    assert contents(dataset) == undisturbed


@pytest.mark.parametrize("damage", ["half", "checksum", "uncompressed", "no image"])
@pytest.mark.parametrize("which", ["mask", "image"])
def test_a_damaged_file_fails_alone(dataset, damage, which):
    path = dataset.mask_file("case_1", 1) if which == "mask" else dataset.raw / "imagesTr" / "case_1_0001.nii.gz"
    stored = path.read_bytes()
    damaged = {
        "half": stored[: len(stored) // 2],
        "checksum": stored[:-8] + bytes(8),
        "uncompressed": gzip.compress(gzip.decompress(stored)[:-100]),
        "no image": b"not an image",
    }
    path.write_bytes(damaged[damage])
    work = preprocess(dataset)
    assert list(work.failures) == ["case_1"]
    assert path.name in work.failures["case_1"]
    assert [folder_of(dataset).is_complete(case) for case in dataset.cases] == [True, False, True]
    assert not list(dataset.raters.glob(".*"))
    path.write_bytes(stored)
    assert preprocess(dataset).failures == {}
    assert_equals_nnunet(dataset)


def test_a_complete_case_whose_mask_was_damaged_is_complete_no_more(dataset):
    preprocess(dataset)
    dataset.mask_file("case_2", 0).write_bytes(b"")
    assert list(preprocess(dataset).failures) == ["case_2"]
    assert [folder_of(dataset).is_complete(case) for case in dataset.cases] == [True, True, False]


@pytest.mark.parametrize("ending", ["b2nd", "pkl"])
def test_pages_of_zeros_within_a_file_are_noticed(dataset, ending):
    preprocess(dataset)
    path = dataset.raters / f"case_1_rater1.{ending}"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] + bytes(40))
    preprocess(dataset)
    assert path.read_bytes() == whole
    assert RaterPreprocessing.find("999").num_complete == 3


@pytest.mark.parametrize("ending", ["b2nd", "pkl", "json"])
@pytest.mark.parametrize("size", [0, 20])
def test_files_that_a_power_cut_damaged_are_made_again(dataset, ending, size):
    preprocess(dataset)
    name = "case_1.json" if ending == "json" else f"case_1_rater1.{ending}"
    path = dataset.raters / name
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    assert [folder_of(dataset).is_complete(case) for case in dataset.cases] == [True, False, True]
    if ending != "json":
        with pytest.raises(OSError, match=rf"{name} cannot be read.*case_1\.json"):
            folder_of(dataset).load("case_1", 1)
    preprocess(dataset)
    assert path.read_bytes() == whole


def test_all_problems_are_listed_at_once(dataset, write_volume):
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(dataset.mask_file("case_0", 0))))
    dataset.mask_file("case_0", 1).unlink()
    dataset.mask_file("case_0", 2).unlink()
    write_volume(dataset.mask_file("case_1", 0), mask[:-1], spacing=(1.0, 1.0, 1.0))
    write_volume(dataset.mask_file("case_1", 1), mask, spacing=(1.0, 1.0, 2.0))
    write_volume(dataset.mask_file("case_1", 2), mask, spacing=(1.0, 1.0, 1.0), origin=(-7.0, 3.0, 12.0))
    write_volume(dataset.mask_file("case_2", 0), mask + 5, spacing=(1.0, 1.0, 1.0))
    (dataset.images / "case_2.pkl").rename(dataset.images / "case_2.elsewhere")
    work = RaterPreprocessing.find("999")
    work.check()
    (dataset.images / "case_2.elsewhere").rename(dataset.images / "case_2.pkl")
    assert work.problems[0].startswith("case_0: files are missing: ")
    assert "case_0_rater1.nii.gz" in work.problems[0]
    assert "case_0_rater2.nii.gz" in work.problems[0]
    assert "case_2: not preprocessed" in work.problems[1]
    for found, said in zip(work.problems[2:], ("has size", "differ in spacing", "differ in origin"), strict=True):
        assert found.startswith("case_1: ")
        assert said in found
    with pytest.raises(ValueError, match="case_0: files are missing"):
        work.run()
    assert not dataset.raters.exists()
    work = RaterPreprocessing.find("999")
    work.check()
    assert "case_2_rater0.nii.gz holds 5, 6, 7; the labels of dataset.json are 0 to 2" in work.problems[-1]


def test_image_that_changed_since_nnunet_preprocessed_it(dataset, write_volume):
    for channel in range(2):
        image = np.ones((14, 26, 22), dtype=np.float32)
        file = dataset.raw / "imagesTr" / f"case_0_{channel:04d}.nii.gz"
        write_volume(file, image, spacing=(1.0, 1.0, 1.0))
    work = preprocess(dataset)
    assert "bbox_used_for_cropping" in work.failures["case_0"]
    assert "run nnUNetv2_preprocess again" in work.failures["case_0"]


def test_configurations_that_share_their_data_are_done_once(make_rater_dataset):
    dataset = make_rater_dataset(num_cases=1)
    plans = json.loads((dataset.preprocessed / "nnUNetPlans.json").read_text())
    cascade = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    lowres = plans["configurations"]["3d_fullres"] | {"data_identifier": "lowres"}
    plans["configurations"] |= {"3d_cascade_fullres": cascade, "3d_lowres": lowres}
    (dataset.preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    assert list(RaterPreprocessing.find("999").configurations) == ["3d_fullres"]
    assert list(RaterPreprocessing.find("999", configurations=["3d_cascade_fullres"]).configurations) == [
        "3d_cascade_fullres"
    ]
    with pytest.raises(ValueError, match="3d_lowres of nnUNetPlans is not preprocessed"):
        RaterPreprocessing.find("999", configurations=["3d_fullres", "3d_lowres"])
    with pytest.raises(ValueError, match="no configuration 4d, only 3d_fullres"):
        RaterPreprocessing.find("999", configurations=["4d"])


def test_descriptions_that_do_not_fit(dataset, monkeypatch):
    raw, copied = dataset.raw / "dataset.json", dataset.preprocessed / "dataset.json"

    def write(path, num_raters):
        path.write_text(json.dumps(dataset.dataset_json | {"num_raters": num_raters}))

    write(copied, 0)
    with pytest.raises(ValueError, match=r"num_raters 3, .* has none; copy the first over the second"):
        RaterPreprocessing.find("999")
    write(raw, 0)
    with pytest.raises(ValueError, match='has no "num_raters"'):
        RaterPreprocessing.find("999")
    write(raw, "four")
    with pytest.raises(ValueError, match="must be a whole number, got 'four'"):
        RaterPreprocessing.find("999")
    with pytest.raises(FileNotFoundError, match="OtherPlans"):
        RaterPreprocessing.find("999", plans_name="OtherPlans")
    with pytest.raises(ValueError, match="Could not find a dataset with the ID 77"):
        RaterPreprocessing.find("77")
    shutil.rmtree(dataset.raw / "imagesTr")
    write(raw, 3)
    write(copied, 3)
    with pytest.raises(FileNotFoundError, match="imagesTr"):
        RaterPreprocessing.find("999")
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(ValueError, match="nnUNet_raw is not set"):
        RaterPreprocessing.find("999")


def test_files_listed_in_dataset_json(dataset):
    (dataset.raw / "imagesTr").rename(dataset.raw / "elsewhere")
    listed = {
        case: {
            "images": [f"elsewhere/{case}_000{channel}.nii.gz" for channel in range(2)],
            "label": f"labelsTr/{case}.nii.gz",
        }
        for case in dataset.cases
    }
    for folder in (dataset.raw, dataset.preprocessed):
        (folder / "dataset.json").write_text(json.dumps(dataset.dataset_json | {"dataset": listed}))
    assert preprocess(dataset).failures == {}
    assert folder_of(dataset).is_complete("case_2")
