"""Which files are images and which masks of raters: the forms people have, and what is wrong with others."""

import pytest

from nnunet_stochastic.datasets.conversion.rater_files import _in_order, find_images, find_masks


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names_of(found):
    return {case: [file.name for file in files] for case, files in found.items()}


@pytest.mark.parametrize(
    ("files", "num_channels", "expected"),
    [
        (["a_0000.nii.gz", "b_0000.nii.gz"], 1, {"a": ["a_0000.nii.gz"], "b": ["b_0000.nii.gz"]}),
        (["a_0001.nrrd", "a_0000.nrrd"], 2, {"a": ["a_0000.nrrd", "a_0001.nrrd"]}),
        (["a.mha", "b_1.mha", "readme.txt", "._a.mha"], 1, {"a": ["a.mha"], "b_1": ["b_1.mha"]}),
        (["scan_0001.nii", "scan_0002.nii"], 1, {"scan_0001": ["scan_0001.nii"], "scan_0002": ["scan_0002.nii"]}),
        (["a_0000.png", "b_0000.png"], 3, {"a": ["a_0000.png"], "b": ["b_0000.png"]}),  # colours
        (["A.PNG"], 3, {"A": ["A.PNG"]}),
    ],
)
def test_images(tmp_path, files, num_channels, expected):
    assert names_of(find_images(touch(tmp_path, *files), num_channels)) == expected


@pytest.mark.parametrize(
    ("files", "num_channels", "message"),
    [
        ([], 1, "has no image; it must hold files that end on .nii.gz"),
        (["a.tif"], 1, "has no image"),
        (["a_0000.nii.gz", "b_0000.nrrd"], 1, "end on .nii.gz and on .nrrd"),
        (["a_0000.nii.gz", "a_0001.nii.gz"], 1, "channels _0000 to _0000 of each case.*\n  a has _0000, _0001"),
        (["a_0000.mha", "a_0001.mha", "b_0000.mha"], 2, "channels _0000 to _0001.*\n  b has _0000$"),
        (["a.nii.gz"], 2, "such as a.nii.gz: with 2 --channel_names the files of a case are CASE_0000.nii.gz"),
    ],
)
def test_images_that_are_refused(tmp_path, files, num_channels, message):
    with pytest.raises(ValueError, match=message):
        find_images(touch(tmp_path, *files), num_channels)


@pytest.mark.parametrize(
    ("files", "raters", "of_a"),
    [
        (
            [f"{case}_rater{rater}.nii.gz" for case in ("a", "a_1") for rater in (10, 0, 2)],
            ["rater0", "rater2", "rater10"],
            ["a_rater0.nii.gz", "a_rater2.nii.gz", "a_rater10.nii.gz"],
        ),
        (["a_1_A.mha", "a_1_B.mha", "a_A.mha", "a_B.mha"], ["A", "B"], ["a_A.mha", "a_B.mha"]),
        (["a_0.png", "a_2.png", "a_1_0.png", "a_1_2.png"], ["0", "2"], ["a_0.png", "a_2.png"]),
        (["r2/a.nii", "r2/a_1.nii", "r10/a.nii", "r10/a_1.nii", ".trash/a.nii"], ["r2", "r10"], ["a.nii", "a.nii"]),
    ],
)
def test_masks(tmp_path, files, raters, of_a):
    found, masks = find_masks([touch(tmp_path, *files)], ["a", "a_1"])
    assert found == raters
    assert names_of(masks)["a"] == of_a
    assert all(file.name.startswith("a_1") for file in masks["a_1"])


def test_a_folder_per_rater_keeps_the_order_in_which_they_are_named(tmp_path):
    folders = [touch(tmp_path / name, "a.nii.gz") for name in ("second", "first")]
    found, masks = find_masks(folders, ["a"])
    assert found == ["second", "first"]
    assert masks["a"] == tuple(folder / "a.nii.gz" for folder in folders)
    folders = [touch(tmp_path / name / "masks", "a.nii.gz") for name in ("x", "y")]
    assert find_masks(folders, ["a"])[0] == [str(folder) for folder in folders]


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        (["a_0.png", "a_1.png", "b_1.png"], ["b has no mask of 0"]),
        (["A/a.png", "A/b.png", "B/b.png", "B/c.png"], ["B/c.png belongs to no image", "a has no mask of B"]),
        (["a_0.png", "a_1.png", "b_0.png", "b_1.png", "c_0.png"], ["c_0.png belongs to no image"]),
        (["a_0.png", "a_0.mha", "a_1.png", "b_0.png", "b_1.png"], ["a_0.png are both of rater 0 and case a"]),
        (["a.png", "b.png"], ["a.png does not say its rater: name it a_RATER", "b.png does not say"]),
    ],
)
def test_masks_that_are_refused(tmp_path, files, lines):
    with pytest.raises(ValueError, match="must hold a mask of every rater") as error:
        find_masks([touch(tmp_path, *files)], ["a", "b"])
    told = str(error.value).splitlines()[1:]
    for line in lines:
        assert any(line in text for text in told), told
    assert len(told) >= len(lines)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a_0.png"], "has masks of one rater: name them CASE_rater0"),
        ([], "has no mask: name them"),
        (["a_0.png", "A/a.png"], "has both masks and sub-folders"),
    ],
)
def test_folders_without_raters(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        find_masks([touch(tmp_path, *files)], ["a"])


def test_no_folder(tmp_path):
    for find in (find_images, find_masks):
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            find(*((tmp_path / "x", 1) if find is find_images else ([tmp_path / "x"], ["a"])))


def test_of_many_problems_the_first_are_told(tmp_path):
    touch(tmp_path, "c0_0.png", *(f"c{n}_1.png" for n in range(31)))
    with pytest.raises(ValueError, match=r"c20 has no mask of 0\n  and 10 more$"):
        find_masks([tmp_path], [f"c{n}" for n in range(31)])


def test_a_digit_that_is_no_decimal_number_is_a_name():
    assert sorted(["rater10", "rater2", "²"], key=_in_order) == ["rater2", "rater10", "²"]
