"""One's own images and masks: votes of every rule, values, parts; what is wrong ends it before it writes."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_stochastic.datasets.conversion.rater_dataset import RaterFolders, plan_rater_dataset
from nnunet_stochastic.datasets.conversion.rater_vote import Vote, vote
from nnunet_stochastic.datasets.conversion.run import PlannedFolder

SPACING = (0.7, 0.8, 2.5)


def write(path, voxels, spacing=SPACING):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(voxels)
    if spacing is not None:
        image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def mask_of(case, rater, values=(0, 1)):
    """Another one for each case and rater, with all values in it."""
    numbers = np.random.default_rng([*map(ord, case), rater])
    mask = np.asarray(values)[numbers.integers(0, len(values), (2, 4, 5))].astype(np.uint8)
    mask[0, 0, : len(values)] = values
    return mask


def write_cases(folder, cases, *, raters=3, values=(0, 1), ending=".nii.gz"):
    for case in cases:
        write(folder / "images" / f"{case}_0000{ending}", np.full((2, 4, 5), ord(case[0]), np.int16))
        for rater in range(raters):
            write(folder / "raters" / f"{case}_rater{rater}{ending}", mask_of(case, rater, values))
    return RaterFolders(folder / "images", [folder / "raters"])


def plan(folders, **options):
    return plan_rater_dataset(folders, 7, **{"name": "Mine", "channel_names": ["CT"], **options})


@pytest.mark.parametrize(
    ("rule", "ties", "expected"),
    [
        ("majority", "lowest", [1, 1, 3, 0, 2, 0, 2]),
        ("majority", "highest", [2, 1, 3, 0, 3, 0, 2]),
        ("majority", "background", [0, 0, 0, 0, 2, 0, 2]),
        ("union", "lowest", [1, 1, 3, 2, 2, 0, 2]),
        ("union", "highest", [2, 1, 3, 2, 3, 0, 2]),
        ("intersection", "lowest", [0, 0, 0, 0, 2, 0, 2]),
        ("intersection", "highest", [0, 0, 0, 0, 3, 0, 2]),
        ("first", "lowest", [0, 0, 0, 2, 2, 0, 1]),
    ],
)
def test_rules(rule, ties, expected):
    raters = np.array(
        [[0, 0, 0, 2, 2, 0, 1], [1, 1, 3, 0, 3, 0, 2], [2, 1, 3, 0, 3, 0, 2], [0, 0, 0, 0, 2, 0, 2]], np.uint8
    )
    raters[:, 0] = 0, 1, 2, 0
    if (rule, ties) in (("majority", "lowest"), ("majority", "highest")):
        raters[:, 0] = 1, 1, 2, 2  # without background the labels decide
    votes = vote(raters.reshape(4, 1, 1, 7), 4, Vote(rule, ties))
    assert votes.dtype == np.uint8
    assert votes.ravel().tolist() == expected


def test_unknown_rules():
    for rule, ties in (("mean", "lowest"), ("majority", "random")):
        with pytest.raises(ValueError, match="must be one of"):
            Vote(rule, ties)


def test_dataset(tmp_path, raw, read, read_json):
    folders = write_cases(tmp_path, "abcdefghij")
    result = PlannedFolder(plan(folders, labels={"nodule": 1})).run()
    assert result.counts == {"train": 6, "val": 2, "test": 2}
    dataset = raw / "Dataset007_Mine"
    description = read_json(dataset / "dataset.json")
    assert description["labels"] == {"background": 0, "nodule": 1}
    assert description["channel_names"] == {"0": "CT"}
    assert (description["num_raters"], description["numTraining"]) == (3, 8)
    assert description["description"].startswith("labels: the class with most votes at a voxel; ties to the lowest")
    for suffix in ("Tr", "Ts"):
        for label in (dataset / f"labels{suffix}").iterdir():
            case = label.name.removesuffix(".nii.gz")
            raters = np.stack([mask_of(case, rater) for rater in range(3)])
            for rater, mask in enumerate(raters):
                np.testing.assert_array_equal(read(dataset / f"raters{suffix}" / f"{case}_rater{rater}.nii.gz"), mask)
            np.testing.assert_array_equal(read(label), raters.sum(0) >= 2)
            image = dataset / f"images{suffix}" / f"{case}_0000.nii.gz"
            assert image.read_bytes() == (folders.images / image.name).read_bytes()
            np.testing.assert_allclose(sitk.ReadImage(str(label)).GetSpacing(), SPACING)


def test_going_on_and_other_settings(tmp_path, raw):
    folders = write_cases(tmp_path, "abcdef")
    PlannedFolder(plan(folders)).run()
    label = next((raw / "Dataset007_Mine" / "labelsTr").iterdir())
    label.unlink()
    assert PlannedFolder(plan(folders)).missing == {label.name.removesuffix(".nii.gz")}
    with pytest.raises(ValueError, match="ties was lowest, is background"):
        PlannedFolder(plan(folders, how=Vote(ties="background")))


def test_values_become_labels_in_the_order_of_labels(tmp_path, raw, read):
    folders = write_cases(tmp_path, "abcdef", values=(0, 128, 255))
    PlannedFolder(plan(folders, labels={"cup": 255, "disc": 128})).run()
    new_label = {0: 0, 255: 1, 128: 2}
    for file in (raw / "Dataset007_Mine" / "ratersTr").iterdir():
        case, rater = file.name.removesuffix(".nii.gz").split("_rater")
        expected = np.vectorize(new_label.get)(mask_of(case, int(rater), (0, 128, 255)))
        np.testing.assert_array_equal(read(file), expected)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((0, 255), {"background": 0, "foreground": 1}),
        ((0, 1, 3), {"background": 0, "class_1": 1, "class_3": 2}),
    ],
)
def test_classes_that_are_not_named(tmp_path, values, labels):
    conversion = plan(write_cases(tmp_path, "abc", values=values))
    assert conversion.description["labels"] == labels
    assert f"({values[-1]} in the masks)" in conversion.notes[1]


def test_forms_of_masks_and_endings(tmp_path, raw, read):
    """Images as .nii and one file per case, raters in folders of their own, masks in another format."""
    for case in "abcd":
        write(tmp_path / "images" / f"{case}.nii", np.full((2, 4, 5), 7, np.int16))
        for rater, folder in enumerate(("Zoe", "Ann")):
            write(tmp_path / folder / f"{case}.mha", mask_of(case, rater))
    folders = RaterFolders(tmp_path / "images", [tmp_path / "Zoe", tmp_path / "Ann"])
    PlannedFolder(plan(folders, num_test=0, how=Vote("first"))).run()
    dataset = raw / "Dataset007_Mine"
    assert sorted(path.name for path in dataset.iterdir() if path.is_dir()) == ["imagesTr", "labelsTr", "ratersTr"]
    for case in "abcd":
        assert (read(dataset / "imagesTr" / f"{case}_0000.nii.gz") == 7).all()
        for rater in (0, 1):
            file = dataset / "ratersTr" / f"{case}_rater{rater}.nii.gz"
            np.testing.assert_array_equal(read(file), mask_of(case, rater))
        np.testing.assert_array_equal(read(dataset / "labelsTr" / f"{case}.nii.gz"), mask_of(case, 0))


def test_colours_are_channels(tmp_path, raw, read):
    for case in "abcd":
        colours = sitk.GetImageFromArray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3), isVector=True)
        (tmp_path / "images").mkdir(exist_ok=True)
        sitk.WriteImage(colours, str(tmp_path / "images" / f"{case}.png"))
        for rater in (0, 1):
            write(tmp_path / "raters" / f"{case}_{rater}.png", mask_of(case, rater, (0, 255))[0], None)
    folders = RaterFolders(tmp_path / "images", [tmp_path / "raters"])
    conversion = plan(folders, channel_names=["R", "G", "B"])
    assert conversion.configuration == "2d"
    PlannedFolder(conversion).run()
    assert PlannedFolder(plan(folders, channel_names=["R", "G", "B"])).missing == set()
    dataset = raw / "Dataset007_Mine"
    for file in (dataset / "ratersTr").iterdir():
        case, rater = file.stem.split("_rater")
        np.testing.assert_array_equal(read(file), mask_of(case, int(rater))[0])
    with pytest.raises(ValueError, match="a: has 3 colours, and --channel_names names 1"):
        plan(folders)


def test_patients_stay_together(tmp_path):
    cases = [f"{patient}{eye}" for patient in "abcdefghij" for eye in "lr"]
    table = tmp_path / "patients.csv"
    table.write_text("case,patient\n" + "".join(f"{case},{case[0]}\n" for case in cases))
    conversion = plan(write_cases(tmp_path, cases), groups=table)
    for case in cases:
        assert conversion.parts[case] == conversion.parts[case[0] + "l"]
        assert conversion.patients[case] == case[0]
    assert sorted(conversion.parts.values()) == ["test"] * 4 + ["train"] * 12 + ["val"] * 4
    test = {case for case, part in conversion.parts.items() if part == "test"}
    again = plan(RaterFolders(tmp_path / "images", [tmp_path / "raters"]), groups=table, seed=1)
    assert {case for case, part in again.parts.items() if part == "test"} != test
    assert list(plan(write_cases(tmp_path, cases), groups=table, num_test=1).parts.values()).count("test") == 2


@pytest.mark.parametrize(
    ("cases", "options", "message"),
    [
        ("a", {}, "1 patient to draw from, at least 3 are needed: one for training, one for validation, 1 for testing"),
        ("ab", {}, "2 patients to draw from, at least 3 are needed"),
        ("a", {"num_test": 0}, "at least 2 are needed: one for training, one for validation, none for testing"),
        ("abcd", {"num_test": 3}, "4 patients to draw from, at least 5 are needed: .*, 3 for testing"),
    ],
)
def test_too_few_cases_to_split(tmp_path, cases, options, message):
    with pytest.raises(ValueError, match=message):
        plan(write_cases(tmp_path, cases), **options)


def test_the_fewest_cases(tmp_path):
    assert sorted(plan(write_cases(tmp_path, "abc")).parts.values()) == ["test", "train", "val"]
    both = RaterFolders(tmp_path / "images", [tmp_path / "raters"])
    assert sorted(plan(both, num_test=0).parts.values()) == ["train", "train", "val"]


@pytest.mark.parametrize("folder", ["images", "raters"])
def test_names_with_line_breaks(tmp_path, folder):
    folders = write_cases(tmp_path, "abc")
    file = next((tmp_path / folder).iterdir())
    file.rename(file.with_name("x\ny" + file.name))
    with pytest.raises(ValueError, match=r"has names that are not UTF-8, or hold line breaks .*: rename 'x\\ny"):
        plan(folders)


def test_folders_of_test_images(tmp_path):
    training, test = write_cases(tmp_path / "Tr", "abcde"), write_cases(tmp_path / "Ts", "xyz")
    parts = plan(training, test=test).parts
    assert sorted(case for case, part in parts.items() if part == "test") == ["x", "y", "z"]
    assert sorted(parts.values()) == ["test"] * 3 + ["train"] * 4 + ["val"]
    with pytest.raises(ValueError, match="-num_test"):
        plan(training, test=test, num_test=2)
    with pytest.raises(ValueError, match="for training and for testing: a, b, c, d, e"):
        plan(training, test=training)
    with pytest.raises(ValueError, match=r"training cases have 3 raters .*, test cases 2 \(rater0, rater1\)"):
        plan(training, test=write_cases(tmp_path / "two", "xyz", raters=2))
    table = tmp_path / "patients.csv"
    table.write_text("case,patient\n" + "".join(f"{case},{case in 'ax'}\n" for case in "abcdexyz"))
    with pytest.raises(ValueError, match="patients are in the training and in the test images: False, True"):
        plan(training, test=test, groups=table)


def test_everything_that_is_wrong_is_told_before_anything_is_written(tmp_path, raw):
    folders = write_cases(tmp_path, "abcdefg")
    where = tmp_path / "raters"
    write(where / "a_rater1.nii.gz", mask_of("a", 1), (0.7, 0.8, 2.0))
    write(where / "b_rater0.nii.gz", np.zeros((2, 4, 6), np.uint8))
    write(where / "c_rater2.nii.gz", np.full((2, 4, 5), 0.5, np.float32))
    (where / "d_rater0.nii.gz").write_bytes((where / "d_rater0.nii.gz").read_bytes()[:40])
    write(tmp_path / "images" / "e_0000.nii.gz", np.full((2, 4, 5), np.nan, np.float32))
    write(where / "f_rater0.nii.gz", np.full((2, 4, 5), -1, np.int16))
    with pytest.raises(ValueError, match="nothing was written, because of these problems") as error:
        plan(folders)
    told = str(error.value)
    for text in (
        "a_rater1.nii.gz has spacing",
        "b_rater0.nii.gz has (6, 4, 2) voxels",
        "c_rater2.nii.gz holds 1 values, such as 0.5: no labels",
        "d_rater0.nii.gz",
        "e_0000.nii.gz",
        "f_rater0.nii.gz holds 1 values, such as -1: no labels",
    ):
        assert text in told
    assert not raw.exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"nodule": 2}, "a: masks hold 1, which --labels does not name"),
        ({"nodule": 1, "vessel": 2}, r"no mask holds vessel \(2\); .*which are 0, 1$"),
        ({"background": 1, "nodule": 0}, "background is 0"),
        ({"nodule": 1, "vessel": 1}, "a value of its own"),
        ({}, "must name 1 to 255 classes"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, labels, message):
    with pytest.raises(ValueError, match=message):
        plan(write_cases(tmp_path, "abc"), labels=labels)


def test_masks_of_one_value_need_names(tmp_path):
    for values in ((0,), (1,)):
        with pytest.raises(ValueError, match=r"the masks hold [01]: background is 0, and a class beside it is needed"):
            plan(write_cases(tmp_path, "abc", values=values))


def test_slices_that_are_stored_as_volumes_are_for_2d(tmp_path):
    for case in "abc":
        write(tmp_path / "images" / f"{case}.nii.gz", np.zeros((1, 4, 5), np.int16))
        for rater in range(2):
            write(tmp_path / "raters" / f"{case}_{rater}.nii.gz", mask_of(case, rater)[:1])
    assert plan(RaterFolders(tmp_path / "images", [tmp_path / "raters"])).configuration == "2d"


def test_images_of_other_dimensions(tmp_path):
    folders = write_cases(tmp_path, "abc")
    write(tmp_path / "images" / "b_0000.nii.gz", np.zeros((4, 5), np.int16), None)
    for rater in range(3):
        write(tmp_path / "raters" / f"b_rater{rater}.nii.gz", mask_of("b", rater)[0], None)
    with pytest.raises(ValueError, match="b: has 2 axes; all images must have 2, or all of them 3"):
        plan(folders)


def test_a_mask_that_changed_after_the_check_is_left_out(tmp_path, raw):
    folders = write_cases(tmp_path, "abcdef")
    conversion = plan(folders)
    write(tmp_path / "raters" / "a_rater0.nii.gz", mask_of("a", 0, (0, 1, 2)))
    (skipped,) = PlannedFolder(conversion).run().skipped
    assert (skipped.name, "masks hold 2" in skipped.reason) == ("a", True)


def test_raters_that_write_a_class_as_different_values(tmp_path, raw):
    folders = write_cases(tmp_path, "abcdef")
    for case in "abcdef":
        write(tmp_path / "raters" / f"{case}_rater1.nii.gz", mask_of(case, 1, values=(0, 255)))
    with pytest.raises(ValueError, match=r"use different values \(rater0: 1; rater1: 255; rater2: 1\): store a class"):
        plan(folders)
    assert plan(folders, labels={"a": 1, "b": 255}).description["labels"] == {"background": 0, "a": 1, "b": 2}


def test_values_that_no_label_has(tmp_path, raw):
    folders = write_cases(tmp_path, "abcdef")
    mask = mask_of("a", 0).astype(np.float64)
    mask[0, 0, 1] = 1e13
    write(tmp_path / "raters" / "a_rater0.nii.gz", mask)
    with pytest.raises(ValueError, match=r"a_rater0.nii.gz holds 3 values, such as 0, 1, 1e\+13: no labels"):
        plan(folders)
    assert not raw.exists()
