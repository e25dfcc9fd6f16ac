"""What the four commands share: dry run, going on, refusing, and what they print."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_stochastic.commands import convert_Chaksu, convert_CURVAS, convert_LIDC, convert_TotalSegmentator


@pytest.fixture
def source(tmp_path, monkeypatch):
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for case in "abcdef":
        folder = tmp_path / "CURVAS" / case
        folder.mkdir(parents=True)
        voxels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2) // 2
        sitk.WriteImage(sitk.GetImageFromArray(voxels.astype(np.int16) - 1000), str(folder / "image.nii.gz"))
        for rater in (1, 2):
            sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / f"annotation_{rater}.nii.gz"))
    (tmp_path / "CURVAS" / "f" / "annotation_2.nii.gz").unlink()
    return tmp_path / "CURVAS"


def convert(source, *more):
    return convert_CURVAS.main(["-i", str(source), "-d", "11", "-np", "1", "--disable_progress_bar", *more])


def test_dry_run_lists_everything_and_writes_nothing(source, capsys):
    assert convert(source, "--dry_run") == 0
    output = capsys.readouterr().out
    assert sorted(path.name for path in source.parent.iterdir()) == ["CURVAS"]
    lines = [line.strip() for line in output.splitlines()]
    assert all(case in lines for case in "abcdef")
    assert "4 cases would be written to imagesTr:" in lines
    assert "1 case would be written to imagesTs:" in lines
    assert "has annotation_1.nii.gz; most cases have annotation_1 to annotation_2 (1):" in lines
    assert "complete are 0 cases; nothing was written" in lines


def test_converts_then_has_nothing_to_do_then_refuses(source, capsys):
    assert convert(source) == 0
    dataset = source.parent / "nnUNet_raw" / "Dataset011_CURVAS"
    output = capsys.readouterr().out
    assert "complete: 4 in imagesTr, 1 in imagesTs" in output
    assert str(source.parent / "nnUNet_preprocessed" / "Dataset011_CURVAS" / "splits_final.json") in output
    assert "\ntotal time: 0 min " in output
    assert output.splitlines()[-2:] == [
        "  nnUNetv2_plan_and_preprocess -d 11 -pl nnUNetPlannerResEncM -c 3d_fullres --verify_dataset_integrity",
        "  nnunet_stochastic_preprocess_raters -d 11 -p nnUNetResEncUNetMPlans -c 3d_fullres",
    ]
    times = {path: path.stat().st_mtime_ns for path in dataset.glob("*Tr/*")}
    assert convert(source, "--dry_run") == 0
    assert "complete are 5 cases; nothing was written" in capsys.readouterr().out
    assert convert(source) == 0
    assert {path: path.stat().st_mtime_ns for path in dataset.glob("*Tr/*")} == times

    assert convert(source, "--seed", "1") == 1
    error = capsys.readouterr().err
    assert "seed was 0, is 1" in error
    assert "--overwrite" in error
    assert convert(source, "--seed", "1", "--overwrite") == 0


def test_says_where_the_splits_belong(source, capsys, monkeypatch):
    monkeypatch.delenv("nnUNet_preprocessed")
    assert convert(source) == 0
    assert "nnUNet_preprocessed is not set: before training copy" in capsys.readouterr().out
    monkeypatch.setenv("nnUNet_preprocessed", str(source.parent / "preprocessed"))
    file = source.parent / "preprocessed" / "Dataset011_CURVAS" / "splits_final.json"
    file.parent.mkdir(parents=True)
    file.write_text("[]")
    assert convert(source) == 0
    assert f"{file} holds other splits and was kept" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"), [(("-np", "0"), "-np must be at least 1"), (("--seed", "-1"), "--seed must not be negative")]
)
def test_bad_numbers(source, capsys, more, message):
    assert convert(source, *more) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [convert_Chaksu, convert_CURVAS, convert_LIDC, convert_TotalSegmentator])
def test_help(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        command.main(["--help"])
    output = capsys.readouterr().out
    assert f"nnunet_stochastic_{command.__name__.rpartition('.')[2]}" in output
    for option in ("-i FOLDER", "-d NNN", "--seed", "-np N", "--dry_run", "--overwrite"):
        assert option in output
