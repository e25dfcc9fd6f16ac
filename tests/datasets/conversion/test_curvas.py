"""CURVAS from small made-up folders: votes of three classes, parts from folders or drawn, what is skipped."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_stochastic.datasets.conversion.curvas import plan_curvas
from nnunet_stochastic.datasets.conversion.run import PlannedFolder
from nnunet_stochastic.patients import read_patients

RATERS = np.array(  # three raters, one slice of two rows
    [[[[1, 1, 0, 0, 3], [2, 2, 0, 0, 0]]], [[[1, 2, 2, 0, 3], [2, 0, 0, 1, 0]]], [[[1, 3, 3, 1, 2], [2, 2, 0, 2, 0]]]],
    np.uint8,
)
VOTE = [[[1, 1, 2, 0, 3], [2, 2, 0, 1, 0]]]


def write(path, voxels, spacing=(0.7, 0.7, 1.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def write_cases(folder, names, raters=RATERS):
    for name in names:
        write(folder / name / "image.nii.gz", np.arange(10, dtype=np.int16).reshape(1, 2, 5) - len(name))
        for n, rater in enumerate(raters, start=1):
            write(folder / name / f"annotation_{n}.nii.gz", rater)
    return folder


def test_votes_and_raters(tmp_path, raw, read, read_json):
    folder = write_cases(tmp_path / "training_set", [f"UKCHLL{n:03d}" for n in range(7)])
    result = PlannedFolder(plan_curvas(folder, 10)).run()
    assert result.counts == {"train": 4, "val": 1, "test": 2}
    dataset = raw / "Dataset010_CURVAS"
    description = read_json(dataset / "dataset.json")
    assert description["labels"] == {"background": 0, "pancreas": 1, "kidney": 2, "liver": 3}
    assert description["num_raters"] == 3
    names = [f"UKCHLL{n:03d}" for n in range(7)]
    assert read_patients(dataset / "patients.csv", names) == {name: name for name in names}
    for suffix in ("Tr", "Ts"):
        for label in (dataset / f"labels{suffix}").iterdir():
            name = label.name.removesuffix(".nii.gz")
            assert read(label).tolist() == VOTE
            raters = [read(dataset / f"raters{suffix}" / f"{name}_rater{r}.nii.gz") for r in range(3)]
            np.testing.assert_array_equal(raters, RATERS)
            image = dataset / f"images{suffix}" / f"{name}_0000.nii.gz"
            assert image.read_bytes() == (folder / name / "image.nii.gz").read_bytes()
            np.testing.assert_allclose(sitk.ReadImage(str(label)).GetSpacing(), (0.7, 0.7, 1.0))


def test_folders_decide_about_parts(tmp_path):
    folders = [
        write_cases(tmp_path / name, cases)
        for name, cases in (("training_set", "abcdef"), ("validation_set", "gh"), ("testing_set", "ij"))
    ]
    all_given = plan_curvas(folders[0], 10, validation=folders[1], test=folders[2])
    assert all_given.parts == dict.fromkeys("abcdef", "train") | dict.fromkeys("gh", "val") | dict.fromkeys(
        "ij", "test"
    )
    drawn = plan_curvas(folders[0], 10, test=folders[2]).parts
    assert sorted(drawn.values()) == ["test"] * 2 + ["train"] * 4 + ["val"] * 2
    assert {name for name, part in drawn.items() if part == "test"} == set("ij")
    with pytest.raises(ValueError, match="more than one of the folders: a, b, c"):
        plan_curvas(folders[0], 10, test=folders[0])


def test_what_is_skipped(tmp_path, raw):
    folder = write_cases(tmp_path / "training_set", "abcdefghi")
    others = {part: write_cases(tmp_path / part, name) for part, name in (("validation", "v"), ("test", "t"))}
    (folder / "a" / "annotation_2.nii.gz").unlink()
    write(folder / "b" / "annotation_4.nii.gz", RATERS[0])
    write(folder / "c" / "annotation_1.nii.gz", RATERS[0], spacing=(0.7, 0.7, 2.0))
    write(folder / "d" / "annotation_1.nii.gz", RATERS[0] + 3)
    for path in (folder / "e").glob("annotation_*"):
        path.unlink()
    reasons = {skip.name: skip.reason for skip in PlannedFolder(plan_curvas(folder, 10, **others)).run().skipped}
    assert "has annotation_1.nii.gz, annotation_3.nii.gz; most cases have annotation_1 to annotation_3" in reasons["a"]
    assert "annotation_4" in reasons["b"]
    assert "annotation_1.nii.gz has spacing" in reasons["c"]
    assert "labels other than 0 to 3: 4, 5, 6" in reasons["d"]
    assert "has no annotation" in reasons["e"]
    assert len(reasons) == 5


def test_reasons_are_told_where_nothing_is_left(tmp_path):
    folder = write_cases(tmp_path / "cases", [f"c{n:02d}" for n in range(25)])
    for path in folder.glob("*/annotation_1.nii.gz"):
        path.rename(path.with_name("annotation_01.nii.gz"))
    with pytest.raises(ValueError, match="cannot split 0") as error:
        plan_curvas(folder, 10)
    assert "c00: has annotation_01.nii.gz, annotation_2.nii.gz, annotation_3.nii.gz; most" in str(error.value)
    assert "c19" in str(error.value)
    assert str(error.value).endswith("\n  and 5 more")


def test_masks_with_nan_are_skipped(tmp_path, raw):
    folder = write_cases(tmp_path / "cases", "abcdefgh")
    strange = RATERS[0].astype(np.float32)
    strange[0, 0, 0] = np.nan  # which ITK reads as 0
    write(folder / "c" / "annotation_2.nii.gz", strange)
    (skip,) = PlannedFolder(plan_curvas(folder, 10)).run().skipped
    assert (skip.name, "1 voxels that are NaN" in skip.reason) == ("c", True)


def test_bad_folders(tmp_path):
    with pytest.raises(ValueError, match="has no case"):
        plan_curvas(tmp_path, 10)
    write_cases(tmp_path / "set", "abc", raters=())
    with pytest.raises(ValueError, match=r"no case in .* has a file annotation_1"):
        plan_curvas(tmp_path / "set", 10)
