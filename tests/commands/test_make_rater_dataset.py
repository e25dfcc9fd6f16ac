"""The command from images and masks to a dataset: what it prints, going on, and what it refuses."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_stochastic.commands import make_rater_dataset


@pytest.fixture
def source(tmp_path, monkeypatch):
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(name, str(tmp_path / name))
    voxels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2) // 4
    for folder in ("imagesTr", "ratersTr"):
        (tmp_path / folder).mkdir()
    for case in "abcde":
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / "imagesTr" / f"{case}_0000.nii.gz"))
        for rater in (0, 1):
            image = sitk.GetImageFromArray(voxels * (1 - rater))  # a tie wherever the first one saw something
            sitk.WriteImage(image, str(tmp_path / "ratersTr" / f"{case}_rater{rater}.nii.gz"))
    return tmp_path


def make(source, *more):
    return make_rater_dataset.main(
        [
            *("-i", str(source / "imagesTr"), "-gt_raters", str(source / "ratersTr"), "-d", "7", "--name", "Mine"),
            *("--channel_names", "MR", "-np", "1", "--disable_progress_bar", *more),
        ]
    )


def labels_of(source):
    files = (source / "nnUNet_raw" / "Dataset007_Mine" / "labelsTr").iterdir()
    return [sitk.GetArrayFromImage(sitk.ReadImage(str(file))).sum() for file in files]


def test_makes_the_dataset_and_says_what_comes_next(source, capsys):
    assert make(source, "--dry_run") == 0
    assert "5 cases with 2 raters each (rater0, rater1): 3 train, 1 val, 1 test" in capsys.readouterr().out
    assert not (source / "nnUNet_raw").exists()
    assert make(source) == 0
    output = capsys.readouterr().out
    assert "label: the class with most votes at a voxel; ties to the lowest foreground label" in output
    assert "complete: 4 in imagesTr, 1 in imagesTs" in output
    assert output.splitlines()[-2:] == [
        "  nnUNetv2_plan_and_preprocess -d 7 -c 3d_fullres --verify_dataset_integrity",
        "  nnunet_stochastic_preprocess_raters -d 7 -p nnUNetPlans -c 3d_fullres",
    ]
    assert labels_of(source) == [4] * 4


def test_ties_to_background(source, capsys):
    assert make(source, "--ties", "background") == 0
    assert labels_of(source) == [0] * 4
    assert make(source) == 1
    assert "ties was background, is lowest" in capsys.readouterr().err
    assert make(source, "--overwrite") == 0
    assert labels_of(source) == [4] * 4


def test_all_problems_at_once_before_anything_is_written(source, capsys):
    for name in ("b_rater0", "d_rater1"):
        (source / "ratersTr" / f"{name}.nii.gz").unlink()
    assert make(source) == 1
    error = capsys.readouterr().err
    assert "  b has no mask of rater0\n  d has no mask of rater1" in error
    assert not (source / "nnUNet_raw").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--labels", "nodule"), "--labels takes NAME=VALUE, such as nodule=1; got 'nodule'"),
        (("--labels", "x=1", "x=2"), "--labels names x twice"),
        (("--labels", "ignore=2"), "--labels cannot have ignore"),
        (("--labels", "nodule=-1"), "got 'nodule=-1'"),
        (("--name", "my data"), "--name must be of letters"),
        (("-i_test", "x"), "-i_test and -gt_raters_test belong together"),
        (("--seed", "-1"), "--seed must not be negative"),
    ],
)
def test_options_that_are_refused(source, capsys, more, message):
    assert make(source, *more) == 1
    assert message in capsys.readouterr().err
