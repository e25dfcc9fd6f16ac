import pytest

from nnunet_stochastic.inference.cases import InputCase, OutputFolder, cases_from_files, find_input_cases


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_cases_have_their_channels_in_order(tmp_path):
    folder = touch(
        tmp_path / "images", "b_0001.nii.gz", "b_0000.nii.gz", "a_1_0000.nii.gz", "a_1_0001.nii.gz", "notes.txt"
    )
    assert find_input_cases(folder, file_ending=".nii.gz", num_channels=2) == [
        InputCase("a_1", (folder / "a_1_0000.nii.gz", folder / "a_1_0001.nii.gz")),
        InputCase("b", (folder / "b_0000.nii.gz", folder / "b_0001.nii.gz")),
    ]


def test_one_file_may_hold_all_channels(tmp_path):
    folder = touch(tmp_path / "images", "a_0000.png")
    assert find_input_cases(folder, file_ending=".png", num_channels=3) == [InputCase("a", (folder / "a_0000.png",))]


def test_missing_and_superfluous_channels(tmp_path):
    folder = touch(tmp_path / "images", "a_0000.nii.gz", "a_0001.nii.gz", "b_0001.nii.gz")
    with pytest.raises(ValueError, match="b has channels 0001"):
        find_input_cases(folder, file_ending=".nii.gz", num_channels=2)
    with pytest.raises(ValueError, match=r"images of 1 channel are needed.*a has channels 0000 0001"):
        find_input_cases(folder, file_ending=".nii.gz", num_channels=1)


def test_folder_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no input folder"):
        find_input_cases(tmp_path / "nowhere", file_ending=".nii.gz", num_channels=1)
    folder = touch(tmp_path / "images", "a.nii.gz", "a_0000.png")
    with pytest.raises(FileNotFoundError, match=r"they must be named CASE_0000.nii.gz"):
        find_input_cases(folder, file_ending=".nii.gz", num_channels=1)


def test_previous_stage(tmp_path):
    folder = touch(tmp_path / "images", "a_0000.nii.gz", "b_0000.nii.gz")
    stage = touch(tmp_path / "stage", "a.nii.gz")
    with pytest.raises(FileNotFoundError, match=r"missing input files: .*b.nii.gz"):
        find_input_cases(folder, file_ending=".nii.gz", num_channels=1, previous_stage_folder=stage)
    touch(stage, "b.nii.gz")
    cases = find_input_cases(folder, file_ending=".nii.gz", num_channels=1, previous_stage_folder=stage)
    assert [case.previous_stage for case in cases] == [stage / "a.nii.gz", stage / "b.nii.gz"]


def test_cases_of_one_name(tmp_path):
    touch(tmp_path / "1", "a_0000.nii.gz")
    touch(tmp_path / "2", "a_0000.nii.gz")
    with pytest.raises(ValueError, match="several cases are named a"):
        cases_from_files([[tmp_path / "1/a_0000.nii.gz"], [tmp_path / "2/a_0000.nii.gz"]], file_ending=".nii.gz")


def test_a_case_is_complete_with_all_its_files(tmp_path):
    output = OutputFolder(tmp_path / "out", ".nii.gz", ".nii.gz", ("total", "variance"), probabilities=True)
    output.create()
    touch(output.folder, "a.nii.gz", "a.npz", "a.pkl")
    touch(output.folder / "total", "a.nii.gz")
    assert not output.is_complete("a")
    touch(output.folder / "variance", "a.nii.gz")
    assert output.is_complete("a")


def test_output_that_cannot_be_a_folder(tmp_path):
    touch(tmp_path, "file")
    with pytest.raises(OSError, match="cannot be written"):
        OutputFolder(tmp_path / "file" / "out", ".nii.gz", ".nii.gz", ("total",), probabilities=False).create()
