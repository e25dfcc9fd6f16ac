"""Writing: complete or absent, continued after an interruption, settings and parts do not mix, splits for nnU-Net."""

import os
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_stochastic.datasets.conversion.common import Conversion, ConvertedCase, Skipped, Source, label_image
from nnunet_stochastic.datasets.conversion.run import PlannedFolder
from nnunet_stochastic.io.output_locks import locked_output_folder

PARTS = {"a": "train", "b": "train", "c": "val", "d": "test", "e": "OOD_Bosch"}


def convert(source, unreadable=()):
    for case in source.cases:
        if case in unreadable:
            raise OSError(f"{case} is broken")
        raters = np.full((2, 1, 2, 3), ord(case) % 2, np.uint8)
        image = sitk.GetImageFromArray(np.full((1, 2, 3), ord(case), np.int16))
        yield ConvertedCase(case, (image,), label_image(raters[0]), [label_image(rater) for rater in raters])


def plan(**changes):
    conversion = Conversion(
        "Dataset012_Test",
        {"converter": "Test", "seed": 0},
        {"channel_names": {"0": "CT"}, "labels": {"background": 0, "x": 1}, "file_ending": ".nii.gz", "num_raters": 2},
        [Source("s", {"a": "train", "b": "train"}, None, "p"), *(Source(c, {c: PARTS[c]}, None, c) for c in "cde")],
        convert,
    )
    return replace(conversion, **changes)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def dataset(raw):
    return raw / "Dataset012_Test"


def test_a_dataset_that_is_replaced_keeps_the_lock_of_its_folder(dataset):
    PlannedFolder(plan()).run()
    (dataset / "labelsTr" / "more").mkdir()
    (dataset / "link").symlink_to(dataset.parent, target_is_directory=True)
    with locked_output_folder(dataset):
        PlannedFolder(plan(), overwrite=True).run()
        assert (dataset / ".output.lock").is_file()
    assert not (dataset / "labelsTr" / "more").exists()
    assert not (dataset / "link").is_symlink()


def test_layout(dataset, raw, read_json):
    result = PlannedFolder(plan(skipped=[Skipped("z", "absent")])).run()
    assert result.counts == {"train": 2, "val": 1, "test": 1, "OOD_Bosch": 1}
    assert result.skipped == [Skipped("z", "absent")]
    names = [
        f"{kind}{suffix}/{case}{end}.nii.gz"
        for suffix, cases in (("Tr", "abc"), ("Ts", "d"), ("OOD_Bosch", "e"))
        for case in cases
        for kind, end in (("images", "_0000"), ("labels", ""), ("raters", "_rater0"), ("raters", "_rater1"))
    ]
    others = ["conversion.json", "dataset.json", "patients.csv", "splits_final.json"]
    assert sorted(contents(dataset)) == sorted([*names, *others])
    assert (dataset / "patients.csv").read_bytes() == b"case,patient\na,p\nb,p\nc,c\nd,d\ne,e\n"
    description = read_json(dataset / "dataset.json")
    assert description["numTraining"] == 3
    assert description["labels"] == {"background": 0, "x": 1}
    splits = [{"train": ["a", "b"], "val": ["c"]}]
    assert read_json(dataset / "splits_final.json") == splits
    assert read_json(result.splits) == splits
    assert result.splits == raw.with_name("nnUNet_preprocessed") / "Dataset012_Test" / "splits_final.json"


def test_goes_on_after_an_interruption(dataset, monkeypatch):
    PlannedFolder(plan()).run()
    complete = contents(dataset)
    calls = []

    def interrupt(source, target):
        calls.append(target)
        if len(calls) == 7:  # conversion.json, a's four files, one of b's
            raise KeyboardInterrupt
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("nnunet_stochastic.io.staging.os.replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            PlannedFolder(plan(), overwrite=True).run()
    assert not (dataset / "labelsTr" / "b.nii.gz").exists()
    assert not (dataset / "dataset.json").exists()
    (dataset / ".b.unfinished-1").mkdir()  # what a process that ends without warning leaves

    planned = PlannedFolder(plan())
    assert planned.missing == set("bcde")
    seen = []
    before = (dataset / "labelsTr" / "a.nii.gz").stat().st_mtime_ns
    planned.conversion = plan(convert=lambda source: (seen.extend(source.cases), convert(source))[1])
    planned.run()
    assert seen == ["b", "c", "d", "e"]
    assert (dataset / "labelsTr" / "a.nii.gz").stat().st_mtime_ns == before
    assert contents(dataset) == complete


def test_patients_of_an_older_dataset_are_added_and_nothing_else_changes(dataset):
    PlannedFolder(plan()).run()
    complete = contents(dataset)
    (dataset / "patients.csv").unlink()
    for overwrite in (False, True):
        PlannedFolder(plan(), overwrite=overwrite).run()
        assert contents(dataset) == complete
    assert PlannedFolder(plan(convert=partial(convert, unreadable="d")), overwrite=True).run().counts["OOD_Bosch"] == 1
    assert (dataset / "patients.csv").read_text() == "case,patient\na,p\nb,p\nc,c\ne,e\n"  # what is there


def damage(path, kind):
    content = path.read_bytes()
    hole = content[:-8] + bytes(4) + content[-4:]  # the checksum of gzip; length and end are right
    path.write_bytes({"empty": b"", "cut": content[:20], "zeros": bytes(len(content)), "hole": hole}[kind])


@pytest.mark.parametrize("kind", ["empty", "cut", "zeros", "hole"])
@pytest.mark.parametrize("file", ["labelsTr/a.nii.gz", "imagesTr/b_0000.nii.gz", "ratersTs/d_rater1.nii.gz"])
def test_files_that_a_power_cut_damaged_are_made_again(dataset, file, kind):
    PlannedFolder(plan()).run()
    complete = contents(dataset)
    damage(dataset / file, kind)
    planned = PlannedFolder(plan())
    assert len(planned.missing) == 1
    planned.run()
    assert contents(dataset) == complete


def test_a_conversion_that_was_interrupted_as_it_began_is_begun_again(dataset):
    (dataset / ".conversion.json.unfinished-4194304").mkdir(parents=True)
    assert PlannedFolder(plan()).run().counts["train"] > 0
    assert not list(dataset.glob(".*"))


def test_a_damaged_case_that_cannot_be_made_again_does_not_count(dataset):
    PlannedFolder(plan()).run()
    damage(dataset / "labelsOOD_Bosch" / "e.nii.gz", "cut")
    result = PlannedFolder(plan(convert=partial(convert, unreadable="e"))).run()
    assert "OOD_Bosch" not in result.counts
    assert not (dataset / "labelsOOD_Bosch" / "e.nii.gz").exists()


@pytest.mark.parametrize("kind", ["empty", "cut", "zeros"])
def test_settings_that_a_power_cut_damaged(dataset, kind):
    PlannedFolder(plan()).run()
    complete = contents(dataset)
    damage(dataset / "conversion.json", kind)
    with pytest.raises(ValueError, match=r"conversion.json: .*--overwrite"):
        PlannedFolder(plan())
    PlannedFolder(plan(), overwrite=True).run()
    assert contents(dataset) == complete


def test_settings_of_another_kind(dataset):
    PlannedFolder(plan()).run()
    for text in ("{}", '{"settings": [], "parts": {}}', '{"settings": {}}'):
        (dataset / "conversion.json").write_text(text)
        with pytest.raises(ValueError, match=r"conversion.json: (settings|parts): .*--overwrite"):
            PlannedFolder(plan())


@pytest.mark.parametrize("kind", ["empty", "cut", "zeros"])
def test_splits_that_a_power_cut_damaged_are_written_again(dataset, kind):
    splits = PlannedFolder(plan()).run().splits
    whole = splits.read_bytes()
    for file in (dataset / "splits_final.json", splits):
        damage(file, kind)
        assert not PlannedFolder(plan()).run().splits_kept
        assert splits.read_bytes() == (dataset / "splits_final.json").read_bytes() == whole


def test_what_cannot_be_written_stops_everything(dataset, monkeypatch):
    def full(*_):
        raise RuntimeError("Exception thrown in SimpleITK:\nno space left")

    monkeypatch.setattr("nnunet_stochastic.datasets.conversion.common.sitk.WriteImage", full)
    with pytest.raises(OSError, match=r"a_0000.nii.gz cannot be written: no space left"):
        PlannedFolder(plan()).run()
    assert sorted(contents(dataset)) == ["conversion.json"]


def test_what_cannot_be_read_is_skipped_and_tried_again(dataset, read_json):
    result = PlannedFolder(plan(convert=partial(convert, unreadable="b"))).run()
    assert result.skipped == [Skipped("s", "b is broken")]
    assert result.counts["train"] == 1
    assert read_json(dataset / "dataset.json")["numTraining"] == 2
    assert read_json(dataset / "splits_final.json") == [{"train": ["a"], "val": ["c"]}]
    assert PlannedFolder(plan()).run().counts["train"] == 2
    assert read_json(dataset / "splits_final.json") == [{"train": ["a", "b"], "val": ["c"]}]


def test_nothing_to_train_or_validate_on(dataset):
    with pytest.raises(ValueError, match=r"no case for val; was skipped:\n  c: c is broken"):
        PlannedFolder(plan(convert=partial(convert, unreadable="c"))).run()
    assert not (dataset / "dataset.json").exists()


def test_nothing_planned(dataset):
    with pytest.raises(ValueError, match="no case for train and val; was skipped:\n  z: absent"):
        PlannedFolder(plan(sources=[], skipped=[Skipped("z", "absent")])).run()
    assert not dataset.exists()


def test_other_settings_are_not_continued(dataset):
    PlannedFolder(plan()).run()
    other = plan(settings={"converter": "Test", "seed": 1})
    with pytest.raises(ValueError, match="seed was 0, is 1"):
        PlannedFolder(other)
    (dataset / "imagesTr" / "old.nii.gz").touch()
    PlannedFolder(other, overwrite=True).run()
    assert not (dataset / "imagesTr" / "old.nii.gz").exists()


@pytest.mark.parametrize("cases", [{"a": "train", "b": "test"}, {"a": "train"}])
def test_cases_do_not_change_their_part(dataset, cases):
    PlannedFolder(plan()).run()
    sources = [Source("s", cases, None, "p"), *plan().sources[1:]]
    with pytest.raises(ValueError, match="1 of its cases, b among them"):
        PlannedFolder(plan(sources=sources))


def test_more_cases_may_come(dataset):
    PlannedFolder(plan()).run()
    planned = PlannedFolder(plan(sources=[*plan().sources, Source("f", {"f": "train"}, None, "f")]))
    assert planned.missing == {"f"}
    assert planned.run().counts["train"] == 3


def test_foreign_folders_are_left_alone(dataset):
    dataset.mkdir(parents=True)
    (dataset / "dataset.json").write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="not written by this command"):
            PlannedFolder(plan(), overwrite=overwrite)
    dataset.rename(dataset.with_name("Dataset012_Other"))
    with pytest.raises(ValueError, match="another dataset of this number, Dataset012_Other"):
        PlannedFolder(plan())


def test_splits_of_others_are_kept(dataset, raw, monkeypatch, read_json):
    file = PlannedFolder(plan()).run().splits
    file.write_text("[]")
    result = PlannedFolder(plan()).run()
    assert result.splits_kept
    assert file.read_text() == "[]"
    monkeypatch.delenv("nnUNet_preprocessed")
    assert PlannedFolder(plan()).run().splits is None
    assert read_json(dataset / "splits_final.json") == [{"train": ["a", "b"], "val": ["c"]}]
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(ValueError, match="nnUNet_raw is not set"):
        PlannedFolder(plan())


def test_cases_of_changed_files_are_converted_again(dataset, tmp_path):
    files = {case: tmp_path / f"{case}.txt" for case in PARTS}
    for case, file in files.items():
        file.write_text(case)
    PlannedFolder(plan(sources=[Source(c, {c: PARTS[c]}, None, c, (files[c],)) for c in PARTS])).run()
    same = plan(sources=[Source(c, {c: PARTS[c]}, None, c, (files[c],)) for c in PARTS])
    assert not PlannedFolder(same).missing
    files["b"].write_text("corrected")
    again = PlannedFolder(same)
    assert again.missing == {"b"}
    before = contents(dataset)
    again._make_folders()  # interrupted behind the record
    assert contents(dataset).keys() == before.keys() - {"labelsTr/b.nii.gz", "dataset.json"}
    again = PlannedFolder(same)
    assert again.missing == {"b"}
    again.run()
    assert contents(dataset).keys() == before.keys()
    assert not PlannedFolder(same).missing
