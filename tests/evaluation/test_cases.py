"""Pairing of files and every finding that must stop an evaluation, through nnU-Net's reader of NIfTI files."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_stochastic.evaluation import (
    EvaluatedLabels,
    Workers,
    check_cases,
    find_cases,
    load_case,
    read_label_map,
)
from nnunet_stochastic.evaluation.cases import read_case_map, read_samples

LABELS = EvaluatedLabels.from_dataset_json({"labels": {"background": 0, "nodule": 1}})
SHAPE = (3, 4, 5)
SPACING = (0.7, 0.8, 2.5)
ORIGIN = (-10.0, 5.0, 30.0)


@pytest.fixture(scope="module")
def reader():
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    return SimpleITKIO()


def write(path, array, *, spacing=SPACING, origin=ORIGIN, direction=None):
    path.parent.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path))


@pytest.fixture
def folder(tmp_path):
    """Two good cases with two raters each: pred, gt and raters."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        probability = rng.random(SHAPE).astype(np.float32)
        write(tmp_path / "pred" / f"{name}.nii.gz", (probability > 0.5).astype(np.uint8))
        np.savez(tmp_path / "pred" / f"{name}.npz", probabilities=np.stack([1 - probability, probability]))
        write(tmp_path / "gt" / f"{name}.nii.gz", rng.integers(0, 2, SHAPE, dtype=np.uint8))
        for rater in range(2):
            write(tmp_path / "raters" / f"{name}_rater{rater}.nii.gz", rng.integers(0, 2, SHAPE, dtype=np.uint8))
    return tmp_path


def find(folder, **options):
    return find_cases(folder / "pred", folder / "gt", folder / "raters", file_ending=".nii.gz", **options)


def check(folder, reader, **options):
    cases, problems = find(folder, **options)
    check_cases(cases, LABELS, reader, problems=problems, workers=Workers(show_progress=False))
    return cases


def test_good_cases_are_paired_and_read(folder, reader):
    cases = check(folder, reader)
    assert [case.name for case in cases] == ["a", "b"]
    case = load_case(cases[1], LABELS, reader)
    with np.load(folder / "pred" / "b.npz") as archive:
        np.testing.assert_array_equal(case.probabilities, archive["probabilities"])
    np.testing.assert_array_equal(case.prediction, case.probabilities.argmax(axis=0))
    rater = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "raters" / "b_rater1.nii.gz")))
    np.testing.assert_array_equal(case.raters[1], rater)


def test_files_of_other_cases_and_hidden_files_do_not_matter(folder, reader):
    write(folder / "raters" / "c_rater0.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    (folder / "gt" / "._a.nii.gz").touch()
    assert len(check(folder, reader)) == 2


def test_cases_on_one_side_only(folder, reader):
    (folder / "gt" / "b.nii.gz").rename(folder / "gt" / "c.nii.gz")
    with pytest.raises(
        ValueError, match=r"(?s)b: predicted, but not in .*c: in .*gt, but not predicted \(--allow_missing_predictions"
    ):
        check(folder, reader)
    (folder / "pred" / "b.nii.gz").unlink()
    assert [case.name for case in check(folder, reader, allow_missing_predictions=True)] == ["a"]


def test_missing_probabilities_name_the_option(folder, reader):
    (folder / "pred" / "a.npz").unlink()
    with pytest.raises(ValueError, match=r"a: no probabilities .*a\.npz.*--save_probabilities"):
        check(folder, reader)


def test_missing_raters(folder, reader):
    (folder / "raters" / "a_rater1.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"a: rater files are missing: .*a_rater1\.nii\.gz"):
        check(folder, reader)
    with pytest.raises(ValueError, match=r"b: rater files are missing: .*b_rater2\.nii\.gz"):
        check(folder, reader, num_raters=3)


def test_folders_without_files(folder):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        find_cases(folder / "nowhere", folder / "gt", file_ending=".nii.gz")
    with pytest.raises(ValueError, match=r"no prediction \(\*\.nrrd\)"):
        find_cases(folder / "pred", folder / "gt", file_ending=".nrrd")
    with pytest.raises(ValueError, match="no rater file"):
        find_cases(folder / "pred", folder / "gt", folder / "gt", file_ending=".nii.gz")


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ({"spacing": (0.7, 0.8, 2.6)}, r"differ in spacing: \[2.5, 0.8, 0.7\] and \[2.6, 0.8, 0.7\]"),
        ({"origin": (-10.0, 5.5, 30.0)}, "differ in origin"),
        ({"direction": (1, 0, 0, 0, -1, 0, 0, 0, 1)}, "differ in direction"),
    ],
)
@pytest.mark.parametrize("file", ["gt/a.nii.gz", "raters/a_rater0.nii.gz"])
def test_other_geometry(folder, reader, geometry, message, file):
    write(folder / file, np.ones(SHAPE, dtype=np.uint8), **geometry)
    with pytest.raises(ValueError, match=f"a: .*{message}"):
        check(folder, reader)


def test_other_size_is_given_in_xyz(folder, reader):
    write(folder / "gt" / "a.nii.gz", np.ones((3, 5, 5), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"5 x 4 x 3, .* has 5 x 5 x 3"):
        check(folder, reader)


def test_rounding_of_the_file_format_is_no_difference(folder, reader):
    write(folder / "gt" / "a.nii.gz", np.ones(SHAPE, dtype=np.uint8), spacing=(0.700001, 0.8, 2.5))
    check(folder, reader)


@pytest.mark.parametrize("file", ["pred/a.nii.gz", "gt/a.nii.gz", "raters/a_rater0.nii.gz"])
@pytest.mark.parametrize(("value", "dtype"), [(7, np.uint8), (0.5, np.float32), (-1, np.int16)])
def test_labels_outside_the_dataset(folder, reader, file, value, dtype):
    label = np.zeros(SHAPE, dtype=dtype)
    label[0, 0, 0] = value
    write(folder / file, label)
    with pytest.raises(ValueError, match=rf"{file} holds {value:g}; the labels of dataset.json are 0 to 1"):
        check(folder, reader)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"probabilities": np.full((2, *SHAPE), np.nan)}, "NaN in 120 of its probabilities"),
        ({"probabilities": np.full((2, *SHAPE), 3.0)}, r"outside \[0, 1\]: 3 to 3"),
        ({"probabilities": np.full((3, *SHAPE), 0.5)}, r"shape \(3, 3, 4, 5\); .* = \(2, 3, 4, 5\)"),
        ({"softmax": np.full((2, *SHAPE), 0.5)}, "no array named probabilities"),
    ],
)
def test_unusable_probabilities(folder, reader, arrays, message):
    np.savez(folder / "pred" / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        check(folder, reader)


def test_damaged_probabilities(folder, reader):
    path = folder / "pred" / "a.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="is damaged"):
        check(folder, reader)


def test_all_findings_are_in_one_error(folder, reader):
    """First of the names, then of what is in the files, which takes long."""
    probabilities = (folder / "pred" / "a.npz").rename(folder / "kept.npz")
    for name in ("a", "b"):
        write(folder / "gt" / f"{name}.nii.gz", np.full(SHAPE, 5, dtype=np.uint8))
    write(folder / "gt" / "c.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    with pytest.raises(ValueError, match="nothing was computed") as error:
        check(folder, reader)
    assert [line.split(":")[0].strip() for line in str(error.value).splitlines()[1:]] == ["c", "a"]
    (folder / "gt" / "c.nii.gz").unlink()
    probabilities.rename(folder / "pred" / "a.npz")
    with pytest.raises(ValueError, match="nothing was computed") as error:
        check(folder, reader)
    assert [line.split(":")[0].strip() for line in str(error.value).splitlines()[1:]] == ["a", "b"]


MAP = np.linspace(0, 0.6, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


def write_maps(folder, names=("a", "b")):
    for name in names:
        for measure in ("aleatoric", "epistemic", "total"):
            write(folder / "pred" / measure / f"{name}.nii.gz", MAP)


def test_maps_and_samples_are_found(folder, reader):
    write_maps(folder)
    for name, index in (("a", 0), ("a", 1), ("b", 0), ("b", 1)):
        write(folder / "pred" / "samples" / f"{name}_{index:03d}.nii.gz", np.full(SHAPE, index, dtype=np.uint8))
    case = check(folder, reader)[1]
    assert list(case.maps) == ["AU", "EU", "TU"]
    read = load_case(case, LABELS, reader)
    np.testing.assert_array_equal(read_case_map(case, read, "EU", LABELS, reader), MAP)
    np.testing.assert_array_equal(read_samples(case, read, LABELS, reader), np.stack([0 * MAP, 0 * MAP + 1]))
    assert read.voxel_ml == pytest.approx(0.7 * 0.8 * 2.5 / 1000)


def test_a_map_that_only_some_cases_have(folder, reader):
    write_maps(folder)
    (folder / "pred" / "epistemic" / "b.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"b: no map in .*epistemic, .* predict these cases again"):
        check(folder, reader)


def test_different_numbers_of_samples(folder, reader):
    write(folder / "pred" / "samples" / "a_000.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    with pytest.raises(ValueError, match="samples: 0 of b; 1 of a; predict all cases with the same --save_samples"):
        check(folder, reader)


@pytest.mark.parametrize("file", ["total/a.nii.gz", "samples/a_000.nii.gz"])
def test_maps_and_samples_of_another_geometry(folder, reader, file):
    write_maps(folder)
    for name in ("a", "b"):
        write(folder / "pred" / "samples" / f"{name}_000.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    dtype = np.uint8 if "samples" in file else np.float32
    write(folder / "pred" / file, np.zeros(SHAPE, dtype=dtype), spacing=(0.7, 0.8, 2.6))
    with pytest.raises(ValueError, match=f"a: .*{file} differ in spacing"):
        check(folder, reader)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN or infinite"), (-0.1, "at least 0, got -0.1")])
def test_values_that_are_no_uncertainty(folder, reader, value, message):
    write_maps(folder)
    broken = MAP.copy()
    broken[0, 0, 0] = value
    write(folder / "pred" / "aleatoric" / "b.nii.gz", broken)
    with pytest.raises(ValueError, match=f"b: .*{message}"):
        check(folder, reader)


@pytest.mark.parametrize(
    ("array", "message"),
    [(np.zeros((2, *SHAPE)), "2 channels"), (np.full((1, *SHAPE), np.nan), "60 voxels that are NaN")],
)
def test_arrays_that_are_no_label_map(tmp_path, array, message):
    class Reader:  # not a file: SimpleITK reads NaN in NIfTI files as 0
        def read_seg(self, name):
            return array, {"spacing": (1, 1, 1)}

    (tmp_path / "x.png").touch()
    with pytest.raises(ValueError, match=message):
        read_label_map(tmp_path / "x.png", LABELS, Reader())


def test_many_cases_are_a_number_and_three_names_and_nothing_is_read(folder, reader, monkeypatch):
    """As of annotations of a part of the cases, which took a minute to be found before."""

    def read(*_, **__):
        raise AssertionError("a case was read")

    monkeypatch.setattr("nnunet_stochastic.evaluation.evaluate.check_case", read)
    for number in range(40):
        write(folder / "pred" / f"x{number:02d}.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    (folder / "raters" / "b_rater1.nii.gz").unlink()
    with pytest.raises(ValueError, match="nothing was computed") as caught:
        check(folder, reader)
    first, second = str(caught.value).splitlines()[1:]
    assert first == f"  40 cases (x00, x01, x02, …): predicted, but not in {folder / 'gt'}"
    assert second == f"  b: rater files are missing: {folder / 'raters' / 'b_rater1.nii.gz'}"
